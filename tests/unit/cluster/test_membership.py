"""Who is in the cluster: a snapshot that readers take for nothing, whatever the store does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from catga_sync.cluster.events import EventBoard
from catga_sync.cluster.membership import Membership
from catga_sync.nodes import ClusterNode, NodeStatus
from tests.processes import until
from tests.unit.cluster.fakes import FakeClock, FakeStore, ids, node, record

ME = ClusterNode("me", "http://me:1", handles={"T"})
KEEP = 30.0


class World:
    """A membership of node ``me`` over a store that does as it is told."""

    def __init__(
        self,
        *records: Any,
        describe: Callable[[ClusterNode], Mapping[str, Any] | None] | None = None,
        gone: Callable[[str], bool | None] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(*records)
        self.events = EventBoard()
        self.asked: list[str] = []
        self.gone: set[str] = set()
        self.said: dict[str, Mapping[str, Any]] = {}
        self.membership = Membership(
            self.store,
            ME,
            self.events,
            self,
            suspect_after=15.0,
            keep_missing=KEEP,
            clock=self.clock,
        )
        self._describe = describe
        self._is_gone = gone

    def is_gone(self, node: ClusterNode) -> bool | None:
        return node.node_id in self.gone if self._is_gone is None else self._is_gone(node.node_id)

    def is_alive(self, node: ClusterNode) -> bool:
        raise AssertionError("nothing is avoided here")

    def describe(self, node: ClusterNode) -> Mapping[str, Any] | None:
        if self._describe is not None:
            return self._describe(node)
        self.asked.append(node.node_id)
        return self.said.get(node.node_id)

    def refresh(self, *records: Any, ask: bool = True) -> None:
        self.store.records = list(records)
        self.membership.refresh(ask=ask)

    def look(self) -> None:
        """Do what the background thread does, with what the store has."""
        self.membership.refresh(ask=True)

    @property
    def nodes(self) -> tuple[ClusterNode, ...]:
        return self.membership.snapshot.nodes

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.kind.name, event.node.node_id) for event in self.events.past()]

    def candidates(self, here: bool = False, name: str = "T", contract: str = "") -> tuple[ClusterNode, ...]:
        return self.membership.snapshot.candidates(name, contract, here)


# -- the snapshot ------------------------------------------------------------------------------------------------------


def test_making_one_asks_nobody() -> None:
    world = World(record("a", "T"))
    assert (world.store.reads, world.asked) == (0, [])


def test_the_first_reading_fetches_and_the_next_ones_do_not() -> None:
    world = World(record("b", "T"), record("a", "T"))
    assert ids(world.nodes) == ["a", "b"]
    for _ in range(10):
        assert world.nodes is world.nodes
    assert world.store.reads == 1


def test_this_node_is_not_among_the_others_whatever_the_store_says() -> None:
    world = World(record("me", "T"), record("a", "T"))
    assert ids(world.nodes) == ["a"]


@pytest.mark.parametrize("said", [{"status": NodeStatus.OFFLINE}])
def test_a_node_that_is_gone_is_not_there(said: dict[str, Any]) -> None:
    assert World(record("a", "T", **said)).nodes == ()


def test_the_snapshot_is_the_same_object_until_something_changes() -> None:
    world = World()
    world.refresh(record("a", "T", seq=1), record("b", "T", seq=1))
    before, candidates = world.membership.snapshot, world.candidates()
    world.refresh(record("b", "T", seq=2), record("a", "T", seq=2))
    assert world.membership.snapshot is before
    assert world.candidates() is candidates
    world.refresh(record("a", "T", seq=3), record("b", "T", "U", seq=3))
    assert world.membership.snapshot is not before


def test_a_restart_is_a_change() -> None:
    world = World()
    world.refresh(record("a", "T", incarnation="1"))
    before = world.membership.snapshot
    world.refresh(record("a", "T", incarnation="2"))
    assert world.membership.snapshot is not before


def test_a_refresh_that_is_recent_enough_is_not_repeated() -> None:
    world = World(record("a", "T"))
    world.look()
    world.membership.refresh(0.1)
    assert world.store.reads == 1
    world.clock.advance(0.2)
    world.membership.refresh(0.1)
    assert world.store.reads == 2


# -- candidates --------------------------------------------------------------------------------------------------------


def test_candidates_are_those_that_handle_the_type_in_the_order_of_their_ids() -> None:
    world = World(record("c", "T"), record("b", "U"), record("a", "T", "U"))
    assert ids(world.candidates()) == ["a", "c"]
    assert ids(world.candidates(name="U")) == ["a", "b"]
    assert world.candidates(name="V") == ()


def test_this_node_is_a_candidate_if_it_has_the_handler() -> None:
    world = World(record("z", "T"), record("a", "T"))
    assert ids(world.candidates(here=True)) == ["a", "me", "z"]
    assert ids(world.candidates(here=False)) == ["a", "z"]
    assert ids(World().candidates(here=True)) == ["me"]


def test_candidates_are_the_same_tuple_every_time() -> None:
    world = World(record("a", "T"))
    assert world.candidates() is world.candidates()
    assert world.candidates(here=True) is world.candidates(here=True)


def test_a_draining_node_takes_nothing_new_and_is_still_there() -> None:
    world = World(record("a", "T", status=NodeStatus.DRAINING), record("b", "T"))
    assert ids(world.nodes) == ["a", "b"]
    assert ids(world.candidates()) == ["b"]


def test_a_node_without_a_sign_of_life_for_long_is_used_when_there_is_no_better_one() -> None:
    world = World(record("a", "T", age=20.0), record("b", "T", age=1.0))
    assert [each.status.name for each in world.nodes] == ["SUSPECT", "ONLINE"]
    assert ids(world.candidates()) == ["b"]
    world.refresh(record("a", "T", age=20.0))
    assert ids(world.candidates()) == ["a"]


def test_a_node_that_misses_its_heartbeats_is_reported_once_each_time() -> None:
    world = World(record("a", "T", age=1.0))
    assert ids(world.nodes) == ["a"]
    for age in (20.0, 25.0, 1.0, 20.0):
        world.refresh(record("a", "T", age=age))
    assert [(event.kind.name, event.node.node_id) for event in world.events.past()] == [
        ("NODE_JOINED", "a"),
        ("NODE_SUSPECTED", "a"),
        ("NODE_SUSPECTED", "a"),
    ]


def test_a_node_that_has_not_said_what_it_handles_may_handle_anything() -> None:
    world = World(record("a"), record("b", "U"))
    assert ids(world.candidates()) == ["a"]


# -- a store that fails ------------------------------------------------------------------------------------------------


def test_a_store_that_is_down_changes_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    world.refresh(record("a", "T"))
    before = world.membership.snapshot
    caplog.clear()
    world.store.error = OSError("no route")
    for _ in range(5):
        world.look()
        world.clock.advance(100)
    assert world.membership.snapshot is before
    assert [entry.levelname for entry in caplog.records] == ["WARNING"]
    world.store.error = None
    world.look()
    assert [entry.levelname for entry in caplog.records] == ["WARNING", "INFO"]


def test_a_store_that_never_was_up_is_nobody_but_this_node() -> None:
    world = World()
    world.store.error = OSError("no route")
    assert world.nodes == ()
    assert ids(world.candidates(here=True)) == ["me"]


def test_a_store_that_never_was_up_is_not_asked_by_every_call() -> None:
    world = World()
    world.store.error = OSError("no route")
    for _ in range(10):
        assert world.nodes == ()
    assert world.store.reads == 1


def test_a_store_that_hangs_keeps_no_reader_waiting() -> None:
    world = World(record("a", "T"))
    world.look()
    world.store.answers.clear()
    stuck = threading.Thread(target=world.look)
    stuck.start()
    until(lambda: world.store.reads == 2, "the store hangs")
    try:
        assert ids(world.nodes) == ["a"]
        assert ids(world.candidates()) == ["a"]
    finally:
        world.store.answers.set()
        stuck.join(10)


def test_a_store_that_hangs_keeps_nobody_waiting_who_looks_once_more() -> None:
    world = World(record("a", "T"))
    world.look()
    world.clock.advance(10)
    world.store.answers.clear()
    stuck = threading.Thread(target=world.look)
    stuck.start()
    until(lambda: world.store.reads == 2, "the store hangs")
    caller = threading.Thread(target=world.membership.refresh, args=(0.1,))
    caller.start()
    try:
        caller.join(20)
        assert not caller.is_alive()
    finally:
        world.store.answers.set()
        stuck.join(10)
        caller.join(10)


def test_a_store_that_was_emptied_is_not_believed_at_once() -> None:
    world = World()
    world.refresh(record("a", "T"), record("b", "T"), record("c", "T"))
    world.refresh()
    assert ids(world.nodes) == ["a", "b", "c"]
    assert ids(world.candidates()) == ["a", "b", "c"]
    world.clock.advance(KEEP - 1)
    world.look()
    assert ids(world.nodes) == ["a", "b", "c"]
    world.clock.advance(2)
    world.look()
    assert world.nodes == ()


def test_a_store_that_was_emptied_is_believed_of_nodes_that_are_found_gone() -> None:
    world = World()
    world.refresh(record("a", "T"), record("b", "T"), record("c", "T"))
    world.gone = {"b"}
    world.refresh()
    world.look()
    assert ids(world.nodes) == ["a", "c"]


def test_nodes_that_are_back_are_what_they_were() -> None:
    world = World()
    world.refresh(record("a", "T"), record("b", "T"))
    world.refresh()
    world.refresh(record("a", "T"), record("b", "T"))
    assert {each.status for each in world.nodes} == {NodeStatus.ONLINE}
    world.clock.advance(KEEP + 1)
    world.look()
    assert ids(world.nodes) == ["a", "b"]


def test_a_few_nodes_that_leave_have_left() -> None:
    world = World()
    world.refresh(record("a", "T"), record("b", "T"), record("c", "T"))
    world.refresh(record("a", "T"), record("c", "T"))
    assert ids(world.nodes) == ["a", "c"]


# -- nodes of which only the address is known --------------------------------------------------------------------------


def said(*handles: str, **more: Any) -> dict[str, Any]:
    return {"nodeId": "x", "endpoint": "http://x:1", "handles": list(handles), **more}


def test_a_node_that_describes_itself_is_what_it_says_under_the_name_it_has_here() -> None:
    world = World(record("a"))
    world.said["a"] = said("U", load=7.5)
    world.look()
    (found,) = world.nodes
    assert (found.node_id, found.endpoint) == ("a", "http://a:1")
    assert (found.handles, found.load) == ({"U"}, 7.5)
    assert world.candidates() == ()


def test_a_node_that_says_nothing_may_handle_anything_for_good() -> None:
    world = World(record("a"))
    for _ in range(5):
        world.look()
        world.clock.advance(60)
    assert ids(world.candidates()) == ["a"]


def test_a_node_is_asked_again_now_and_then_and_not_at_every_look() -> None:
    world = World(record("a"))
    for _ in range(10):
        world.look()
    assert world.asked == ["a"]
    world.clock.advance(60)
    world.said["a"] = said("T")
    world.look()
    assert world.asked == ["a", "a"]
    assert world.nodes[0].handles == {"T"}


def test_a_node_that_falls_silent_is_what_it_said_last() -> None:
    world = World(record("a"))
    world.said["a"] = said("T")
    world.look()
    world.said.clear()
    world.clock.advance(60)
    world.look()
    assert world.nodes[0].handles == {"T"}


def test_a_node_that_has_told_the_store_is_not_asked() -> None:
    world = World(record("a", "T"))
    world.look()
    assert world.asked == []


@pytest.mark.parametrize("wrong", [{"load": 500}, {"handles": "T"}, {"status": "GONE"}])
def test_a_node_that_describes_itself_wrongly_may_handle_anything(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    world = World(record("a"), record("b", "T"))
    world.said["a"] = {**said("U"), **wrong}
    world.look()
    assert ids(world.candidates(name="V")) == ["a"]
    assert "description is invalid" in caplog.text


@pytest.mark.parametrize("wrong", [{"status": []}, {"status": {}}, {"keepAlive": 10**400}], ids=["list", "dict", "int"])
def test_no_description_whatever_stops_the_refresh(wrong: dict[str, Any]) -> None:
    world = World(record("a"), record("b", "T"))
    world.said["a"] = {**said("U"), **wrong}
    world.look()
    world.refresh(record("a"), record("b", "T"), record("c", "T"))
    assert ids(world.nodes) == ["a", "b", "c"]


def test_a_silent_node_keeps_the_first_caller_waiting_for_a_moment_only() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def describe(node: ClusterNode) -> None:
        asked.set()
        go_on.wait(30)

    world = World(record("a"), describe=describe)
    background = threading.Thread(target=world.look)
    background.start()
    try:
        assert asked.wait(10)
        assert ids(world.candidates()) == ["a"]
    finally:
        go_on.set()
        background.join(10)


# -- signs of life and events ------------------------------------------------------------------------------------------


def test_an_address_in_a_list_has_no_heartbeat_before_it_says_something() -> None:
    world = World(record("a", seq=0))
    world.look()
    assert world.membership.last_heartbeat("a") is None
    world.said["a"] = {"handles": ["T"]}
    world.clock.advance(5.0)
    world.look()
    assert world.membership.last_heartbeat("a") == world.clock.time()


def test_the_last_heartbeat_is_when_the_record_was_last_written() -> None:
    world = World()
    world.refresh(record("a", "T", seq=1, age=3.0))
    first = world.clock.time() - 3.0
    assert world.membership.last_heartbeat("a") == first
    world.clock.advance(5)
    world.refresh(record("a", "T", seq=1, age=8.0))
    assert world.membership.last_heartbeat("a") == first
    world.refresh(record("a", "T", seq=2, age=0.5))
    assert world.membership.last_heartbeat("a") == world.clock.time() - 0.5
    assert world.membership.last_heartbeat("b") is None


def test_nodes_that_come_and_go_are_told() -> None:
    world = World()
    world.refresh(record("a", "T"), record("b", "T"), record("c", "T"))
    assert world.told == [("NODE_JOINED", "a"), ("NODE_JOINED", "b"), ("NODE_JOINED", "c")]
    world.refresh(record("a", "T"), record("b", "T", seq=2))
    world.refresh(record("a", "T"), record("b", "T"), record("d", "T"))
    assert world.told[3:] == [("NODE_LEFT", "c"), ("NODE_JOINED", "d")]


def test_nothing_is_told_of_a_node_that_only_says_something_else() -> None:
    world = World()
    world.refresh(record("a", "T"))
    world.refresh(record("a", "T", "U", load=50.0, status=NodeStatus.DRAINING))
    assert world.told == [("NODE_JOINED", "a")]


def test_a_listener_may_ask_for_the_nodes() -> None:
    world = World()
    seen: list[list[str]] = []
    world.events.listen(lambda event: seen.append(ids(world.nodes)))
    world.refresh(record("a", "T"))
    assert seen == [["a"]]


def test_a_forked_child_has_the_snapshot_and_no_lock_of_its_parent() -> None:
    world = World(record("a", "T"))
    world.look()
    world.membership._lock.acquire()
    world.membership.after_fork_in_child()
    world.refresh(record("a", "T"), record("b", "T"))
    assert ids(world.nodes) == ["a", "b"]


def test_a_snapshot_knows_its_nodes_by_id() -> None:
    assert World(record("a", "T")).membership.snapshot.by_id == {"a": node("a", "T")}

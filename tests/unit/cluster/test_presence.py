"""How this node becomes visible, stays so, and goes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catga_sync.cluster.presence import Presence
from catga_sync.cluster.visibility import Visibility
from catga_sync.cluster.worker_group import WorkerGroup
from catga_sync.nodes import STREAM, ClusterNode
from catga_sync.transport.http.probe import ProbeOutcome
from tests.unit.cluster.fakes import FakeClock, FakeProbe, FakeStore

ENDPOINT = "http://localhost:5001"
INTERVAL, TIMEOUT = 5.0, 30.0
ME = ClusterNode("me", ENDPOINT, metadata={"zone": "a"}, handles={"T"})


class Me:
    """This node, as it is told to others."""

    this = ME

    def __init__(self, before_heartbeat: Callable[[], None] = lambda: None) -> None:
        self.before_heartbeat = before_heartbeat

    def describe(self) -> ClusterNode:
        return ME


class Process:
    """One process of the node ``me``, with a place of its own among its workers."""

    def __init__(
        self,
        folder: Path,
        clock: FakeClock,
        store: FakeStore,
        probe: FakeProbe,
        before_heartbeat: Callable[[], None] = lambda: None,
        **changes: Any,
    ) -> None:
        self.clock = clock
        self.ports: set[int] = {5001}
        self.group = WorkerGroup(folder, "me")
        self.presence = Presence(
            Me(before_heartbeat),
            self.group,
            Visibility("me", clock),
            store,
            probe,
            heartbeat_interval=INTERVAL,
            heartbeat_timeout=TIMEOUT,
            listens=lambda: [f"127.0.0.1:{port}" for port in self.ports],
            clock=clock,
            **changes,
        )
        self.presence.attach()

    def go(self, seconds: float = 0.0) -> float:
        """Let so much time pass, doing what is due in the meantime; return the pause that is asked for at the end."""
        end = self.clock.now + seconds
        pause = self.presence.step()
        while self.clock.now + pause <= end:
            self.clock.advance(pause)
            pause = self.presence.step()
        self.clock.now = end
        return pause


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def probe() -> FakeProbe:
    return FakeProbe("me")


@pytest.fixture
def one(tmp_path: Path, clock: FakeClock, store: FakeStore, probe: FakeProbe) -> Process:
    return Process(tmp_path / "private", clock, store, probe)


@pytest.fixture
def other(tmp_path: Path, clock: FakeClock, store: FakeStore, probe: FakeProbe) -> Process:
    return Process(tmp_path / "private", clock, store, probe)


# -- becoming visible --------------------------------------------------------------------------------------------------


def test_a_process_that_does_not_mean_to_serve_does_nothing(one: Process, probe: FakeProbe, store: FakeStore) -> None:
    one.presence.leave()
    one.go(60)
    assert (probe.asked, store.registered, one.presence.visible) == ([], [], False)


def test_a_process_that_only_imports_the_app_asks_nobody(one: Process, probe: FakeProbe, store: FakeStore) -> None:
    one.ports = set()
    one.go(60)
    assert (probe.asked, store.registered, one.presence.visible) == ([], [], False)


def test_a_process_whose_endpoint_answers_as_this_node_becomes_visible(one: Process, store: FakeStore) -> None:
    one.presence.step()
    assert one.presence.visible
    (record,) = store.registered
    assert (record.node.node_id, record.node.endpoint, record.seq) == ("me", ENDPOINT, 1)
    assert record.node.incarnation == one.group.incarnation != ""
    assert (dict(record.node.metadata), record.node.handles) == ({"zone": "a"}, {"T"})


def test_the_start_of_a_run_is_told_once_by_all_its_processes_together(
    tmp_path: Path, clock: FakeClock, store: FakeStore, probe: FakeProbe
) -> None:
    told: list[ClusterNode] = []
    processes = [Process(tmp_path / "private", clock, store, probe, started=told.append) for _ in range(3)]
    for process in processes:
        process.go(INTERVAL)
    processes[0].presence.leave()
    processes[1].go(INTERVAL)  # leads now
    assert [node.incarnation for node in told] == [processes[1].group.incarnation]
    for process in processes[1:]:
        process.presence.leave()
    processes[0].presence.attach()
    processes[0].go(INTERVAL)
    assert [node.incarnation for node in told][1:] == [processes[0].group.incarnation]


def test_a_start_is_told_when_others_can_see_the_node(
    tmp_path: Path, clock: FakeClock, store: FakeStore, probe: FakeProbe
) -> None:
    told: list[ClusterNode] = []
    process = Process(tmp_path / "private", clock, store, probe, started=told.append)
    store.error = OSError("disk full")
    process.go(INTERVAL)
    assert told == []
    store.error = None
    process.go(INTERVAL)
    assert len(told) == 1


def test_a_start_is_told_with_the_stream_that_another_worker_knows_of(
    tmp_path: Path, clock: FakeClock, store: FakeStore, probe: FakeProbe
) -> None:
    told: list[ClusterNode] = []
    probe.said["features"] = [STREAM, 7]
    Process(tmp_path / "private", clock, store, probe, started=told.append).go()
    assert [node.features for node in told] == [{STREAM}]


@pytest.mark.parametrize("outcome", [ProbeOutcome.REFUSED, ProbeOutcome.SILENT, ProbeOutcome.OTHER])
def test_it_stays_invisible_until_the_endpoint_answers(
    one: Process, store: FakeStore, probe: FakeProbe, outcome: ProbeOutcome
) -> None:
    probe.outcome = outcome
    assert one.go(60) <= 1.0
    assert (store.registered, one.presence.visible) == ([], False)
    assert probe.asked
    probe.outcome = ProbeOutcome.DESCRIBED
    one.go(1)
    assert one.presence.visible


def test_the_looks_become_rarer_down_to_one_a_second(one: Process, probe: FakeProbe) -> None:
    probe.outcome = ProbeOutcome.REFUSED
    one.go(1)
    first = len(probe.asked)
    one.go(600)
    assert 5 <= first <= 20
    assert len(probe.asked) - first <= 650


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("outcome", "said", "why"),
    [
        (ProbeOutcome.REFUSED, {}, "nothing listens there"),
        (ProbeOutcome.SILENT, {}, "no response"),
        (ProbeOutcome.DESCRIBED, {"nodeId": "somebody"}, "somebody"),
    ],
)
def test_a_cause_of_invisibility_is_told_once_and_not_at_every_try(
    one: Process,
    store: FakeStore,
    probe: FakeProbe,
    caplog: pytest.LogCaptureFixture,
    outcome: ProbeOutcome,
    said: dict[str, Any],
    why: str,
) -> None:
    probe.outcome, probe.said = outcome, said
    one.go(60)
    assert (store.registered, one.presence.visible) == ([], False)
    (told,) = warnings(caplog)
    assert told == f"node me is not visible to other nodes: {one.presence.trouble}"
    assert ENDPOINT in told
    assert why in told


def test_a_server_that_takes_a_moment_to_listen_is_not_worth_a_word(
    one: Process, probe: FakeProbe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    probe.outcome = ProbeOutcome.REFUSED
    one.go(1.5)
    assert one.presence.trouble is not None
    probe.outcome = ProbeOutcome.DESCRIBED
    one.go(1)
    assert one.presence.visible
    assert (caplog.text, one.presence.trouble) == ("", None)


def test_another_cause_is_told_as_well_and_becoming_visible_ends_it(
    one: Process, probe: FakeProbe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    probe.outcome = ProbeOutcome.REFUSED
    one.go(10)
    probe.outcome = ProbeOutcome.SILENT
    one.go(10)
    assert len(warnings(caplog)) == 2
    probe.outcome = ProbeOutcome.DESCRIBED
    one.go(2)
    assert caplog.messages[2:] == ["node me is visible to other nodes now"]
    assert one.presence.trouble is None


def test_causes_without_end_are_not_told_without_end(
    one: Process, probe: FakeProbe, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(200):
        probe.said = {"nodeId": f"somebody-{number}"}
        one.go(5)
    assert len(warnings(caplog)) == 20
    assert "somebody-199" in str(one.presence.trouble)


def test_a_process_that_waits_for_a_request_says_so_when_asked_and_warns_of_nothing(
    one: Process, caplog: pytest.LogCaptureFixture
) -> None:
    one.ports = {80}
    one.go(60)
    assert "no request has reached this one, which listens on 127.0.0.1:80" in str(one.presence.trouble)
    assert caplog.text == ""
    one.presence.served()
    one.go(2)
    assert (one.presence.visible, one.presence.trouble) == (True, None)


def test_a_process_that_listens_elsewhere_needs_a_request_of_its_own(one: Process, probe: FakeProbe) -> None:
    one.ports = {80}
    one.go(5)
    assert probe.asked
    assert not one.presence.visible
    one.presence.served()
    one.go(1)
    assert one.presence.visible


def test_the_parent_of_servers_is_not_one_of_them(one: Process, probe: FakeProbe) -> None:
    one.presence.after_fork_in_parent()
    one.go(60)
    assert probe.asked == []
    one.presence.served()
    one.presence.hasten()
    one.go()
    assert one.presence.visible


# -- staying so --------------------------------------------------------------------------------------------------------


def test_it_says_every_interval_that_it_is_there(one: Process, store: FakeStore) -> None:
    one.go(3 * INTERVAL)
    assert [record.seq for record in store.registered] == [1, 2, 3, 4]
    assert len({record.node.incarnation for record in store.registered}) == 1


def test_nothing_is_done_before_its_time(one: Process, store: FakeStore, clock: FakeClock) -> None:
    one.go()
    clock.advance(1)
    assert one.presence.step() == INTERVAL - 1
    assert len(store.registered) == 1
    one.presence.hasten()
    one.presence.step()
    assert len(store.registered) == 2


def test_one_process_speaks_for_all(one: Process, other: Process, store: FakeStore) -> None:
    one.go()
    assert other.go() <= 1.0
    assert one.group.incarnation == other.group.incarnation
    assert other.presence.visible
    for _ in range(10):
        one.go(1)
        other.go()
    assert [record.seq for record in store.registered] == [1, 2, 3]


def test_what_a_node_says_of_itself_is_brought_up_to_date_before_each_heartbeat_and_in_each_process(
    tmp_path: Path, clock: FakeClock, store: FakeStore, probe: FakeProbe
) -> None:
    """Each process may be asked what the node is, also one that sends no heartbeats."""
    counts = {"leads": 0, "follows": 0}
    registered: list[int] = []

    def count(name: str) -> None:
        counts[name] += 1
        registered.append(len(store.registered))

    one, other = (
        Process(tmp_path / "private", clock, store, probe, before_heartbeat=lambda name=name: count(name))
        for name in counts
    )
    one.go()
    assert (counts, registered) == ({"leads": 1, "follows": 0}, [0])
    for seconds in range(1, 11):
        one.go(1)
        other.go()
        assert counts == {"leads": len(store.registered), "follows": seconds}
    assert len(store.registered) == 3


def test_another_process_takes_over_within_a_second(
    one: Process, other: Process, store: FakeStore, clock: FakeClock
) -> None:
    one.go()
    other.go()
    one.presence.leave()
    assert store.deregistered == []
    other.go(1)
    assert len(store.registered) == 2
    assert store.registered[1].node.incarnation == store.registered[0].node.incarnation


def test_a_busy_node_is_silent_for_a_while_without_being_gone(one: Process, store: FakeStore, probe: FakeProbe) -> None:
    one.go()
    probe.outcome = ProbeOutcome.SILENT
    one.go(TIMEOUT - 1)
    assert one.presence.visible
    assert len(store.registered) == 1 + (TIMEOUT - 1) // INTERVAL
    probe.outcome = ProbeOutcome.DESCRIBED
    one.go(INTERVAL)
    probe.outcome = ProbeOutcome.SILENT
    one.go(TIMEOUT - 1)
    assert (one.presence.visible, store.deregistered) == (True, [])


def test_a_node_that_is_silent_for_too_long_is_gone(one: Process, store: FakeStore, probe: FakeProbe) -> None:
    one.go()
    incarnation = one.group.incarnation
    probe.outcome = ProbeOutcome.SILENT
    one.go(TIMEOUT + INTERVAL + 1)
    assert (one.presence.visible, store.deregistered) == (False, [("me", incarnation)])


def test_a_node_where_nobody_listens_is_gone_at_the_next_beat_and_may_come_back(
    one: Process, store: FakeStore, probe: FakeProbe
) -> None:
    one.go()
    first = one.group.incarnation
    probe.outcome = ProbeOutcome.REFUSED
    one.go(INTERVAL)
    assert (one.presence.visible, store.deregistered) == (False, [("me", first)])
    assert one.presence.attached
    probe.outcome = ProbeOutcome.DESCRIBED
    one.go(2)
    assert one.presence.visible
    assert one.group.incarnation != first


def test_a_process_that_takes_over_gives_a_busy_node_its_time(
    one: Process, other: Process, store: FakeStore, probe: FakeProbe
) -> None:
    one.go()
    other.go()
    for _ in range(100):
        one.go(1)
        other.go()
    one.presence.leave()
    probe.outcome = ProbeOutcome.SILENT
    other.go(2)
    assert (other.presence.visible, store.deregistered) == (True, [])


def test_a_store_that_is_down_is_tried_again_soon(
    one: Process, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = OSError("down")
    assert one.go(10) <= 1.0
    assert one.presence.visible
    assert "down" in str(one.presence.trouble)
    assert len(warnings(caplog)) == 1
    assert "down" in caplog.text
    store.error = None
    one.go(1)
    assert len(store.registered) == 1


def test_a_node_id_that_is_taken_is_an_error_that_names_the_other_node(
    one: Process, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.taken_by = "http://elsewhere:1"
    one.go(1)
    assert "http://elsewhere:1" in caplog.text
    one.go(10 * INTERVAL)
    assert len(warnings(caplog)) == 1
    assert "http://elsewhere:1" in str(one.presence.trouble)
    store.taken_by = None
    one.go(2 * INTERVAL)
    assert store.registered


@pytest.mark.parametrize("written", ["file:///etc/passwd", "http://user@elsewhere:1/admin", "http://0.0.0.0:1"])
def test_what_stands_in_a_store_is_not_asked_unless_it_is_an_endpoint(
    one: Process, store: FakeStore, probe: FakeProbe, written: str
) -> None:
    store.taken_by = written
    one.go(INTERVAL)
    assert set(probe.asked) == {ENDPOINT}
    assert written in str(one.presence.trouble)


# -- going -------------------------------------------------------------------------------------------------------------


def test_the_last_process_takes_the_record_along(one: Process, other: Process, store: FakeStore) -> None:
    one.go()
    other.go()
    incarnation = one.group.incarnation
    one.presence.leave()
    assert store.deregistered == []
    other.presence.leave()
    assert store.deregistered == [("me", incarnation)]
    other.presence.leave()
    assert len(store.deregistered) == 1


def test_who_has_left_stays_away(one: Process, store: FakeStore) -> None:
    one.go()
    one.presence.leave()
    one.go(60)
    assert (one.presence.visible, len(store.registered)) == (False, 1)


def test_leaving_before_one_was_there_is_nothing(one: Process, store: FakeStore) -> None:
    one.presence.leave()
    assert store.deregistered == []


def test_leaving_raises_nothing_when_the_store_is_down(
    one: Process, store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    one.go()
    store.error = OSError("down")
    one.presence.leave()
    assert not one.presence.visible
    assert "it will expire" in caplog.text


def test_a_forked_child_still_has_to_become_what_its_parent_is(one: Process, other: Process) -> None:
    one.go()
    other.go()
    one.presence.served()
    one.group.after_fork_in_child()
    one.presence.after_fork_in_child()
    assert (one.presence.visible, one.presence.has_served, one.presence.has_forked) == (False, False, False)
    assert not one.presence.attached  # what a serving process forks off serves nothing, unless it is told to
    one.presence.attach()
    one.go()
    assert one.group.incarnation == other.group.incarnation

"""What every discovery store that nodes write to must do, whatever it is made of.

    class TestMemory(DiscoveryContract):
        @pytest.fixture
        def store(self): ...
        @pytest.fixture
        def other(self, store): ...     # how another node sees the same store

A store that keeps its time by a clock that can be held sets ``clock``; the others are waited for.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from catga_sync.discovery.base import Discovery
from catga_sync.errors import NodeIdTaken
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus
from tests import processes

__all__ = ["DiscoveryContract", "HeldClock", "ids", "record"]

#: Seconds: longer than any test takes, and short enough to be waited for.
LONG, SHORT = 60.0, 2.5


class HeldClock:
    """A clock that goes only when it is told to. Thread-safe."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def time(self) -> float:
        return 1_700_000_000.0 + self.seconds


def record(node_id: str = "node-1", endpoint: str = "http://host-1:5000", *, seq: int = 1, **said: Any) -> NodeRecord:
    """Return a record; ``said`` is what a node says of itself."""
    return NodeRecord(ClusterNode(node_id, endpoint, **{"incarnation": "first", **said}), seq)


def ids(store: Discovery) -> list[str]:
    """Return the ids of the nodes that are there, sorted."""
    return sorted(each.node.node_id for each in store.nodes())


class DiscoveryContract:
    #: None means that the store's own time is waited for.
    clock: HeldClock | None = None

    @pytest.fixture
    def store(self) -> Discovery:
        raise NotImplementedError

    @pytest.fixture
    def other(self) -> Discovery:
        raise NotImplementedError

    def now(self) -> float:
        return time.monotonic() if self.clock is None else self.clock.monotonic()

    def until(self, probe: Callable[[], bool], what: str) -> None:
        if self.clock is None:
            processes.until(probe, what)
            return
        for _ in range(200):
            if probe():
                return
            self.clock.seconds += 0.05
        raise AssertionError(f"not within 10 s: {what}")

    # -- who is there ---------------------------------------------------------------------------------------------

    def test_a_new_store_holds_nobody(self, store: Discovery) -> None:
        assert list(store.nodes()) == []
        assert store.refresh_interval > 0

    def test_a_registered_node_is_seen_by_others(self, store: Discovery, other: Discovery) -> None:
        assert ids(other) == []
        store.register(record(), LONG)
        assert ids(other) == ids(store) == ["node-1"]

    def test_a_record_comes_back_as_it_was_written(self, store: Discovery, other: Discovery) -> None:
        written = record(
            endpoint="https://[2001:db8::7]:8443",
            seq=17,
            status=NodeStatus.DRAINING,
            load=12.5,
            metadata={"zone": "Zürich \u2028 \U0001f600", "weights": {"a": [1, 2.5, None, True]}},
            handles=frozenset({"shop.GetPrice", "Shop.Net.Type, Shop"}),
            incarnation='of "odd" name\nin two lines',
            subscribes=frozenset(),
            contracts={"shop.GetPrice": "f00d"},
            keep_alive=75.0,
        )
        store.register(written, LONG)
        (read,) = other.nodes()
        assert read.node == written.node
        assert read.node.incarnation == written.node.incarnation
        assert read.seq == 17

    def test_all_nodes_are_returned_and_each_once(self, store: Discovery, other: Discovery) -> None:
        names = [f"node-{number:03}" for number in range(120)]
        for number, name in enumerate(names):
            store.register(record(name, f"http://host:{number + 1}"), LONG)
        assert ids(other) == names
        store.deregister("node-050", "first")
        store.register(record("node-120"), LONG)
        names[50:51] = []
        assert ids(other) == [*names, "node-120"]

    def test_a_change_of_what_a_node_says_is_seen(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        assert [each.node.status for each in other.nodes()] == [NodeStatus.ONLINE]
        for seq, changed in enumerate((NodeStatus.DRAINING, NodeStatus.ONLINE), 2):
            store.register(record(seq=seq, status=changed, load=seq), LONG)
            assert [(each.node.status, each.node.load) for each in other.nodes()] == [(changed, seq)]

    def test_what_was_returned_does_not_change_afterwards(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        before = other.nodes()
        store.register(record("node-2"), LONG)
        store.deregister("node-1", "first")
        assert ids(other) == ["node-2"]
        assert [each.node.node_id for each in before] == ["node-1"]

    # -- signs of life --------------------------------------------------------------------------------------------

    def test_a_node_that_stops_renewing_is_gone_after_its_ttl(self, store: Discovery, other: Discovery) -> None:
        store.register(record("node-2", "http://host-2:5000"), LONG)
        store.register(record(), SHORT)
        begun = self.now()
        self.until(lambda: ids(other) == ["node-2"], "node-1 has expired")
        assert self.now() - begun > 0.7 * SHORT
        assert ids(store) == ["node-2"]

    def test_a_node_that_renews_stays(self, store: Discovery, other: Discovery) -> None:
        begun, seqs = self.now(), itertools.count(1)

        def renewed_for_long() -> bool:
            store.register(record(seq=next(seqs)), SHORT)
            assert ids(other) == ["node-1"]
            return self.now() - begun > 1.6 * SHORT

        self.until(renewed_for_long, "the ttl has passed more than once")

    def test_a_node_that_had_expired_comes_back(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), SHORT)
        assert ids(other) == ["node-1"]
        self.until(lambda: ids(other) == [], "node-1 has expired")
        store.register(record(seq=2), LONG)
        assert ids(other) == ["node-1"]

    def test_the_age_is_the_time_since_the_last_heartbeat_once_that_is_late(
        self, store: Discovery, other: Discovery
    ) -> None:
        ttl, slack = 2 * SHORT, 0.02
        begun = self.now()
        store.register(record(), ttl)
        written = self.now()

        def is_late() -> bool:
            asked = self.now()
            (age,) = (each.age for each in other.nodes())
            assert age is not None
            assert 0 <= age <= self.now() - begun + slack
            if age > 0.3 * ttl:
                assert age >= asked - written - slack
                return True
            return False

        self.until(is_late, "more than a quarter of the ttl has passed")
        begun = self.now()
        store.register(record(seq=2), ttl)
        (fresh,) = other.nodes()
        assert fresh.age is not None
        assert fresh.age <= self.now() - begun + slack

    # -- one id, one node -----------------------------------------------------------------------------------------

    def test_an_id_that_is_taken_is_refused_and_says_by_whom(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        with pytest.raises(NodeIdTaken, match="node_id: 'node-1' is taken by the node at http://host-1:5000") as caught:
            other.register(record(endpoint="http://host-2:5000", incarnation="second"), LONG)
        assert (caught.value.node_id, caught.value.endpoint) == ("node-1", "http://host-1:5000")
        assert [each.node.endpoint for each in other.nodes()] == ["http://host-1:5000"]

    def test_a_node_that_was_restarted_replaces_itself(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        other.register(record(incarnation="second"), LONG)
        assert [each.node.incarnation for each in store.nodes()] == ["second"]

    def test_registering_again_after_a_lost_answer_works(self, store: Discovery, other: Discovery) -> None:
        for _ in range(3):
            store.register(record(), LONG)
        assert [each.seq for each in other.nodes()] == [1]

    def test_an_id_is_free_when_its_node_has_expired(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), SHORT)
        mine = record(endpoint="http://host-2:5000", incarnation="second")

        def let_in() -> bool:
            try:
                other.register(mine, LONG)
            except NodeIdTaken:
                return False
            return True

        self.until(let_in, "the id is free")
        assert [each.node.endpoint for each in store.nodes()] == ["http://host-2:5000"]

    def test_an_id_is_free_when_its_node_has_left(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        store.deregister("node-1", "first")
        other.register(record(endpoint="http://host-2:5000"), LONG)
        assert [each.node.endpoint for each in store.nodes()] == ["http://host-2:5000"]

    def test_of_many_that_come_with_one_id_at_once_exactly_one_gets_in(
        self, store: Discovery, other: Discovery
    ) -> None:
        for attempt in range(5):
            start = threading.Barrier(8)
            outcomes: list[tuple[str, str]] = []

            def come(
                number: int, name: str = f"node-{attempt}", start: threading.Barrier = start, out: Any = outcomes
            ) -> None:
                endpoint = f"http://host-{number}:5000"
                start.wait(20)
                try:
                    (store, other)[number % 2].register(record(name, endpoint), LONG)
                except NodeIdTaken as exc:
                    out.append(("taken", exc.endpoint))
                except Exception as exc:
                    out.append(("failed", repr(exc)))
                else:
                    out.append(("in", endpoint))

            threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            let_in = [endpoint for what, endpoint in outcomes if what == "in"]
            assert len(let_in) == 1
            assert sorted(outcomes) == [("in", let_in[0])] + [("taken", let_in[0])] * 7
            assert {each.node.endpoint for each in other.nodes() if each.node.node_id == f"node-{attempt}"} == {*let_in}

    # -- leaving --------------------------------------------------------------------------------------------------

    def test_a_node_that_leaves_is_gone_at_once(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        assert ids(other) == ["node-1"]
        store.deregister("node-1", "first")
        assert ids(other) == ids(store) == []

    def test_what_an_earlier_run_takes_back_is_not_the_record_of_a_later_one(
        self, store: Discovery, other: Discovery
    ) -> None:
        store.register(record(), LONG)
        other.register(record(incarnation="second"), LONG)
        store.deregister("node-1", "first")
        store.deregister("node-2", "first")
        assert [each.node.incarnation for each in other.nodes()] == ["second"]

    def test_a_node_may_leave_twice_and_come_back(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        store.deregister("node-1", "first")
        store.deregister("node-1", "first")
        store.register(replace(record(incarnation="second"), seq=1), LONG)
        assert ids(other) == ["node-1"]

    # -- use ------------------------------------------------------------------------------------------------------

    def test_closing_twice_is_safe_and_takes_nobody_along(self, store: Discovery, other: Discovery) -> None:
        store.register(record(), LONG)
        store.close()
        store.close()
        assert ids(other) == ["node-1"]

    def test_threads_may_use_one_store_together(self, store: Discovery, other: Discovery) -> None:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            mine = f"node-{number}"
            try:
                for seq in range(1, 6):
                    store.register(record(mine, f"http://host-{number}:5000", seq=seq, load=seq), LONG)
                    assert mine in ids(store)
                    assert mine in ids(other)
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert {(each.node.node_id, each.node.load) for each in other.nodes()} == {(f"node-{n}", 5.0) for n in range(6)}

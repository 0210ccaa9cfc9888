"""What every router must do, whatever it goes by.

    class TestRandom(RouterContract):
        def make(self):
            return create_router("random")

Every test gets a new one; chance and time, where a router has them, are the maker's to hold.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterNode, Delivery, ErrorCode, NodeStatus, Query, _fork, message
from catga_sync.routing import Router

__all__ = ["GetThing", "HeldClock", "Keyless", "RouterContract", "in_threads", "nodes_named"]

THREADS = 8


@message(key="key")
@dataclass(frozen=True)
class GetThing(Query[None]):
    key: Any = "7"


@dataclass(frozen=True)
class Keyless(Query[None]):
    number: int = 0


class HeldClock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def time(self) -> float:
        return self.seconds


def nodes_named(*names: str, **said: Any) -> tuple[ClusterNode, ...]:
    """Return a new tuple of new nodes."""
    return tuple(ClusterNode(name, f"http://{name}:5000", **said) for name in names)


def is_one_of(node: ClusterNode, nodes: tuple[ClusterNode, ...]) -> bool:
    """Return whether it is one of these very objects."""
    return any(node is each for each in nodes)


@contextmanager
def hasty_switching() -> Iterator[None]:
    """Have threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(work: Callable[[int], object], threads: int = THREADS) -> None:
    """Run ``work(number)`` in so many threads that all begin at once; raise what the first of them raised."""
    barrier = threading.Barrier(threads)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as exc:
            raised.append(exc)

    with hasty_switching():
        running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    if raised:
        raise raised[0]


SUCCESS: CatgaResult[Any] = CatgaResult.success()
UNREACHABLE: CatgaResult[Any] = CatgaResult.failure(
    "nobody there", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED
)
NO: CatgaResult[Any] = CatgaResult.failure("no such user", ErrorCode.NOT_FOUND)

KINDS = ("a key", "no key", "a type without keys", "no message at all")
ODD_LOADS = (math.nan, math.inf, -math.inf, -1.0, 1e308, 100.0, 0.0)
ODD_WEIGHTS = ("2", True, None, 0, -1, math.nan, math.inf, 1e308, 5e-324, [1], {})


class RouterContract:
    def make(self) -> Router:
        """Return a new one."""
        raise NotImplementedError

    @pytest.fixture
    def router(self) -> Router:
        return self.make()

    def end(self, router: Router, node: ClusterNode, result: Any = SUCCESS, elapsed: float = 0.005) -> None:
        completed = getattr(router, "completed", None)
        if completed is not None:
            completed(node, GetThing(), result, elapsed)

    @pytest.mark.parametrize("request_", [GetThing(), GetThing(None), Keyless(), object()], ids=KINDS)
    def test_a_single_node_is_taken(self, router, request_):
        nodes = nodes_named("only")
        assert all(router.route(request_, nodes) is nodes[0] for _ in range(5))

    @pytest.mark.parametrize("size", [2, 3, 10, 100])
    def test_what_is_taken_is_one_of_the_very_nodes_given(self, router, size):
        nodes = nodes_named(*(f"n{number}" for number in range(size)))
        for number in range(300):
            assert is_one_of(router.route(GetThing(number), nodes), nodes)

    def test_a_node_of_the_newest_tuple_is_taken_however_often_it_changes(self, router):
        older = nodes_named("a", "b", "c", "d")
        for number in range(200):
            newer = tuple(replace(node, load=float(number % 100)) for node in older[number % 3 :])
            for nodes in (newer, older, newer[:1], newer):
                node = router.route(GetThing(number), nodes)
                assert is_one_of(node, nodes)
                self.end(router, node, UNREACHABLE)

    def test_a_node_that_was_tried_is_not_taken_when_it_is_no_longer_offered(self, router):
        nodes = nodes_named("a", "b", "c")
        for number in range(200):
            first = router.route(GetThing(number), nodes)
            left = tuple(node for node in nodes if node is not first)
            self.end(router, first, UNREACHABLE)
            second = router.route(GetThing(number), left)
            assert is_one_of(second, left)
            self.end(router, second)

    def test_a_node_that_joins_gets_calls(self, router):
        for number in range(50):
            self.end(router, router.route(GetThing(number), nodes_named("a", "b")))
        nodes = nodes_named("a", "b", "c")
        taken = set()
        for number in range(300):
            node = router.route(GetThing(number), nodes)
            taken.add(node.node_id)
            self.end(router, node)
        assert "c" in taken

    @pytest.mark.parametrize("status", NodeStatus)
    def test_every_node_it_is_given_is_good_enough(self, router, status):
        nodes = nodes_named("a", "b", status=status)
        assert router.route(GetThing(), nodes) in nodes

    def test_reports_that_make_no_sense_do_no_harm(self, router):
        loads = tuple(ClusterNode(f"load-{at}", None, load=load) for at, load in enumerate(ODD_LOADS))
        weights = tuple(
            ClusterNode(f"weight-{at}", None, metadata={"weight": weight}) for at, weight in enumerate(ODD_WEIGHTS)
        )
        for nodes in (loads, weights, loads + weights, *((node,) for node in loads + weights)):
            for number in range(50):
                node = router.route(GetThing(number), nodes)
                assert is_one_of(node, nodes)
                self.end(router, node, elapsed=math.nan)

    def test_ends_that_make_no_sense_do_no_harm(self, router):
        nodes = nodes_named("a", "b")
        for result in (SUCCESS, UNREACHABLE, NO):
            for elapsed in (0.0, -1.0, 1e9, math.nan):
                self.end(router, ClusterNode("never-seen", None), result, elapsed)
                for node in nodes:
                    self.end(router, node, result, elapsed)
        taken = {router.route(GetThing(number), nodes).node_id for number in range(100)}
        assert taken <= {"a", "b"}

    def test_a_forked_child_goes_on_with_it(self, router):
        nodes = nodes_named("a", "b", "c")
        for number in range(10):
            router.route(GetThing(number), nodes)
        if isinstance(router, _fork.AcrossForks):
            router.after_fork_in_child()
        assert router.route(GetThing(), nodes) in nodes

    def test_many_threads_use_it_at_once(self, router):
        tuples = [nodes_named(*"abcdefgh"[:size]) for size in (8, 8, 5, 3, 2, 1)]
        ids = [{id(node) for node in nodes} for nodes in tuples]

        def work(thread: int) -> None:
            for number in range(250):
                which = (thread + number // 10) % len(tuples)
                request = GetThing(number) if number % 3 else Keyless(number)
                node = router.route(request, tuples[which])
                assert id(node) in ids[which]
                self.end(router, node, (SUCCESS, UNREACHABLE, NO)[number % 3])

        in_threads(work)

    @pytest.mark.parametrize("ended", [True, False], ids=["calls end", "calls never end"])
    def test_nodes_that_come_and_go_leave_nothing_behind(self, router, ended):
        def churn(generation: int) -> None:
            names = [f"{generation}-{number}-" + "x" * 50 for number in range(3)]
            nodes = nodes_named(*names)
            for number in range(4):
                node = router.route(GetThing(number), nodes)
                if ended:
                    self.end(router, node)

        for generation in range(600):
            churn(generation)
        assert _reachable(router) < 500  # it has seen 1,800 nodes, and each is ten objects


def _reachable(root: object) -> int:
    """Return how many objects an object holds, classes and code left out."""
    seen: set[int] = set()
    left: list[Any] = [root]
    while left:
        each = left.pop()
        if id(each) in seen or isinstance(each, (type, ModuleType, FunctionType, BuiltinFunctionType)):
            continue
        seen.add(id(each))
        left.extend(gc.get_referents(each))
    return len(seen)

"""``await mediator.asend(...)``: the result of ``send``, without holding up the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode, Event, Mediator, Query, create_cluster
from catga_sync import async_sends as module
from catga_sync.context import CallContext, current_call, enter_call, leave_call
from catga_sync.deadline import Deadline
from catga_sync.testing import FakeMediator
from tests.processes import until
from tests.unit.serving import three_ways

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@dataclass(frozen=True)
class Double(Query[int]):
    number: int


@dataclass(frozen=True)
class Tell(Query[dict[str, str]]):
    """Its response has the thread, a context variable and the context of the call."""


@dataclass(frozen=True)
class Wait(Query[None]):
    """Its handler waits until the test lets it go."""


@dataclass(frozen=True)
class Happened(Event):
    pass


@dataclass(frozen=True)
class Nest(Query[int]):
    """Its handler awaits another Nest that is one less deep, or a Double at the end."""

    deep: int


class Node:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.lock = threading.Lock()
        self.begun = 0
        self.ended = 0
        self.left: float | None = None
        self.local = Mediator()
        self.local.register(Double, lambda request: request.number * 2)
        self.local.register(Tell, self.tell)
        self.local.register(Wait, self.wait)
        self.local.register(Nest, self.nest)
        #: What a handler of Nest asks, and how it waits for that.
        self.asked: Any = self.local
        self.wait_for: Callable[[Any], Any] = asyncio.run
        self.both = threading.Barrier(2)

    def tell(self, request: Tell) -> dict[str, str]:
        call = current_call()
        own = {} if call is None else call.context
        self.left = None if call is None else call.remaining()
        return {"thread": threading.current_thread().name, "who": WHO.get(), **own}

    def nest(self, request: Nest) -> int:
        self.both.wait(60)
        inner = Nest(request.deep - 1) if request.deep else Double(4)
        result: CatgaResult[int] = self.wait_for(self.asked.asend(inner))
        return result.unwrap()

    def wait(self, request: Wait) -> None:
        with self.lock:
            self.begun += 1
        assert self.go.wait(60)
        with self.lock:
            self.ended += 1


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.go.set()
    made.local.close()


@pytest.fixture(params=["Mediator", "ClusterMediator"])
def mediator(request: pytest.FixtureRequest, node: Node) -> Iterator[Mediator | ClusterMediator]:
    if request.param == "Mediator":
        yield node.local
        return
    with create_cluster(node.local, node_id="n", discovery="memory://", environ={}) as cluster:
        yield cluster


async def begins(node: Node, count: int = 1) -> None:
    while node.begun < count:
        await asyncio.sleep(0)


def test_it_gives_what_send_gives(mediator: Mediator | ClusterMediator) -> None:
    async def main() -> None:
        assert (await mediator.asend(Double(4))) == mediator.send(Double(4))
        told = (await mediator.asend(Tell(), timeout=20, context={"tenant": "a"})).unwrap()
        assert (told["thread"].startswith("catga-asend"), told["tenant"]) == (True, "a")

    asyncio.run(main())


def test_many_at_once_each_get_their_own(mediator: Mediator | ClusterMediator) -> None:
    async def main() -> list[int]:
        return [each.unwrap() for each in await asyncio.gather(*(mediator.asend(Double(n)) for n in range(300)))]

    assert asyncio.run(main()) == [n * 2 for n in range(300)]
    names = [each.name for each in threading.enumerate() if each.name.startswith("catga-asend")]
    assert len(names) <= 2 * module._MAX_THREADS


def test_another_node_is_asked_the_same_way() -> None:
    with three_ways(Node().local) as ways:

        async def main() -> None:
            for way, mediator in ways.items():
                batch = await asyncio.gather(*(mediator.asend(Double(n)) for n in range(20)))
                assert [each.unwrap() for each in batch] == [n * 2 for n in range(20)], way

        asyncio.run(main())
        for mediator in ways.values():
            mediator.close()


def test_the_loop_goes_on_while_a_handler_runs(node: Node, mediator: Mediator | ClusterMediator) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(mediator.asend(Wait()))
        await begins(node)
        # The handler waits for what only the loop can do.
        node.go.set()
        assert await waiting

    asyncio.run(main())


def test_context_variables_of_the_caller_are_seen(mediator: Mediator) -> None:
    async def one(name: str) -> str:
        WHO.set(name)
        return (await mediator.asend(Tell())).unwrap()["who"]

    async def main() -> list[str]:
        return list(await asyncio.gather(one("a"), one("b")))

    assert asyncio.run(main()) == ["a", "b"]


def test_the_call_around_it_bounds_it(node: Node, mediator: Mediator | ClusterMediator) -> None:
    async def main() -> None:
        token = enter_call(CallContext("r", Deadline.after(5)).with_context({"tenant": "a"}))
        try:
            told = (await mediator.asend(Tell(), timeout=50)).unwrap()
        finally:
            leave_call(token)
        assert told["tenant"] == "a"
        assert node.left is not None
        assert node.left <= 5

    asyncio.run(main())


def test_a_cancelled_task_goes_on_at_once_and_its_call_to_its_end(
    node: Node, mediator: Mediator | ClusterMediator
) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(mediator.asend(Wait()))
        await begins(node)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert node.ended == 0

    asyncio.run(main())
    node.go.set()
    until(lambda: node.ended == 1, "the call ends in its thread")


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_THREADS", 1)


@pytest.mark.usefixtures("one_thread")
def test_what_is_cancelled_while_it_waits_for_a_thread_is_not_sent(node: Node) -> None:
    async def main() -> None:
        first = asyncio.create_task(node.local.asend(Wait()))
        await begins(node)
        second = asyncio.create_task(node.local.asend(Wait(), timeout=60))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        node.go.set()
        assert await first
        assert await node.local.asend(Double(1))

    asyncio.run(main())
    assert node.begun == 1


@pytest.mark.usefixtures("one_thread")
def test_the_wait_for_a_thread_counts(node: Node, mediator: Mediator | ClusterMediator) -> None:
    async def main() -> None:
        first = asyncio.create_task(mediator.asend(Wait()))
        await begins(node)
        late = await mediator.asend(Double(1), timeout=0.01)
        assert (late.code, late.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)
        assert node.ended == 0
        node.go.set()
        assert await first

    asyncio.run(main())


@pytest.mark.usefixtures("one_thread")
def test_a_call_has_what_its_wait_has_left(node: Node) -> None:
    async def main() -> None:
        first = asyncio.create_task(node.local.asend(Wait()))
        await begins(node)
        second = asyncio.create_task(node.local.asend(Tell(), timeout=50))
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 0.05:
            await asyncio.sleep(0)
        node.go.set()
        assert await second
        assert await first
        assert node.left is not None
        assert node.left < 49.96

    asyncio.run(main())


@pytest.fixture
def other_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in another thread, as that of ``async_to_sync`` does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.parametrize("where", ["loop of its own", "other loop"])
def test_handlers_that_fill_the_threads_can_await_calls(
    node: Node,
    mediator: Mediator | ClusterMediator,
    other_loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    monkeypatch.setattr(module, "_MAX_THREADS", 2)
    node.asked = mediator
    if where == "other loop":
        node.wait_for = lambda call: asyncio.run_coroutine_threadsafe(call, other_loop).result()

    async def main() -> list[CatgaResult[int]]:
        return await asyncio.gather(*(mediator.asend(Nest(2), timeout=20) for _ in range(4)))

    assert [each.value for each in asyncio.run(main())] == [8] * 4


def test_a_chain_that_is_deeper_than_the_last_pool_shares_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEEPEST", 1)
    node.both = threading.Barrier(1)
    assert asyncio.run(node.local.asend(Nest(5))).unwrap() == 8
    assert sorted(node.local._threads._pools) == [0, 1]


def test_mistakes_are_raised_where_it_is_awaited(mediator: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="use publish"):
            await mediator.asend(Happened())
        with pytest.raises(TypeError, match=r"^timeout"):
            await mediator.asend(Double(1), timeout="2")
        with pytest.raises(TypeError, match=r"^context"):
            await mediator.asend(Double(1), context="a=1")

    asyncio.run(main())


def test_without_a_thread_it_is_a_failure_that_has_not_run(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    result = asyncio.run(node.local.asend(Double(1)))
    assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)
    assert "can't start new thread" in (result.error or "")


def threads_of(pool: Any) -> list[threading.Thread]:
    return list(pool._threads)


def test_the_threads_end_with_close(node: Node) -> None:
    with create_cluster(node.local, node_id="n", discovery="memory://", environ={}) as cluster:
        node.asked, node.both = cluster, threading.Barrier(1)
        assert asyncio.run(cluster.asend(Nest(1)))
        pools = cluster._threads._pools.values()
        threads = [each for pool in pools for each in threads_of(pool)]
        assert len(threads) == 3
    until(lambda: not any(each.is_alive() for each in threads), "the threads end")


def test_the_threads_end_with_a_mediator_that_is_dropped() -> None:
    local = Node().local
    assert asyncio.run(local.asend(Double(1)))
    threads = threads_of(local._threads._pools[0])
    del local

    def ended() -> bool:
        gc.collect()  # each time: a thread has its last call, which has the mediator, until a moment after the answer
        return not any(each.is_alive() for each in threads)

    until(ended, "the threads end")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(node: Node) -> None:
    assert asyncio.run(node.local.asend(Double(1)))
    child = os.fork()
    if child == 0:
        os._exit(0 if asyncio.run(node.local.asend(Double(2))).value == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_fake_mediator_can_be_awaited() -> None:
    fake = FakeMediator()
    fake.when(Double).returns(7)

    async def main() -> None:
        assert (await fake.asend(Double(1))).unwrap() == 7
        with pytest.raises(AssertionError, match="unexpected request"):
            await fake.asend(Tell())

    asyncio.run(main())
    fake.close()
    assert fake.sent == (Double(1), Tell())

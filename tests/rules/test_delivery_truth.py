"""Delivery is what happened to the call, and not what a behaviour says: here, at the own node and at another node."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from catga_sync.behaviors import retry_behavior
from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import BusinessError, Delivery, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, Request, message
from catga_sync.results import NEVER, RETRY, Attempt, CatgaResult
from catga_sync.testing import LocalCluster
from tests.conftest import require_module
from tests.processes import free_port
from tests.unit.serving import serving, three_ways

RUN, NOT_RUN, MAYBE = Delivery.EXECUTED, Delivery.NOT_EXECUTED, Delivery.UNKNOWN

Next = Callable[[Any], CatgaResult[Any]]
Behavior = Callable[[Next], Next]
#: Gives a client of nodes with these handlers.
Cluster = Callable[[Sequence[Mediator]], contextlib.AbstractContextManager[ClusterMediator]]


@message(name="truth.Do")
@dataclass(frozen=True)
class Do(Request[int]):
    fails: bool = True
    number: int = 0


@message(name="truth.Find")
@dataclass(frozen=True)
class Find(Query[int]):
    fails: bool = True
    number: int = 0


def sent_elsewhere(
    delivery: Delivery = NOT_RUN, code: ErrorCode | str | None = ErrorCode.UNAVAILABLE
) -> CatgaResult[Any]:
    """Return what the send of another request gives."""
    attempt = Attempt("elsewhere", 0.1, delivery, code, "nobody there")
    return CatgaResult(
        False, None, "nobody there", code, delivery, node_id="elsewhere", attempts=(attempt,), metadata={RETRY: "x"}
    )


class Ran:
    """A handler that counts its runs."""

    def __init__(self) -> None:
        self.times = 0
        self.running = threading.Event()

    def __call__(self, request: Any) -> int | CatgaResult[int]:
        self.times += 1
        self.running.set()
        return CatgaResult.failure("later", ErrorCode.UNAVAILABLE) if request.fails else 7


def handlers(ran: Ran, *behaviors: Behavior) -> Mediator:
    local = Mediator()
    local.register(Do, ran)
    local.register(Find, ran)
    for behavior in behaviors:
        local.add_behavior(behavior)
    return local


def in_thread(run: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join(30)
    return results[0]


# -- behaviours that say what is not so --------------------------------------------------------------------------------


def steps(next_: Next, request: Any) -> dict[str, Callable[[], Any]]:
    """Return what a behaviour may do with a call before it says something about it."""
    return {
        "nothing": lambda: None,
        "next": lambda: next_(request),
        "next twice": lambda: [next_(request), next_(request)],
        "next with another request": lambda: next_(replace(request, number=1)),
        "next in a thread": lambda: in_thread(lambda: next_(request)),
        "next in a thread with the context": lambda: in_thread(lambda: copy_context().run(next_, request)),
        "another request in a thread with the context": lambda: moved(next_, replace(request, number=1)),
        "another request in a thread": lambda: in_thread(lambda: next_(replace(request, number=1))),
    }


def moved(next_: Next, request: Any) -> Any:
    context = copy_context()
    return in_thread(lambda: context.run(next_, request))


STEPS = tuple(steps(lambda request: CatgaResult.success(), Do()))


def say(said: Any) -> Any:
    if isinstance(said, BaseException):
        raise said
    return said


SAID: dict[str, Callable[[], Any]] = {
    "another send's refusal": sent_elsewhere,
    "another send that may have run": lambda: sent_elsewhere(MAYBE),
    "another send that ran": lambda: sent_elsewhere(RUN),
    "a failure": lambda: CatgaResult.failure("no", "shop.closed"),
    "an error": lambda: BusinessError("no"),
    "a bug": lambda: ValueError("no"),
    "an interruption": GeneratorExit,
}


#: Each with each; every fifth of them in "make test".
BEHAVIOURS = [
    pytest.param(does, says, marks=[] if number % 5 == 0 else pytest.mark.slow)
    for number, (does, says) in enumerate(itertools.product(STEPS, SAID))
]


def behaving(does: str, says: str) -> Behavior:
    def behavior(next_: Next) -> Next:
        def handle(request: Any) -> Any:
            steps(next_, request)[does]()
            return say(SAID[says]())

        return handle

    return behavior


def expected(does: str) -> Delivery:
    # Nothing leads from a new request in a new thread to its call.
    return {"nothing": NOT_RUN, "another request in a thread": MAYBE}.get(does, RUN)


@pytest.mark.parametrize(("does", "says"), BEHAVIOURS)
def test_a_failure_tells_whether_the_handler_ran_whatever_a_behaviour_around_it_says(does: str, says: str) -> None:
    ran = Ran()
    with three_ways(handlers(ran, behaving(does, says))) as ways:
        for name, mediator in ways.items():
            for request in (Do(), Find()):
                ran.times = 0
                result = mediator.send(request)
                assert not result, name
                assert result.delivery is expected(does), name
                assert ran.times == {"nothing": 0, "next twice": 2}.get(does, 1), name
                assert result.node_id != "elsewhere"
                assert [each.node_id for each in result.attempts] == ([] if name == "the local mediator" else ["node"])


@pytest.mark.parametrize(("does", "says"), BEHAVIOURS)
def test_a_failure_of_a_send_tells_whether_the_handler_ran_whatever_a_behaviour_around_the_send_says(
    does: str, says: str
) -> None:
    ran = Ran()
    with three_ways(handlers(ran)) as ways:
        for name in ("its node", "another node", "another node in process"):
            mediator = ways[name]
            mediator.add_behavior(behaving(does, says))
            ran.times = 0
            result = mediator.send(Do())
            assert not result, name
            assert result.delivery is expected(does), name
            tries = {"nothing": 0, "next twice": 2}.get(does, 1)
            # Sent again under the same id, it is the stored response that comes from another node.
            assert ran.times == (tries if name == "its node" else min(1, tries))
            if does != "another request in a thread":
                assert [each.node_id for each in result.attempts] == ["node"] * tries


@pytest.mark.parametrize("claims", list(Delivery))
def test_a_success_was_executed_whoever_gave_it(claims: Delivery) -> None:
    def cached(next_: Next) -> Next:
        return lambda request: CatgaResult(True, 5, delivery=claims)

    ran = Ran()
    with three_ways(handlers(ran, cached)) as ways:
        for mediator in ways.values():
            result = mediator.send(Do())
            assert (result.value, result.delivery) == (5, RUN)
    with create_cluster(Mediator(), node_id="n", discovery="memory://") as node:
        node.add_behavior(cached)
        assert (node.send(Do()).value, node.send(Do()).delivery) == (5, RUN)
    assert ran.times == 0


def test_what_a_send_does_not_know_stays_unknown_whatever_a_behaviour_says() -> None:
    outcomes = iter((MAYBE, NOT_RUN))

    class Invoker:
        def invoke(self, node: Any, request: Any, **_: Any) -> CatgaResult[Any]:
            return CatgaResult.failure("no", "odd", delivery=next(outcomes))

        def close(self) -> None:
            pass

    def twice(next_: Next) -> Next:
        return lambda request: (next_(request), next_(request))[1]

    invoker: Any = Invoker()
    peers = {"a": "http://127.0.0.1:9"}
    with create_cluster(Mediator(), node_id="n", discovery="static", peers=peers, invoker=invoker) as node:
        node.add_behavior(twice)
        result = node.send(Do())
    assert result.delivery is MAYBE
    assert [each.delivery for each in result.attempts] == [MAYBE, NOT_RUN]


# -- nothing runs again that has run -----------------------------------------------------------------------------------


@contextlib.contextmanager
def over(scheme: str, locals_: Sequence[Mediator]) -> Iterator[ClusterMediator]:
    with contextlib.ExitStack() as stack:
        peers = {}
        for number, local in enumerate(locals_):
            port = free_port()
            peers[f"n{number}"] = endpoint = f"{scheme}://127.0.0.1:{port}"
            node = create_cluster(local, node_id=f"n{number}", endpoint=endpoint, discovery="memory://")
            stack.enter_context(serving(stack.enter_context(node), port))
        yield stack.enter_context(create_cluster(Mediator(), node_id="client", discovery="static", peers=peers))


@contextlib.contextmanager
def in_process(locals_: Sequence[Mediator]) -> Iterator[ClusterMediator]:
    with LocalCluster() as nodes:
        for number, local in enumerate(locals_):
            nodes.add_node(f"n{number}", local)
        yield nodes.add_client()


@pytest.fixture(params=["http", "grpc", "in process"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    if request.param == "grpc":
        require_module("grpc")
    return in_process if request.param == "in process" else partial(over, request.param)


#: With which a request is asked of another node.
retried_codes = pytest.mark.parametrize(
    "code",
    [
        ErrorCode.UNAVAILABLE,
        pytest.param(ErrorCode.RESOURCE_EXHAUSTED, marks=pytest.mark.slow),
        ErrorCode.UNIMPLEMENTED,
    ],
)


@retried_codes
def test_a_request_that_has_run_at_one_node_is_sent_to_no_other(cluster: Cluster, code: ErrorCode) -> None:
    def audited(next_: Next) -> Next:
        return lambda request: (next_(request), sent_elsewhere(NOT_RUN, code))[1]

    ran = Ran()
    with cluster([handlers(ran, audited) for _ in range(3)]) as client:
        result = client.send(Do())
        (item,) = client.send_batch([Do()])
    assert ran.times == 2
    assert (result.delivery, result.code, len(result.attempts)) == (RUN, code, 1)
    assert (item.delivery, item.code, len(item.attempts)) == (RUN, code, 1)


@pytest.mark.parametrize("make", [Do, Find])
@retried_codes
def test_what_a_behaviour_refuses_is_asked_of_no_other_node(
    cluster: Cluster, code: ErrorCode, make: Callable[[], Request[int]]
) -> None:
    asked: list[Any] = []

    def refusing(next_: Next) -> Next:
        return lambda request: (asked.append(request), sent_elsewhere(RUN, code))[1]

    ran = Ran()
    nodes = [handlers(ran, refusing) for _ in range(3)]
    with cluster(nodes) as client, create_cluster(nodes[0], node_id="own", discovery="memory://") as own:
        for result in (client.send(make()), *client.send_batch([make()]), own.send(make())):
            assert (result.delivery, result.code, len(result.attempts)) == (NOT_RUN, code, 1)
            assert result.metadata[RETRY] == NEVER
        assert len(asked) == 3
        client.add_behavior(retry_behavior(delay=0))
        assert client.send(make()).delivery is NOT_RUN
    assert len(asked) == 4
    assert ran.times == 0


@pytest.mark.parametrize("said", [NOT_RUN, MAYBE])
def test_the_retry_behaviour_does_not_repeat_a_plain_request_that_has_run(said: Delivery) -> None:
    def audited(next_: Next) -> Next:
        return lambda request: (next_(request), sent_elsewhere(said))[1]

    ran = Ran()
    with three_ways(handlers(ran, retry_behavior(attempts=5, delay=0), audited)) as ways:
        for mediator in ways.values():
            ran.times = 0
            assert mediator.send(Do()).delivery is RUN
            assert ran.times == 1
        for name in ("another node", "another node in process"):
            ways[name].add_behavior(retry_behavior(attempts=5, delay=0))
            ways[name].add_behavior(audited)
            ran.times = 0
            assert ways[name].send(Do()).delivery is RUN
            assert ran.times == 1


def test_the_retry_behaviour_repeats_what_another_behaviour_kept_from_the_handler() -> None:
    refusals = [CatgaResult.failure("busy", ErrorCode.RESOURCE_EXHAUSTED)] * 2

    def limited(next_: Next) -> Next:
        return lambda request: refusals.pop() if refusals else next_(request)

    ran = Ran()
    assert handlers(ran, retry_behavior(delay=0), limited).send(Do(fails=False)).value == 7
    assert ran.times == 1


# -- threads -----------------------------------------------------------------------------------------------------------


def test_a_call_that_was_told_not_executed_does_not_start_later() -> None:
    late: list[Callable[[], CatgaResult[Any]]] = []

    def impatient(next_: Next) -> Next:
        def handle(request: Any) -> Any:
            context = copy_context()
            late.append(lambda: context.run(next_, request))
            raise TimeoutError

        return handle

    ran = Ran()
    local = handlers(ran, impatient)
    assert local.send(Do()).delivery is NOT_RUN
    assert in_thread(late.pop()).delivery is NOT_RUN
    assert ran.times == 0


def test_a_handler_that_still_runs_when_a_behaviour_gives_up_was_executed() -> None:
    done = threading.Event()
    ran = Ran()
    threads: list[threading.Thread] = []

    def impatient(next_: Next) -> Next:
        def handle(request: Any) -> Any:
            threads.append(threading.Thread(target=next_, args=(request,)))
            threads[-1].start()
            assert ran.running.wait(30)
            raise TimeoutError

        return handle

    def slow(request: Do) -> int:
        ran(request)
        assert done.wait(30)
        return 7

    local = Mediator()
    local.register(Do, slow)
    local.add_behavior(impatient)
    try:
        assert local.send(Do()).delivery is RUN
    finally:
        done.set()
        threads[0].join(30)


def test_a_behaviour_that_runs_the_calls_of_others_leaves_each_its_own_truth() -> None:
    """One thread's call waits, and another thread's runs both, the first one's before its own or alone."""
    waiting: list[Do] = []
    ready, led = threading.Event(), threading.Event()
    ran = Ran()

    def gathering(next_: Next) -> Next:
        def handle(request: Do) -> Any:
            if request.number == 1:
                waiting.append(request)
                ready.set()
                assert led.wait(30)
            else:
                assert ready.wait(30)
                next_(waiting[0])
                led.set()
            return CatgaResult.failure("no")

        return handle

    local = handlers(ran, gathering)
    results: list[CatgaResult[Any]] = []
    follower = threading.Thread(target=lambda: results.append(local.send(Do(number=1))))
    follower.start()
    assert local.send(Do(number=2)).delivery is NOT_RUN
    follower.join(30)
    assert results[0].delivery is RUN
    assert ran.times == 1


def test_a_mark_of_a_call_that_is_over_is_not_another_call_s() -> None:
    """A thread that was started in the first call's context runs the later ones, too."""
    contexts: list[Any] = []
    ran = Ran()

    def pooled(next_: Next) -> Next:
        def handle(request: Do) -> Any:
            if not contexts:
                contexts.append(copy_context())
            in_thread(lambda: contexts[0].run(next_, replace(request, number=request.number + 1)))
            return CatgaResult.failure("no")

        return handle

    local = handlers(ran, pooled)
    assert local.send(Do()).delivery is RUN
    assert local.send(Do()).delivery is MAYBE
    assert ran.times == 2


def test_the_last_try_of_a_query_that_ran_before_takes_nothing_back() -> None:
    turns = iter((True, False))

    def second_refused(next_: Next) -> Next:
        return lambda request: next_(request) if next(turns) else sent_elsewhere()

    ran = Ran()
    local = handlers(ran, retry_behavior(attempts=2, delay=0), second_refused)
    assert local.send(Find()).delivery is RUN
    assert ran.times == 1

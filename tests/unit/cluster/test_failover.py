"""One call over several nodes: who is tried, and whether there is another try."""

from __future__ import annotations

import random
from typing import Any

import pytest

from catga_sync.cluster.failover import Failover, Plan
from catga_sync.context import CallContext
from catga_sync.deadline import Deadline
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.nodes import ClusterNode
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import Ejection
from catga_sync.results import NEVER, OTHER_NODE, RETRY, CatgaResult
from tests.tables import every_row
from tests.unit.cluster.fakes import FakeClock, ids, node

RUN, NOT_RUN, MAYBE = Delivery.EXECUTED, Delivery.NOT_EXECUTED, Delivery.UNKNOWN
A, B, C, D = (node(name, "T") for name in "abcd")
OK = CatgaResult.success(7)
QUERY, REQUEST = True, False


def failed(code: ErrorCode | str | None = ErrorCode.UNAVAILABLE, delivery: Delivery = NOT_RUN) -> CatgaResult[Any]:
    return CatgaResult.failure("no", code, delivery=delivery)


class InOrder:
    """Takes the first of what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[ClusterNode, ...]] = []
        self.told: list[tuple[str, CatgaResult[Any], float]] = []

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        self.given.append(nodes)
        return nodes[0]

    def completed(self, node: ClusterNode, message: Any, result: CatgaResult[Any], elapsed: float) -> None:
        self.told.append((node.node_id, result, elapsed))


class Call:
    """One call over the given nodes; ``answers`` are their results, one try after the other, then success."""

    def __init__(
        self,
        *answers: CatgaResult[Any] | BaseException,
        nodes: tuple[ClusterNode, ...] = (A, B, C),
        repeatable: bool = REQUEST,
        seconds: float | None = 100.0,
        takes: float = 0.0,
        router: Any = None,
        reserve: float = 10.0,
        **options: Any,
    ) -> None:
        self.clock = FakeClock()
        self.router = InOrder() if router is None else router
        self.answers = list(answers)
        self.takes = takes
        self.asked: list[str] = []
        self.times: list[float] = []
        self.waits: list[float] = []
        deadline = None if seconds is None else Deadline.after(seconds, self.clock.monotonic)
        self.ejection = Ejection(monotonic=self.clock.monotonic, rng=random.Random(1))
        self.failover = Failover(
            "me",
            self,
            self.ejection,
            RetryBudget(reserve=reserve, monotonic=self.clock.monotonic),
            **{"enabled": True, "max_retries": 2, "retry_delay": 0.1, **options},
            clock=self.clock,
            sleep=self.sleep,
            rng=random.Random(1),
        )
        self.plan = Plan("request", nodes, CallContext("r-1", deadline), self.router, repeatable)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    def send(self, node: ClusterNode, request: Any, timeout: float, call: CallContext) -> CatgaResult[Any]:
        self.asked.append(node.node_id)
        self.times.append(timeout)
        self.clock.advance(self.takes)
        answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def run(self) -> CatgaResult[Any]:
        return self.failover.run(self.plan)


# -- which results are followed by another try -------------------------------------------------------------------------

CODES = [
    # code, delivery, another try of a plain request, and of one that may run twice
    (ErrorCode.UNAVAILABLE, NOT_RUN, True, True),
    (ErrorCode.RESOURCE_EXHAUSTED, NOT_RUN, True, True),
    (ErrorCode.UNIMPLEMENTED, NOT_RUN, True, True),
    (ErrorCode.UNAVAILABLE, MAYBE, False, True),
    (ErrorCode.DEADLINE_EXCEEDED, MAYBE, False, True),
    (ErrorCode.INTERNAL, MAYBE, False, True),
    (ErrorCode.RESOURCE_EXHAUSTED, MAYBE, False, False),
    (ErrorCode.UNAVAILABLE, RUN, False, False),
    (ErrorCode.INTERNAL, RUN, False, False),
    (ErrorCode.UNKNOWN, RUN, False, False),
    (ErrorCode.FAILED_PRECONDITION, RUN, False, False),
    (ErrorCode.UNIMPLEMENTED, RUN, False, False),
    ("shop.closed", RUN, False, False),
    (None, RUN, False, False),
    (ErrorCode.INVALID_ARGUMENT, NOT_RUN, False, False),
    (ErrorCode.PERMISSION_DENIED, NOT_RUN, False, False),
    (ErrorCode.UNAUTHENTICATED, NOT_RUN, False, False),
    (ErrorCode.INTERNAL, NOT_RUN, False, False),
    (ErrorCode.FAILED_PRECONDITION, NOT_RUN, False, False),
    ("shop.closed", NOT_RUN, False, False),
    (None, NOT_RUN, False, False),
    (None, MAYBE, False, False),
]


@every_row(("code", "delivery", "again"), [(code, delivery, again) for code, delivery, again, _ in CODES])
def test_a_plain_request_is_tried_again_only_when_it_provably_did_not_run(
    code: ErrorCode | str | None, delivery: Delivery, again: bool
) -> None:
    call = Call(failed(code, delivery), repeatable=REQUEST)
    result = call.run()
    assert call.asked == (["a", "b"] if again else ["a"])
    assert result == (OK if again else failed(code, delivery))


@every_row(("code", "delivery", "again"), [(code, delivery, again) for code, delivery, _, again in CODES])
def test_a_query_is_tried_again_when_it_was_left_without_an_answer_too(
    code: ErrorCode | str | None, delivery: Delivery, again: bool
) -> None:
    call = Call(failed(code, delivery), repeatable=QUERY)
    result = call.run()
    assert call.asked == (["a", "b"] if again else ["a"])
    assert result == (OK if again else failed(code, delivery))


def test_a_query_whose_share_of_the_time_was_up_before_it_was_sent_is_tried_on_another_node() -> None:
    call = Call(failed(ErrorCode.DEADLINE_EXCEEDED, NOT_RUN), repeatable=QUERY, seconds=10.0, takes=5.0)
    assert call.run() == OK
    assert call.asked == ["a", "b"]


def test_a_success_is_the_answer_of_the_first_node() -> None:
    call = Call()
    result = call.run()
    assert (result, call.asked, call.waits) == (OK, ["a"], [])
    (attempt,) = result.attempts
    assert (attempt.node_id, attempt.delivery, attempt.code, attempt.error) == ("a", RUN, None, None)


# -- who is tried ------------------------------------------------------------------------------------------------------


def test_a_node_that_was_tried_is_not_tried_again_while_there_is_one_that_was_not() -> None:
    call = Call(failed(), failed())
    assert call.run() == OK
    assert call.asked == ["a", "b", "c"]
    assert [ids(nodes) for nodes in call.router.given] == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_the_first_choice_is_made_from_the_very_tuple_that_is_known() -> None:
    call = Call()
    call.run()
    assert call.router.given[0] is call.plan.nodes


def test_when_all_were_tried_one_of_them_gets_another_try() -> None:
    call = Call(failed(), failed(), nodes=(A, B))
    assert call.run() == OK
    assert call.asked[:2] == ["a", "b"]
    assert len(call.asked) == 3


def test_the_only_node_gets_further_tries_after_a_wait() -> None:
    call = Call(failed(), failed(), nodes=(A,))
    assert call.run() == OK
    assert call.asked == ["a", "a", "a"]
    assert len(call.waits) == 2


def test_the_only_node_is_not_asked_twice_for_a_handler_it_has_not() -> None:
    call = Call(failed(ErrorCode.UNIMPLEMENTED), nodes=(A,))
    assert call.run().code is ErrorCode.UNIMPLEMENTED
    assert call.asked == ["a"]


def test_only_one_other_node_is_asked_for_a_handler_that_one_has_not() -> None:
    call = Call(*[failed(ErrorCode.UNIMPLEMENTED)] * 3)
    assert call.run().code is ErrorCode.UNIMPLEMENTED
    assert call.asked == ["a", "b"]


def test_a_query_that_is_left_without_an_answer_goes_to_two_nodes_and_no_more() -> None:
    call = Call(*[failed(delivery=MAYBE)] * 5, nodes=(A, B, C, D), repeatable=QUERY, max_retries=9)
    result = call.run()
    assert call.asked == ["a", "b"]
    assert result.delivery is MAYBE


def test_a_query_that_is_left_without_an_answer_is_not_sent_to_the_same_node_again() -> None:
    call = Call(failed(delivery=MAYBE), nodes=(A,), repeatable=QUERY)
    assert call.run() == failed(delivery=MAYBE)
    assert call.asked == ["a"]


@pytest.mark.parametrize(
    ("retry", "nodes", "asked"),
    [(NEVER, (A, B, C), ["a"]), (OTHER_NODE, (A, B), ["a", "b"]), (OTHER_NODE, (A,), ["a"])],
)
def test_a_refusal_that_cannot_pass_is_not_asked_for_again(
    retry: str, nodes: tuple[ClusterNode, ...], asked: list[str]
) -> None:
    refused = failed(ErrorCode.RESOURCE_EXHAUSTED)._with(metadata={RETRY: retry})
    call = Call(refused, refused, refused, nodes=nodes)
    assert call.run().code is ErrorCode.RESOURCE_EXHAUSTED
    assert call.asked == asked


# -- how many tries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "tries"), [(0, 1), (1, 2), (2, 3), (5, 4)])
def test_there_are_as_many_tries_as_allowed(retries: int, tries: int) -> None:
    call = Call(*[failed()] * 3, nodes=(A, B, C, D), max_retries=retries)
    assert call.run().is_success is (tries == 4)
    assert call.asked == ["a", "b", "c", "d"][:tries]


def test_without_failover_the_first_try_is_the_only_one() -> None:
    call = Call(failed(), repeatable=QUERY, enabled=False)
    assert call.run() == failed()
    assert call.asked == ["a"]


def test_further_tries_are_paid_from_a_budget_that_all_calls_share() -> None:
    call = Call(failed(), reserve=0.0)
    assert call.run() == failed()
    assert call.asked == ["a"]


@pytest.mark.parametrize("answers", [[failed()], [failed(), failed()]])
def test_every_try_is_in_the_result_in_order(answers: list[CatgaResult[Any]]) -> None:
    call = Call(*answers, takes=0.25)
    attempts = call.run().attempts
    assert [attempt.node_id for attempt in attempts] == call.asked
    assert [attempt.delivery for attempt in attempts] == [NOT_RUN] * len(answers) + [RUN]
    assert [attempt.code for attempt in attempts] == [ErrorCode.UNAVAILABLE] * len(answers) + [None]
    assert [attempt.error for attempt in attempts] == ["no"] * len(answers) + [None]
    assert [attempt.elapsed for attempt in attempts] == pytest.approx([0.25] * len(attempts))


# -- what is known in the end ------------------------------------------------------------------------------------------


def test_a_later_try_that_did_not_run_takes_nothing_back_of_an_earlier_one_that_may_have() -> None:
    call = Call(failed(delivery=MAYBE), *[failed()] * 3, repeatable=QUERY)
    result = call.run()
    assert result.delivery is MAYBE
    assert [attempt.delivery for attempt in result.attempts] == [MAYBE, NOT_RUN, NOT_RUN]


def test_a_later_answer_is_an_answer_whatever_became_of_an_earlier_try() -> None:
    call = Call(failed(delivery=MAYBE), failed("shop.closed", RUN), repeatable=QUERY)
    assert call.run() == failed("shop.closed", RUN)


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_first_other_node_is_tried_at_once_and_the_next_ones_after_a_wait() -> None:
    call = Call(*[failed()] * 4, nodes=(A, B, C, D), max_retries=9, retry_delay=0.1)
    call.run()
    assert call.asked[:4] == ["a", "b", "c", "d"]
    assert len(call.waits) == len(call.asked) - 2
    assert all(0 <= wait <= 0.25 for wait in call.waits)
    assert call.waits[0] <= 0.2


def test_no_wait_is_longer_than_a_quarter_of_a_second() -> None:
    call = Call(*[failed()] * 50, nodes=(A,), max_retries=50, retry_delay=60.0)
    call.run()
    assert len(call.waits) > 10
    assert max(call.waits) <= 0.25


@pytest.mark.parametrize(("left", "again"), [(0.5, True), (0.051, True), (0.049, False), (0.0, False), (-1.0, False)])
def test_another_try_is_made_only_when_there_is_time_for_it(left: float, again: bool) -> None:
    call = Call(failed(), seconds=10.0, takes=10.0 - left)
    assert call.run().is_success is again
    assert len(call.asked) == 1 + again


def test_all_tries_share_the_time_of_the_call() -> None:
    call = Call(failed(), seconds=10.0, takes=4.0)
    call.run()
    assert call.times == pytest.approx([10.0, 6.0])


def test_a_query_keeps_half_of_its_time_for_another_node() -> None:
    call = Call(failed(ErrorCode.DEADLINE_EXCEEDED, MAYBE), repeatable=QUERY, seconds=10.0, takes=5.0)
    call.run()
    assert call.times[0] == 5.0
    assert 4.5 <= call.times[1] <= 5.0


def test_a_query_that_no_other_node_can_follow_has_all_the_time_that_is_left() -> None:
    call = Call(failed(), nodes=(A, B), repeatable=QUERY, seconds=10.0)
    call.run()
    assert call.times == [5.0, 10.0]


def test_the_last_try_has_all_the_time_that_is_left() -> None:
    call = Call(failed(), failed(), nodes=(A, B, C, D), repeatable=QUERY, seconds=10.0)
    call.run()
    assert call.times[:2] == [5.0, 5.0]
    assert call.times[2] > 9.0


@pytest.mark.parametrize(
    "changes",
    [{"repeatable": REQUEST}, {"nodes": (A,)}, {"enabled": False}, {"max_retries": 0}],
    ids=["plain request", "only node", "no failover", "no retries"],
)
def test_who_has_no_other_node_to_go_to_has_all_the_time(changes: dict[str, Any]) -> None:
    call = Call(**{"repeatable": QUERY, "seconds": 10.0, **changes})
    call.run()
    assert call.times == [10.0]


def test_a_call_without_a_deadline_may_be_tried_again() -> None:
    call = Call(failed(), seconds=None)
    assert call.run() == OK
    assert call.asked == ["a", "b"]


# -- routers -----------------------------------------------------------------------------------------------------------


def test_a_router_is_told_of_every_try_once_with_its_result_and_time() -> None:
    call = Call(failed(), takes=0.5)
    call.run()
    assert [(name, result.is_success) for name, result, _ in call.router.told] == [("a", False), ("b", True)]
    assert [elapsed for _, _, elapsed in call.router.told] == pytest.approx([0.5, 0.5])


def test_a_router_that_counts_what_runs_is_told_of_a_try_that_was_cut_short() -> None:
    call = Call(SystemExit())
    with pytest.raises(SystemExit):
        call.run()
    ((name, result, _),) = call.router.told
    assert (name, result.is_success, result.delivery) == ("a", False, MAYBE)


class Broken(InOrder):
    """Fails in one way, from the given choice on."""

    def __init__(self, answer: Any, after: int = 0) -> None:
        super().__init__()
        self.answer = answer
        self.after = after

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        if len(self.given) < self.after:
            return super().route(message, nodes)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


@pytest.mark.parametrize("answer", [ValueError("oops"), None, "a", node("stranger", "T")], ids=repr)
def test_a_router_that_fails_is_a_failed_call_that_did_not_run(answer: Any) -> None:
    call = Call(router=Broken(answer))
    result = call.run()
    assert (result.code, result.delivery) == (ErrorCode.INTERNAL, NOT_RUN)
    assert result.error.startswith("router: ")
    assert call.asked == []


def test_a_router_that_fails_later_takes_nothing_back_of_what_may_have_run() -> None:
    call = Call(failed(delivery=MAYBE), repeatable=QUERY, router=Broken(ValueError("oops"), after=1))
    result = call.run()
    assert result.delivery is MAYBE
    assert [attempt.node_id for attempt in result.attempts] == ["a"]


def test_a_router_need_not_want_to_be_told() -> None:
    class Plain:
        def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
            return nodes[-1]

    call = Call(router=Plain())
    assert call.run() == OK
    assert call.asked == ["c"]


def test_a_router_that_fails_when_it_is_told_spoils_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(InOrder):
        def completed(self, *told: Any) -> None:
            raise ValueError("oops")

    assert Call(router=Deaf()).run() == OK
    assert "oops" in caplog.text


# -- what is learnt ----------------------------------------------------------------------------------------------------


def test_a_node_that_has_refused_is_not_the_first_one_tried_next_time() -> None:
    call = Call(failed())
    call.run()
    call.plan = Plan("request", call.plan.nodes, call.plan.call, call.router, REQUEST)
    call.asked.clear()
    call.run()
    assert call.asked == ["b"]


def test_nothing_is_learnt_of_other_nodes_from_what_happens_here() -> None:
    me = ClusterNode("me", "http://me:1", handles={"T"})
    call = Call(failed(), nodes=(me, B))
    call.run()
    assert call.asked == ["me", "b"]
    assert call.ejection.usable((me, B)) == (me, B)

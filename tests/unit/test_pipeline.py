"""Whatever user code does, a chain returns a result."""

import enum
import logging
from datetime import date, datetime

import pytest

from catga_sync import pipeline
from catga_sync.errors import BusinessError, CallError, Delivery, ErrorCode, HandlerFailed, NetworkError
from catga_sync.pipeline import MAX_ERROR_TEXT, handler_step, limit_text
from catga_sync.results import CatgaResult
from tests.tables import every_row
from tests.unit.ending import ended_by_server

SECRET = "password=hunter2 /srv/app/secret.py"


def run(function, check=None, answers_none=True):
    return handler_step(function, "the.Type", check, answers_none)(None)


def build_chain(innermost, behaviors, name, *, answers_none=True):
    return pipeline.build_chain(innermost, behaviors, name, lambda request: answers_none)


def raising(error):
    def handler(request):
        raise error

    return handler


def test_a_value_becomes_a_success():
    result = run(lambda request: 7, (int,))
    assert result == CatgaResult.success(7)
    assert result.processing_time_ms >= 0


@pytest.mark.parametrize("check", [None, (int,), (type(None),)])
def test_none_is_a_success_where_the_type_of_the_answer_allows_it(check):
    assert run(lambda request: None, check) == CatgaResult.success(None)


@every_row("answer", [None, CatgaResult.success(None)], ids=["None", "a result of None"])
@every_row(("check", "named"), [((int,), "int"), ((float, int), "float or int"), ((list,), "list")])
def test_none_is_a_fault_of_the_handler_where_the_type_of_the_answer_does_not_allow_it(answer, check, named):
    result = run(lambda request: answer, check, answers_none=False)
    text = f"the handler of the.Type returned None, not {named}; add a return, or make the response type Optional"
    assert result == CatgaResult.failure(text, ErrorCode.INTERNAL)
    assert result.delivery is Delivery.EXECUTED


def test_a_failure_has_no_value_and_needs_none():
    failed = CatgaResult.failure("no")
    assert run(lambda request: failed, (int,), answers_none=False) == failed


def test_an_answer_of_a_subclass_fits():
    class Text(str):
        pass

    assert run(lambda request: Text("x"), (str,)) == CatgaResult.success("x")


class Centigrade(float):
    pass


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    ("value", "check"), [(Centigrade(21.5), (float, int)), (Level.LOW, (int,)), (Level.LOW, (float, int))]
)
def test_a_number_of_a_class_of_its_own_is_a_number(value, check):
    assert run(lambda request: value, check) == CatgaResult.success(value)


@pytest.mark.parametrize(
    ("value", "check"),
    [(True, (int,)), (False, (float, int)), (datetime(2026, 1, 31), (date,))],  # noqa: DTZ001
)
def test_what_is_a_subclass_in_python_only_does_not(value, check):
    for answer in (value, CatgaResult.success(value)):
        assert run(lambda request, answer=answer: answer, check).code is ErrorCode.INTERNAL


def test_an_answer_of_another_type_is_a_fault_of_the_handler(caplog):
    result = run(lambda request: SECRET, (int, float))
    assert result == CatgaResult.failure("the handler of the.Type returned str, not int or float", ErrorCode.INTERNAL)
    assert SECRET not in caplog.text
    assert "layer=serialization" in caplog.text


def test_a_result_is_returned_as_the_handler_s_own():
    mine = CatgaResult.success(7, metadata={"cache": "hit"})
    result = run(lambda request: mine, (int,))
    assert result == mine
    assert dict(result.metadata) == {"cache": "hit"}
    assert run(lambda request: CatgaResult.failure("no", "mine")) == CatgaResult.failure("no", "mine")


def test_a_result_with_a_value_of_another_type_is_a_fault_too():
    result = run(lambda request: CatgaResult.success("7"), (int,))
    assert (result.code, result.error) == (ErrorCode.INTERNAL, "the handler of the.Type returned str, not int")


def test_a_result_that_came_from_another_node_becomes_the_handler_s_own():
    relayed = CatgaResult(
        False, None, "down", ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED, request_id="r-1", node_id="node-9"
    )
    result = run(lambda request: relayed)
    assert result.delivery is Delivery.EXECUTED
    assert (result.node_id, result.attempts) == (None, ())
    assert result.request_id != "r-1"
    assert (result.error, result.code) == ("down", ErrorCode.UNAVAILABLE)


@every_row(
    ("error", "code"),
    [
        (BusinessError("sold out"), ErrorCode.FAILED_PRECONDITION),
        (BusinessError("sold out", code="shop.sold_out"), "shop.sold_out"),
        (BusinessError("sold out", code="NOT_FOUND"), ErrorCode.NOT_FOUND),
        (CallError("sold out"), ErrorCode.UNKNOWN),
        (HandlerFailed("sold out"), ErrorCode.UNKNOWN),
        (NetworkError("sold out", delivery=Delivery.NOT_EXECUTED), ErrorCode.UNAVAILABLE),
    ],
)
def test_a_call_error_answers_with_its_text_and_code(error, code):
    assert run(raising(error)) == CatgaResult.failure("sold out", code)


@pytest.mark.parametrize("error", [ValueError(SECRET), OSError(2, SECRET), RecursionError(SECRET), SystemExit(SECRET)])
def test_the_text_of_any_other_exception_stays_in_the_log(error, caplog):
    result = run(raising(error))
    assert (result.code, result.delivery) == (ErrorCode.UNKNOWN, Delivery.EXECUTED)
    assert "the.Type" in result.error
    assert SECRET not in repr(result)
    assert SECRET not in str(dict(result.metadata))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info[1] is error


def test_what_the_server_raises_to_end_the_process_is_not_caught():
    with ended_by_server() as handler, pytest.raises(SystemExit):
        run(handler)


def test_an_error_text_has_512_characters_at_most():
    long = "x" * (MAX_ERROR_TEXT + 1)
    assert MAX_ERROR_TEXT == 512
    assert limit_text("x" * 512) == "x" * 512
    assert len(limit_text(long)) == 512
    assert limit_text(long).endswith("x…")
    assert run(raising(BusinessError(long))).error == limit_text(long)
    assert run(lambda request: CatgaResult.failure(long)).error == limit_text(long)


def named(name, seen):
    def behavior(next_):
        def handle(request):
            seen.append(f"{name} in")
            result = next_(request)
            seen.append(f"{name} out")
            return result

        return handle

    return behavior


def test_the_first_behaviour_is_the_outermost():
    seen = []
    chain = build_chain(
        handler_step(lambda request: seen.append("handler"), "T", None, True), [named("a", seen), named("b", seen)], "T"
    )
    assert chain(None) == CatgaResult.success(None)
    assert seen == ["a in", "b in", "handler", "b out", "a out"]


def test_without_behaviours_the_chain_is_the_handler_itself():
    step = handler_step(lambda request: 1, "T", None, True)
    assert build_chain(step, [], "T") is step


def test_a_behaviour_may_answer_in_the_handler_s_place():
    ran = []
    cached = build_chain(
        handler_step(ran.append, "T", None, True), [lambda next_: lambda request: CatgaResult.success(5)], "T"
    )
    assert cached(None).value == 5
    assert ran == []


def test_a_plain_value_of_a_behaviour_is_an_answer_too():
    assert build_chain(handler_step(print, "T", None, True), [lambda next_: lambda request: 5], "T")(None).value == 5


def test_a_behaviour_that_raises_is_a_failed_call_like_any_other(caplog):
    def broken(next_):
        return raising(ValueError(SECRET))

    result = build_chain(handler_step(lambda request: 1, "T", None, True), [broken], "T")(None)
    assert result.code is ErrorCode.UNKNOWN
    assert SECRET not in repr(result)
    assert SECRET in caplog.text


def test_an_outer_behaviour_sees_the_failure_of_an_inner_one_as_a_result():
    seen = []

    def outer(next_):
        def handle(request):
            result = next_(request)
            seen.append(result.code)
            return result

        return handle

    def inner(next_):
        return raising(BusinessError("no", code="mine"))

    build_chain(handler_step(lambda request: 1, "T", None, True), [outer, inner], "T")(None)
    assert seen == ["mine"]


@pytest.mark.parametrize("error", [BusinessError("not you", code="PERMISSION_DENIED"), ValueError("x")])
def test_a_handler_that_a_raising_behaviour_kept_from_running_was_not_executed(error):
    ran = []
    chain = build_chain(handler_step(ran.append, "T", None, True), [lambda next_: raising(error)], "T")
    assert chain(None).delivery is Delivery.NOT_EXECUTED
    assert ran == []


def test_a_behaviour_that_raises_after_the_handler_ran_says_that_it_ran():
    def audit(next_):
        def handle(request):
            next_(request)
            raise ValueError("disk full")

        return handle

    assert (
        build_chain(handler_step(lambda request: 1, "T", None, True), [audit], "T")(None).delivery is Delivery.EXECUTED
    )


@pytest.mark.parametrize("failed", [None, CatgaResult.failure("no")], ids=["a success", "a failure"])
def test_a_behaviour_that_forgets_to_return_is_a_fault_that_says_so(failed):
    def forgetful(next_):
        def handle(request):
            next_(request)

        return handle

    step = handler_step(lambda request: failed or 1, "T", (int,), False)
    result = build_chain(step, [forgetful], "T", answers_none=False)(None)
    text = "a behaviour around T returned None; have it return next_(request), or a result"
    assert result == CatgaResult.failure(text, ErrorCode.INTERNAL)


def test_a_behaviour_that_forgets_to_return_before_the_handler_ran_says_that_it_did_not():
    chain = build_chain(
        handler_step(print, "T", None, True), [lambda next_: lambda request: None], "T", answers_none=False
    )
    assert (chain(None).code, chain(None).delivery) == (ErrorCode.INTERNAL, Delivery.NOT_EXECUTED)


def test_none_is_the_answer_of_a_behaviour_where_the_type_allows_it():
    chain = build_chain(handler_step(print, "T", None, True), [lambda next_: lambda request: None], "T")
    assert chain(None) == CatgaResult.success(None)

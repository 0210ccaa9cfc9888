"""Local sends: what is unusual about a response is judged once the handler has run, and it runs once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from catga_sync import CatgaResult, Delivery, ErrorCode, Mediator, Request, create_cluster
from catga_sync.results import Attempt
from tests.tables import every_row


@dataclass(frozen=True)
class Numbers:
    found: list[int]


@dataclass(frozen=True)
class Ask(Request[Numbers]):
    text: str


class More(list[int]):
    """A list that JSON makes a plain one of."""


class Own(CatgaResult[Any]):
    """A result class of the application's own."""


USUAL = Numbers([1])


@every_row(
    "response, code",
    [
        (USUAL, None), (Numbers(More([1])), None), (CatgaResult.success(USUAL), None), (Numbers(["1"]), "INTERNAL"),
        (None, "INTERNAL"), ("1", "INTERNAL"), (CatgaResult.failure("no", "OWN"), "OWN"),
    ],
)  # fmt: skip
def test_a_handler_runs_once_whatever_it_returns(response: Any, code: str | None) -> None:
    mediator, seen = Mediator(), []

    def answer(request: Ask) -> Any:
        seen.append(request)
        return response

    mediator.register(Ask, answer)
    result = mediator.send(Ask("tea"))
    assert seen == [Ask("tea")]
    assert (result.code and str(result.code), result.value) == (code, None if code else USUAL)
    assert not result.value or type(result.value.found) is list
    assert result.delivery is Delivery.EXECUTED
    assert result.processing_time_ms > 0


@dataclass(frozen=True)
class Do(Request[None]):
    text: str


@dataclass(frozen=True)
class Find(Request[Any]):
    text: str


def calls_of_a_send(request: Request[Any], handler: Callable[[Any], Any]) -> int:
    mediator, calls = Mediator(), []
    mediator.register(type(request), handler)
    mediator.send(request).unwrap()
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code) if event == "call" else None)
    try:
        mediator.send(request)
    finally:
        sys.setprofile(None)
    return len(calls)


def test_each_kind_of_response_goes_a_short_way() -> None:
    assert calls_of_a_send(Do("x"), lambda request: None) <= 6
    assert calls_of_a_send(Find("x"), lambda request: 7) <= 9


def test_a_request_that_changes_in_json_reaches_the_handler_as_it_would_over_the_wire() -> None:
    mediator, seen = Mediator(), []

    def answer(request: Ask) -> Numbers:
        seen.append(type(request.text))
        return USUAL

    mediator.register(Ask, answer)
    assert mediator.send(Ask(type("Text", (str,), {})("tea"))).value == USUAL
    assert mediator.send(Ask(1)).code is ErrorCode.INVALID_ARGUMENT  # type: ignore[arg-type]
    assert seen == [str]


def test_a_result_of_a_class_of_the_applications_own_is_no_response() -> None:
    def behavior(next_: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda request: Own(True, next_(request).value)

    mediator = Mediator()
    mediator.register(Ask, lambda request: USUAL)
    mediator.add_behavior(behavior)
    result = mediator.send(Ask("tea"))
    assert (type(result), result.value) == (CatgaResult, USUAL)


def test_the_attempt_of_a_local_send_in_a_cluster_stays_what_it_was() -> None:
    local = Mediator()
    local.register(Ask, lambda request: USUAL)
    with create_cluster(local, node_id="alone", discovery="memory://steps", environ={}) as alone:
        alone.nodes()
        result = alone.send(Ask("tea"))
    changed = result._with(node_id="other", error="changed", delivery=Delivery.UNKNOWN)
    (attempt,) = result.attempts
    assert changed.attempts == (attempt,) == (Attempt("alone", attempt.elapsed, Delivery.EXECUTED),)
    assert result.attempts[0] is attempt
    assert result.processing_time_ms == attempt.elapsed * 1e3

"""Every line about a call has the id that the caller's result has, and the trace that it is part of."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import BusinessError, CatgaResult, ClusterMediator, Mediator, Request
from catga_sync.behaviors import logging_behavior, timing_behavior
from catga_sync.context import current_call
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.routes import INVOKE_PATH
from tests.unit.serving import three_ways

IDS = re.compile(r"request_id=(\S+) trace_id=(\S+)")

Ways = Mapping[str, Mediator | ClusterMediator]


@dataclass(frozen=True)
class Ask(Request[int]):
    how: str = ""


@dataclass(frozen=True)
class Outer(Request[int]):
    how: str = ""


def answer(request: Ask) -> Any:
    if request.how == "refuse":
        raise BusinessError("no")
    if request.how == "crash":
        raise ValueError("no")
    return {"": 7, "forget": None, "wrong": "7", "long": 10**5000}[request.how]


HOW = ["", "refuse", "crash", "forget", "wrong", "long"]


def wired(*behaviors: Any) -> Mediator:
    local = Mediator()
    local.register(Ask, answer)
    local.register(Outer, lambda request: local.send(Ask(request.how)))
    for behavior in behaviors:
        local.add_behavior(behavior)
    return local


def ids_of(caplog: pytest.LogCaptureFixture) -> set[tuple[str, str]]:
    return {match for record in caplog.records for match in IDS.findall(record.getMessage())}


@pytest.fixture
def ways() -> Iterator[Ways]:
    with three_ways(wired(logging_behavior())) as made:
        yield made


@pytest.mark.parametrize("how", HOW)
def test_every_line_has_the_id_of_the_result_here_and_there(
    ways: Ways, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for mediator in ways.values():
        caplog.clear()
        with caplog.at_level(logging.INFO, "catga_sync"):
            result = mediator.send(Ask(how))
        assert ids_of(caplog) == {(result.request_id, result.request_id)}
        assert all("_id=-" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("how", HOW)
def test_a_nested_call_has_an_id_of_its_own_and_the_trace_of_the_first(
    ways: Ways, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for mediator in ways.values():
        caplog.clear()
        with caplog.at_level(logging.INFO, "catga_sync"):
            result = mediator.send(Outer(how))
        found = ids_of(caplog)
        assert len(found) == 2
        assert (result.request_id, result.request_id) in found
        assert {trace for _, trace in found} == {result.request_id}


@pytest.mark.parametrize("how", HOW)
def test_a_batch_is_one_trace_and_each_of_its_items_has_an_id(
    ways: Ways, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("its node", "another node"):
        caplog.clear()
        with caplog.at_level(logging.INFO, "catga_sync"):
            results = ways[name].send_batch([Ask(how), Ask(how), Ask()])
        assert {request for request, _ in ids_of(caplog)} == {result.request_id for result in results}
        assert len({trace for _, trace in ids_of(caplog)}) == 1


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("timeout", [None, 30.0])
def test_without_the_behaviour_a_failure_is_logged_under_the_id_of_the_result_too(
    how: str, timeout: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    mediator = wired()
    with caplog.at_level(logging.INFO, "catga_sync"):
        result = mediator.send(Ask(how), timeout=timeout)
    assert ids_of(caplog) == ({(result.request_id, result.request_id)} if how else set())


def test_a_local_send_makes_no_id_that_nobody_asks_for() -> None:
    seen: list[Any] = []
    mediator = Mediator()
    mediator.register(Ask, lambda request: seen.append(current_call()) or 7)
    assert mediator.send(Ask())._request_id is None
    assert seen == [None]


def test_a_local_send_in_a_call_is_a_call_of_its_own() -> None:
    seen: list[Any] = []
    local = Mediator()
    local.register(Ask, lambda request: seen.append(current_call()) or 7)

    @local.handler
    def outer(request: Outer) -> CatgaResult[int]:
        seen.append(current_call())
        result = local.send(Ask())
        assert result.request_id == seen[-1].request_id
        return result

    result = local.send(Outer(), timeout=30)
    first, second = seen
    assert first.request_id == result.request_id != second.request_id
    assert second.trace_id == first.trace_id
    assert second.deadline is first.deadline


def test_what_a_behaviour_reads_of_a_result_is_the_id_that_the_caller_gets() -> None:
    seen: list[str] = []

    def peeking(next_: Callable[[Any], CatgaResult[Any]]) -> Callable[[Any], CatgaResult[Any]]:
        def handle(request: Any) -> CatgaResult[Any]:
            result = next_(request)
            seen.append(result.request_id)
            return result

        return handle

    observe = timing_behavior(lambda request, result, seconds: seen.append(result.request_id))
    with three_ways(wired(observe, peeking)) as ways:
        for name in ("its node", "another node"):
            ways[name].add_behavior(peeking)
        for how in HOW:
            for mediator in ways.values():
                seen.clear()
                result = mediator.send(Ask(how))
                assert set(seen) == {result.request_id}


@pytest.mark.parametrize("traceparent", [None, "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "forged\nline"])
def test_a_refusal_is_logged_with_the_ids_that_came(
    ways: Ways, traceparent: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"catga-request-id": "r-1", **({} if traceparent is None else {"traceparent": traceparent})}
    node = ways["its node"]
    assert isinstance(node, ClusterMediator)
    node.receiver.handle(RawRequest("GET", INVOKE_PATH, headers, lambda size: b"", 0))
    (message,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("refused: ")]
    ((request, trace),) = IDS.findall(message)
    assert request == "r-1"
    assert re.fullmatch("[0-9a-f]{32}", trace)
    assert (trace == "a" * 32) is (traceparent is not None and traceparent.startswith("00-"))

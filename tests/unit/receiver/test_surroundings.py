"""What a framework puts around a call: when there is some, what it is told, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest

from catga_sync.errors import BusinessError, Delivery, ErrorCode
from catga_sync.pipeline import failure_of
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.results import CatgaResult
from tests.tables import every_row

REQUEST: ContextVar[str] = ContextVar("request")
MARK: ContextVar[str] = ContextVar("mark", default="none")


class Recorder:
    """A scope that writes down what happens to it."""

    def __init__(self, log: list[Any], *, here: bool = False, entering: Any = None, leaving: Any = None) -> None:
        self.log = log
        self.here = here
        self.entering = entering
        self.leaving = leaving
        self.hidden = (REQUEST,)

    def present(self) -> bool:
        return self.here

    @contextmanager
    def enter(self) -> Iterator[None]:
        if self.entering is not None:
            raise self.entering
        self.log.append("in")
        try:
            yield
        except Exception as exc:
            self.log.append(exc)
            raise
        finally:
            self.log.append("out")
            if self.leaving is not None:
                raise self.leaving


class Inner(Recorder):
    """Another class of scope."""


def around(*scopes: Recorder) -> Surroundings:
    made = Surroundings()
    for scope in scopes:
        made.add(scope)
    return made


def ways(surroundings: Surroundings) -> list[Callable[..., CatgaResult[Any]]]:
    return [surroundings.run_received, surroundings.run_here]


def success() -> CatgaResult[Any]:
    return CatgaResult.success(7)


@pytest.mark.parametrize("way", [0, 1], ids=["received", "here"])
def test_a_call_runs_within_its_scope(way: int) -> None:
    log: list[Any] = []
    run = ways(around(Recorder(log)))[way]
    assert run(lambda: log.append("run") or success(), "shop.Buy").value == 7  # type: ignore[func-returns-value]
    assert log == ["in", "run", "out"]


def test_a_call_from_another_node_has_a_scope_of_its_own_and_one_from_here_uses_what_is_there() -> None:
    log: list[Any] = []
    received, here = ways(around(Recorder(log, here=True)))
    here(success, "shop.Buy")
    assert log == []
    received(success, "shop.Buy")
    assert log == ["in", "out"]


def test_a_call_from_another_node_does_not_see_the_request_and_keeps_every_other_variable() -> None:
    seen: list[Any] = []

    def run() -> CatgaResult[Any]:
        seen.append((REQUEST.get("no request"), MARK.get()))
        MARK.set("of the call")
        return success()

    request, mark = REQUEST.set("GET /"), MARK.set("of the server")
    try:
        around(Recorder([])).run_received(run, "shop.Buy")
        assert seen == [("no request", "of the server")]
        assert MARK.get() == "of the server"
        assert REQUEST.get() == "GET /"
    finally:
        REQUEST.reset(request)
        MARK.reset(mark)


def test_what_a_call_leaves_in_a_variable_ends_with_it_where_there_is_no_scope_either() -> None:
    def run() -> CatgaResult[Any]:
        MARK.set("of the call")
        return success()

    Surroundings().run_received(run, "shop.Buy")
    assert MARK.get() == "none"


@pytest.mark.parametrize("way", [0, 1], ids=["received", "here"])
def test_a_scope_is_told_of_a_failure_as_unwrap_would_tell_it(way: int) -> None:
    log: list[Any] = []
    failure: CatgaResult[Any] = CatgaResult.failure("sold out", "SOLD_OUT")
    assert ways(around(Recorder(log)))[way](lambda: failure, "shop.Buy") is failure
    assert [type(each) for each in log] == [str, BusinessError, str]
    assert str(log[1]) == "sold out"


@pytest.mark.parametrize("way", [0, 1], ids=["received", "here"])
def test_a_scope_is_told_what_the_handler_has_raised(way: int) -> None:
    log: list[Any] = []
    raised = KeyError("a bug")
    ways(around(Recorder(log)))[way](lambda: failure_of(raised, "shop.Buy"), "shop.Buy")
    assert log == ["in", raised, "out"]


@pytest.mark.parametrize("way", [0, 1], ids=["received", "here"])
def test_an_error_on_the_way_in_is_a_call_that_did_not_run(way: int) -> None:
    log: list[Any] = []
    broken = around(Recorder(log), Inner(log, entering=OSError("no database at 10.0.0.1")))
    result = ways(broken)[way](lambda: pytest.fail("it ran"), "shop.Buy")
    assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.NOT_EXECUTED)
    assert "shop.Buy" in (result.error or "")
    assert "10.0.0.1" not in (result.error or "")
    assert [str(each) for each in log] == ["in", "no database at 10.0.0.1", "out"]


@every_row("way", [0, 1], ids=["received", "here"])
@every_row("error", [OSError("cut"), BusinessError("too late"), KeyError()])
def test_an_error_on_the_way_out_fails_a_call_that_had_succeeded(way: int, error: Exception) -> None:
    """A commit may happen there: what did not become true must not be told as a success."""
    result = ways(around(Recorder([], leaving=error)))[way](success, "shop.Buy")
    assert not result.is_success
    assert result.delivery is Delivery.EXECUTED


def test_an_error_on_the_way_out_of_a_failed_call_changes_nothing() -> None:
    failure: CatgaResult[Any] = CatgaResult.failure("sold out")
    assert around(Recorder([], leaving=OSError("cut"))).run_received(lambda: failure, "shop.Buy") is failure


def test_scopes_of_the_same_class_replace_each_other_and_others_stand_side_by_side() -> None:
    first: list[Any] = []
    second: list[Any] = []
    inner: list[Any] = []
    around(Recorder(first), Inner(inner), Recorder(second)).run_received(success, "shop.Buy")
    assert (first, second, inner) == ([], ["in", "out"], ["in", "out"])


def test_what_the_receiver_itself_raises_passes_through() -> None:
    def run() -> CatgaResult[Any]:
        raise LookupError("a fault of ours")

    with pytest.raises(LookupError, match="a fault of ours"):
        around(Recorder([])).run_received(run, "shop.Buy")


class Swallows(Recorder):
    """A scope that takes every error for handled."""

    @contextmanager
    def enter(self) -> Iterator[None]:
        with suppress(Exception):
            yield


@pytest.mark.parametrize("way", [0, 1], ids=["received", "here"])
def test_a_call_does_not_run_without_a_scope_whose_error_another_one_has_swallowed(
    way: int, caplog: pytest.LogCaptureFixture
) -> None:
    broken = around(Swallows([]), Inner([], entering=OSError("no database")))
    result = ways(broken)[way](lambda: pytest.fail("it ran"), "shop.Buy")
    assert (result.code, result.delivery) == (ErrorCode.INTERNAL, Delivery.NOT_EXECUTED)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["no database"]

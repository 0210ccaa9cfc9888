"""The checker of ledgers finds what it is there to find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.ledger import Execution, Verdict, append, check, executions, verdicts

RUN = Execution("id-1", "one", "run-1", "a", 1, 10.0)
TOLD = Verdict(
    text="one",
    kind="plain",
    request_id="id-1",
    success=True,
    delivery="EXECUTED",
    code=None,
    error=None,
    execution="run-1",
    node="a",
    attempts=(("a", "EXECUTED", None),),
    due=9.9,
    sent=9.9,
    returned=10.2,
    timeout=1.0,
)
NOT_RUN = replace(TOLD, success=False, delivery="NOT_EXECUTED", execution=None)
UNKNOWN = replace(NOT_RUN, delivery="UNKNOWN")
AGAIN = replace(RUN, execution="run-2")
QUERY = replace(TOLD, kind="query", attempts=(("a", "UNKNOWN", "UNAVAILABLE"), ("b", "EXECUTED", None)))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    append(tmp_path / "ran", RUN)
    append(tmp_path / "told", TOLD)
    assert executions(tmp_path / "ran") == [RUN]
    assert verdicts(tmp_path / "told") == [TOLD]
    assert executions(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("ran", "told"),
    [
        ([RUN], [TOLD]),
        ([], [NOT_RUN]),
        ([], [UNKNOWN]),
        ([RUN], [UNKNOWN]),
        ([RUN, AGAIN], [QUERY]),
    ],
    ids=["success", "not executed", "unknown and not run", "unknown and run", "query run twice"],
)
def test_what_fits_is_let_pass(ran: list[Execution], told: list[Verdict]) -> None:
    assert check(ran, told) == []


@pytest.mark.parametrize(
    ("invariant", "ran", "told"),
    [
        ("I1", [], [TOLD]),
        ("I1", [RUN, AGAIN], [TOLD]),
        ("I1", [AGAIN], [TOLD]),
        ("I1", [RUN, AGAIN, replace(RUN, execution="run-3")], [QUERY]),
        ("I2", [RUN], [NOT_RUN]),
        ("I3", [RUN, AGAIN], [UNKNOWN]),
        ("I4", [RUN], []),
        ("I4", [replace(RUN, request_id="id-2")], [TOLD]),
        (
            "I4",
            [RUN, replace(RUN, text="two", execution="run-2")],
            [TOLD, replace(TOLD, text="two", execution="run-2")],
        ),
        ("I5", [], [replace(NOT_RUN, delivery="EXECUTED")]),
        ("I7", [replace(RUN, start=13.0)], [TOLD]),
    ],
    ids=[
        "lost",
        "plain run twice",
        "another run's answer",
        "query run more often than tried",
        "did run",
        "unknown and run twice",
        "nobody asked",
        "another id",
        "one id twice",
        "did not run",
        "too late",
    ],
)
def test_what_does_not_fit_is_found(invariant: str, ran: list[Execution], told: list[Verdict]) -> None:
    assert {line.partition(":")[0] for line in check(ran, told)} >= {invariant}


def test_a_caller_that_was_kept_from_hanging_up_is_served_late() -> None:
    assert check([replace(RUN, start=13.0)], [replace(TOLD, returned=13.5)]) == []

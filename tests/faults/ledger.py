"""Two ledgers, what ran and what callers were told, and the check of one against the other.

    I1   told "success"      a plain request ran once, a query at least once; the answer is of one of those runs
    I2   told NOT_EXECUTED   it never ran
    I3   told UNKNOWN        it ran once or not at all; a query as often as it was tried
    I4   nothing ran that nobody has asked for, and nothing under another call's id
    I5   told EXECUTED       it ran
    I7   nothing started later than 2 s after its time was up and its caller had gone: a busy machine may keep a caller
         from hanging up in time

Rules of this file:
1. A handler appends its line before it works: one that is killed in the middle has run, and says so.
2. A line is one ``write`` to a file opened for appending, so processes never mix theirs, and a killed one leaves a
   whole line or none.
3. Times are of the boot clock, which all processes of a machine share.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SKEW", "Execution", "Finding", "Verdict", "append", "check", "executions", "findings", "verdicts"]

#: Seconds for which a node may go on after a request's time is up: what two clocks may differ by in these tests.
SKEW = 2.0


@dataclass(frozen=True)
class Execution:
    """One run of a handler. Immutable."""

    request_id: str
    #: What the caller has written into the request; unique.
    text: str
    #: Names this very run.
    execution: str
    node: str
    pid: int
    start: float


@dataclass(frozen=True)
class Verdict:
    """What one caller was told. Immutable."""

    text: str
    #: "query" or "plain".
    kind: str
    request_id: str
    success: bool
    #: Name of the ``Delivery``.
    delivery: str
    #: Name of the code, or None.
    code: str | None
    error: str | None
    #: Which run has answered, as the answer says.
    execution: str | None
    node: str | None
    #: (node, delivery, code) of each try
    attempts: tuple[tuple[str, str, str | None], ...]
    #: When the call was to be made, when it was made, and when it returned.
    due: float
    sent: float
    returned: float
    timeout: float

    @property
    def seconds(self) -> float:
        """How long the call took."""
        return self.returned - self.sent


@dataclass(frozen=True)
class Finding:
    """One way in which the ledgers do not fit. Immutable."""

    #: Which of the rules at the top.
    rule: str
    #: The call; "" where it is about several.
    text: str
    words: str
    #: How often the call ran, where that is what is wrong, and how often it might have; else 0.
    runs: int = 0
    most: int = 0

    def __str__(self) -> str:
        return f"{self.rule}: {self.words}"


def append(path: str | os.PathLike[str], record: Execution | Verdict) -> None:
    """Write one record down."""
    line = json.dumps(dataclasses.asdict(record)).encode("ascii") + b"\n"
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, line)
    finally:
        os.close(fd)
    assert written == len(line), "the ledger was cut off"


def executions(path: Path) -> list[Execution]:
    """Return what ran."""
    return [Execution(**each) for each in _lines(path)]


def verdicts(path: Path) -> list[Verdict]:
    """Return what callers were told."""
    told = (dict(each) for each in _lines(path))
    return [Verdict(**{**each, "attempts": tuple(map(tuple, each["attempts"]))}) for each in told]


def findings(ran: Iterable[Execution], told: Iterable[Verdict]) -> list[Finding]:
    """Return every way in which the two do not fit; [] when all is well."""
    calls = {each.text: each for each in told}
    runs: defaultdict[str, list[Execution]] = defaultdict(list)
    wrong = []
    for run in ran:
        runs[run.text].append(run)
        call = calls.get(run.text)
        if call is None:
            wrong.append(Finding("I4", run.text, f"nobody has asked for {run}"))
        elif run.request_id != call.request_id:
            wrong.append(Finding("I4", run.text, f"{run} ran under another id than {call} has"))
        elif run.start > max(call.sent + call.timeout, call.returned) + SKEW:
            late = run.start - call.sent
            wrong.append(Finding("I7", run.text, f"{run} started {late:.2f} s after it was sent: {call}"))
    ids = Counter(call.request_id for call in calls.values())
    wrong += [Finding("I4", "", f"{count} calls have the id {name}") for name, count in ids.items() if count > 1]
    for call in calls.values():
        done = runs[call.text]
        most = 1 if call.kind == "plain" else len(call.attempts)
        if call.success and call.execution not in {run.execution for run in done}:
            wrong.append(Finding("I1", call.text, f"no run has given the answer of {call}"))
        elif not call.success and call.delivery == "NOT_EXECUTED" and done:
            wrong.append(Finding("I2", call.text, f"it did run: {call}, {done}"))
        elif not call.success and call.delivery == "EXECUTED" and not done:
            wrong.append(Finding("I5", call.text, f"it did not run: {call}"))
        elif len(done) > most:
            rule = "I1" if call.success else "I3"
            wrong.append(Finding(rule, call.text, f"ran {len(done)} times: {call}, {done}", len(done), most))
    return wrong


def check(ran: Iterable[Execution], told: Iterable[Verdict]) -> list[str]:
    """Return in words every way in which the two do not fit; [] when all is well."""
    return [str(each) for each in findings(ran, told)]


def _lines(path: Path) -> Iterable[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

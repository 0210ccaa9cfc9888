"""The battery can fail: a lie and a double run that were planted are found, whatever the documents name."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from catga_sync.wire.frames import CALL, RESPONSE, FrameReader, write_frame
from tests.faults import battery
from tests.faults.judge import BEHAVIOUR, MEMORY, Outcome, Scenario, judge
from tests.faults.ledger import Execution, Verdict, append, executions, verdicts
from tests.faults.listening import listening
from tests.faults.wire import BARE, CUTS, DOUBLES, ON_STREAMS, wired
from tests.processes import until

KILL = Scenario("kill", "memory", signed=False)
DOUBLE = Scenario("double", "memory", signed=False)


def run(text: str, execution: str = "run-1") -> Execution:
    return Execution("id-1", text, execution, "a", 1, 10.0)


def told(text: str, delivery: str, **differs: object) -> Verdict:
    success = delivery == "SUCCESS"
    made = Verdict(
        text=text,
        kind="plain",
        request_id="id-1",
        success=success,
        delivery="EXECUTED" if success else delivery,
        code=None if success else "INTERNAL",
        error=None if success else "a text",
        execution="run-1" if success else None,
        node="a",
        attempts=(("a", delivery, None),),
        due=9.9,
        sent=9.9,
        returned=10.2,
        timeout=1.0,
    )
    return replace(made, **differs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scenario", "ran", "verdict", "rule"),
    [
        (KILL, [run("x")], told("x", "NOT_EXECUTED"), "I2"),
        (KILL, [], told("x", "EXECUTED"), "I5"),
        (KILL, [], told("x", "SUCCESS"), "I1"),
        (KILL, [run("x"), run("x", "run-2")], told("x", "SUCCESS"), "I1"),
        (KILL, [run("x"), run("x", "run-2")], told("x", "UNKNOWN"), "I3"),
        (replace(DOUBLE, store="redis"), [run("x"), run("x", "run-2")], told("x", "SUCCESS"), "I1"),
        (replace(DOUBLE, signed=True), [run("x"), run("x", "run-2")], told("x", "SUCCESS"), "I1"),
        (DOUBLE, [run("x"), run("x", "run-2"), run("x", "run-3")], told("x", "SUCCESS"), "I1"),
        (DOUBLE, [run("x")], told("x", "NOT_EXECUTED"), "I2"),
        (KILL, [run("x.twice"), run("x.twice", "run-2")], told("x.twice", "NOT_EXECUTED"), "I2"),
        (KILL, [run("x.twice", f"run-{n}") for n in (1, 2, 3)], told("x.twice", "SUCCESS"), "I1"),
    ],
)
def test_what_no_document_names_is_a_violation(
    tmp_path: Path, scenario: Scenario, ran: list[Execution], verdict: Verdict, rule: str
) -> None:
    for each in ran:
        append(tmp_path / "ran", each)
    append(tmp_path / "told", verdict)
    outcome = judge(scenario, executions(tmp_path / "ran"), verdicts(tmp_path / "told"))
    (words,) = outcome.violations
    assert words.startswith(f"{rule}:")
    assert "id-1" in words
    assert not outcome.named


@pytest.mark.parametrize(
    ("scenario", "text", "runs", "place"),
    [(KILL, "x.twice", 2, BEHAVIOUR), (DOUBLE, "x", 2, MEMORY), (DOUBLE, "x.twice", 4, MEMORY)],
)
def test_what_a_document_names_is_counted_apart(scenario: Scenario, text: str, runs: int, place: str) -> None:
    ran = [run(text, f"run-{n + 1}") for n in range(runs)]
    outcome = judge(scenario, ran, [told(text, "SUCCESS")])
    assert (outcome.violations, outcome.named) == ([], {place: 1})
    file, _, heading = place.partition(": ")
    headings = [
        line for line in Path(battery.__file__).parents[2].joinpath(file).read_text().splitlines() if line[:1] == "#"
    ]
    assert heading in {line.strip("# ").lower().replace(" ", "-") for line in headings}


@pytest.mark.parametrize(("runs", "fits"), [(4, True), (5, False)])
def test_a_query_runs_no_more_often_than_its_tries_and_its_behaviour_explain(runs: int, fits: bool) -> None:
    tries = (("a", "UNKNOWN", "UNAVAILABLE"), ("b", "EXECUTED", None))
    query = told("x.twice", "SUCCESS", kind="query", attempts=tries)
    outcome = judge(KILL, [run("x.twice", f"run-{n + 1}") for n in range(runs)], [query])
    assert (outcome.violations == []) is fits
    assert not outcome.named


def test_calls_are_counted_by_what_they_were_told() -> None:
    late = told("d", "UNKNOWN", request_id="id-4", returned=12.0)
    calls = [told("a", "SUCCESS"), told("b", "NOT_EXECUTED", request_id="id-2"), late]
    outcome = judge(KILL, [run("a")], calls)
    counted = (outcome.calls, outcome.success, outcome.not_executed, outcome.executed, outcome.unknown, outcome.late)
    assert counted == (3, 1, 1, 0, 1, 1)
    assert outcome.violations == []


def test_each_run_is_judged_with_its_call_and_one_without_a_call_fails() -> None:
    played = [
        battery.Played(KILL, [told("x", "UNKNOWN")], [], 1, 0.0),
        battery.Played(DOUBLE, [told("y", "NOT_EXECUTED", request_id="id-2")], [], 0, 0.0),
    ]
    first, second = battery.outcomes_of(played, [run("x"), run("unknown")])
    assert first.violations == []
    assert [each.partition(":")[0] for each in second.violations] == ["I4", "no fault has come"]


def test_a_violation_of_one_scenario_fails_the_sum() -> None:
    outcomes = [Outcome("one", calls=3), Outcome("two", calls=4, violations=["I2: it did run"])]
    whole = battery.total(outcomes)
    assert (whole.calls, whole.violations) == (7, ["I2: it did run"])


@pytest.fixture
def node() -> Iterator[tuple[int, list[bytes]]]:
    """A peer that responds to each request, and what it has read."""
    seen: list[bytes] = []

    def talk(sock: socket.socket) -> None:
        while piece := sock.recv(65536):
            seen.append(piece)
            for _ in range(piece.count(b"body")):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with listening(talk) as port:
        yield port, seen


@pytest.mark.parametrize(
    ("fault", "times"), [("", 1), *((each, 2) for each in DOUBLES), *((each, None) for each in (*CUTS, *BARE))]
)
def test_the_wire_does_what_it_is_told(node: tuple[int, list[bytes]], fault: str, times: int | None) -> None:
    port, seen = node
    with wired(port, random.Random(1)) as wire:
        wire.faults = (fault,) if fault else ()
        host, _, gate = wire.endpoint.rpartition("/")[2].partition(":")
        responses = []
        while not wire.met[fault]:
            with socket.create_connection((host, int(gate)), timeout=20.0) as sock:
                sock.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody")
                read = b""
                while not read.endswith(b"ok") and (piece := sock.recv(65536)):
                    read += piece
                responses.append(read)
    last = responses[-1]
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    if fault in CUTS:
        assert last != whole
        assert not last or whole.startswith(last)
    elif "502" in fault:
        assert last.startswith(b"HTTP/1.1 502")
    else:
        assert last == whole
    if times is not None:
        assert b"".join(seen).count(b"POST") == (len(responses) - 1) + times


@pytest.fixture
def stream_node() -> Iterator[tuple[int, list[int]]]:
    """A peer that takes streams and responds to each call, and the numbers of the calls."""
    seen: list[int] = []

    def talk(sock: socket.socket) -> None:
        while not sock.recv(65536).endswith(b"\r\n\r\n"):
            pass
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        reader = FrameReader(None, 100)
        while piece := sock.recv(65536):
            while (frame := reader.feed(piece)) is not None:
                seen.append(frame.number)
                sock.sendall(write_frame(RESPONSE, frame.number, b"{}", b"ok", None))
                piece = b""

    with listening(talk) as port:
        yield port, seen


@pytest.mark.parametrize("fault", ["", *ON_STREAMS])
def test_the_wire_does_the_same_to_calls_over_streams(stream_node: tuple[int, list[int]], fault: str) -> None:
    port, seen = stream_node
    responses: list[bytes] = []
    call = write_frame(CALL, 7, b"{}", b"body", None)
    with wired(port, random.Random(1)) as wire:
        wire.faults = (fault,) if fault else ()
        host, _, gate = wire.endpoint.rpartition("/")[2].partition(":")
        while not wire.met[fault]:
            with socket.create_connection((host, int(gate)), timeout=20.0) as sock:
                sock.sendall(b"GET /catga/cluster/stream HTTP/1.1\r\nUpgrade: x\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 101 ")
                sock.sendall(call)
                read = b""
                while not read.endswith(b"ok") and (piece := sock.recv(65536)):
                    read += piece
                responses.append(read)
    last = responses[-1]
    whole = write_frame(RESPONSE, 7, b"{}", b"ok", None)
    if fault in CUTS:
        assert last != whole
        assert whole.startswith(last)
    else:
        assert last == whole
    if fault in DOUBLES:
        expected = [*(7 for _ in responses), 7 if fault == "double on one connection" else 1]
        until(lambda: len(seen) >= len(expected), "the peer has read them all")
        assert sorted(seen) == sorted(expected)  # two connections are read by two threads

"""The battery's judgement finds lies, excuses what the documents name and nothing else; its proxy does what it says."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import random
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.faults.battery import SCENARIOS, Scenario, judge
from tests.faults.misbehaving import conduct
from tests.faults.proxy import FAULTS, BadProxy, bad_proxy
from tests.faults.test_ledger import AGAIN, NOT_RUN, RUN, TOLD, UNKNOWN

PLAIN = Scenario("kill", "sqlite")
REPEATED = Scenario("term", "memory", proxy=True)
ANEW = replace(AGAIN, pid=2)
BADLY = replace(PLAIN, badly=True)
TWICE = next(text for text in map(str, range(1000)) if conduct(text) == "twice")


def named(text: str) -> tuple[list[object], object]:
    runs: list[object] = [replace(RUN, text=text), replace(AGAIN, text=text, start=10.2)]
    return runs, replace(TOLD, text=text, execution="run-2")


@pytest.mark.parametrize(
    ("scenario", "ran", "told", "says"),
    [
        (PLAIN, [RUN], NOT_RUN, "I2"),
        (PLAIN, [], replace(NOT_RUN, delivery="EXECUTED"), "I5"),
        (PLAIN, [RUN, AGAIN], TOLD, "I1"),
        (PLAIN, [RUN, ANEW], UNKNOWN, "I3"),
        (replace(PLAIN, proxy=True), [RUN, ANEW], TOLD, "I1"),
        (replace(REPEATED, signed=True), [RUN, ANEW], TOLD, "I1"),
        (replace(REPEATED, fault="none"), [RUN, ANEW], TOLD, "I1"),
        (REPEATED, [RUN, AGAIN], TOLD, "I1"),
        (BADLY, [RUN, AGAIN], TOLD, "I1"),
    ],
    ids=[
        "ran",
        "did not run",
        "twice",
        "twice and unknown",
        "with a store",
        "signed",
        "no restart",
        "one process",
        "well",
    ],
)
def test_what_is_not_so_is_found(scenario: Scenario, ran: list[object], told: object, says: str) -> None:
    assert conduct(RUN.text) != "twice"
    outcome = judge(scenario, ran, [told])  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in outcome.wrong] == [says]


def test_what_the_documents_name_is_counted_apart() -> None:
    outcome = judge(REPEATED, [RUN, ANEW], [TOLD])
    assert (outcome.wrong, outcome.named.total()) == ([], 1)
    runs, told = named(TWICE)
    outcome = judge(BADLY, runs, [told])  # type: ignore[arg-type,list-item]
    assert (outcome.wrong, outcome.named.total()) == ([], 1)
    outcome = judge(PLAIN, runs, [told])  # type: ignore[arg-type,list-item]
    assert outcome.named.total() == 0
    assert len(outcome.wrong) == 1


def test_each_two_properties_of_a_scenario_come_together() -> None:
    values = [
        {"fault": s.fault, "store": s.store, "signed": s.signed, "badly": s.badly, "proxy": s.proxy} for s in SCENARIOS
    ]
    missing = [
        (one, left, two, right)
        for one in values[0]
        for two in values[0]
        if one < two
        for left in {each[one] for each in values}
        for right in {each[two] for each in values}
        if not any(each[one] == left and each[two] == right for each in values)
    ]
    # Without a fault of processes and without the proxy there is none.
    assert missing == [("fault", "none", "proxy", False)]


@contextlib.contextmanager
def served() -> Iterator[tuple[int, list[bytes]]]:
    """A server, and the bodies that it has read."""
    read: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) == int(self.headers["Content-Length"]):
                read.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

        def log_request(self, *given: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield server.server_port, read
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("fault", "times", "status"),
    [
        ("cut before", 0, None),
        ("cut within", 0, None),
        ("cut after", 1, None),
        ("cut response", 1, None),
        ("twice", 2, 200),
        ("twice at once", 2, 200),
        ("again later", 2, 200),
        ("502 before", 0, 502),
        ("502 after", 1, 502),
    ],
)
def test_each_fault_of_the_proxy(fault: str, times: int, status: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BadProxy, "_draw", lambda self: fault)
    with served() as (port, read), bad_proxy(port, random.Random(1), share=1.0) as proxy:
        assert fault in FAULTS
        connection = http.client.HTTPConnection(proxy.endpoint.removeprefix("http://"), timeout=20.0)
        try:
            connection.request("POST", "/", b"0123456789abcdef")
            response = connection.getresponse()
            length = response.headers.get("Content-Length")
            got = response.status if length == str(len(response.read())) else None
        except (http.client.HTTPException, OSError):
            got = None
        finally:
            connection.close()
        proxy.settle()
        assert got == status
    assert read == [b"0123456789abcdef"] * times

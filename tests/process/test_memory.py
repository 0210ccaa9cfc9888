"""Eight large bodies at once: what a worker of a real gunicorn needs for them is bounded, whatever is in them."""

from __future__ import annotations

import base64
import itertools
import json
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import require_module, require_service
from tests.process.nodes import head, node
from tests.processes import Process, exclusive

require_module("gunicorn")
require_service(Path("/proc/self/clear_refs").exists(), "needs Linux, which tells the peak of a process's memory")

# The tests of another checkout may have the machine first.
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("memory"), pytest.mark.timeout(600)]

#: As many as the server has threads.
AT_ONCE = 8
#: The longest body that a node reads by default.
LONGEST = 4 * 1024 * 1024
#: Bytes of memory for each byte that came.
MOST = 10.0
#: Answered in time, whatever else this machine does.
PATIENCE = 240.0


def envelope(payload: bytes, extra: bytes = b"") -> bytes:
    """Return an envelope but for its id, which stands where ``%b`` does."""
    return (
        b'{"requestTypeName":"tests.Large","responseTypeName":"int","timestamp":"2126-01-31T12:00:00Z",'
        b'"requestId":"%%b","payloadData":"%b"%b}' % (base64.b64encode(payload), extra)
    )


def in_payload(start: bytes, item: bytes | Callable[[int], bytes], end: bytes) -> bytes:
    """Return an envelope, nearly as long as it may be, with a payload of that many items."""
    return envelope(repeated(start, item, end, (LONGEST - 1000) // 4 * 3))


def in_envelope(start: bytes, item: bytes | Callable[[int], bytes], end: bytes) -> bytes:
    """Return such an envelope with that many items beside the payload."""
    return envelope(b'{"numbers":[1]}', b"," + repeated(start, item, end, LONGEST - 1000))


def repeated(start: bytes, item: bytes | Callable[[int], bytes], end: bytes, length: int) -> bytes:
    room = length - len(start) - len(end)
    if callable(item):
        items = [item(number) for number in range(room // len(item(room)))]
    else:
        items = [item] * ((room + 1) // (len(item) + 1))
    return start + b",".join(items) + end


def batch(item: bytes | Callable[[int], bytes]) -> bytes:
    return repeated(b'{"requests":[', item, b"]}", LONGEST - 100_000)


def empty_request(number: int) -> bytes:
    return envelope(b"{%240b}" % b"") % next(IDS)


def with_own_id(body: bytes) -> bytes:
    return body.replace(b"%b", next(IDS), 1)


def key(number: int) -> bytes:
    return b'"%x":1' % number


SMALL = envelope(b'{"numbers":[1]}')
IDS = (b"r-%d" % number for number in itertools.count())
DEEP = b"[" * 30 + b"]" * 30

#: By name: the path, the body, and the status of the answer: "executed", or that of a refusal.
BODIES: dict[str, tuple[str, Callable[[], bytes], int | str]] = {
    "envelope of objects": ("invoke", lambda: in_envelope(b'"x":[', b"{}", b"]"), 400),
    "envelope of lists": ("invoke", lambda: in_envelope(b'"x":[', b"[]", b"]"), 400),
    "envelope of keys": ("invoke", lambda: in_envelope(b'"x":{', key, b"}"), 400),
    "envelope of wide text": ("invoke", lambda: in_envelope(b'"x":"\xf0\x9f\x90\x8d', b"a" * 99, b'"'), "executed"),
    "envelope of escapes": ("invoke", lambda: in_envelope(b'"x":"\xf0\x9f\x90\x8d', b"\\n" * 99, b'"'), "executed"),
    "envelope of spaced texts": ("invoke", lambda: in_envelope(b'"x":[' + DEEP, b'  ""' * 99, b"]"), 400),
    "numbers": ("invoke", lambda: in_payload(b'{"numbers":[', b"0.5", b"]}"), "executed"),
    "texts": ("invoke", lambda: in_payload(b'{"texts":[', b'"ab"', b"]}"), "executed"),
    "wide texts": ("invoke", lambda: in_payload(b'{"texts":[', b'"\xf0\x9f\x90\x8d"', b"]}"), "executed"),
    "one wide text": ("invoke", lambda: in_payload(b'{"texts":["\xf0\x9f\x90\x8d', b"a" * 99, b'"]}'), "executed"),
    "objects": ("invoke", lambda: in_payload(b'{"points":[', b'{"x":1}', b"]}"), "executed"),
    "plain objects": ("invoke", lambda: in_payload(b'{"anything":[', b'{"x":1}', b"]}"), "executed"),
    "empty objects": ("invoke", lambda: in_payload(b'{"anything":[', b"{}", b"]}"), "executed"),
    "objects of the wrong kind": ("invoke", lambda: in_payload(b'{"numbers":[', b'{"x":1}', b"]}"), 200),
    "keys": ("invoke", lambda: in_payload(b'{"byKey":{', key, b"}}"), "executed"),
    "keys of anything": ("invoke", lambda: in_payload(b'{"anything":{', key, b"}}"), "executed"),
    "nested": ("invoke", lambda: in_payload(b'{"anything":[', DEEP, b"]}"), "executed"),
    "too deep": ("invoke", lambda: in_payload(b'{"anything":[', b"[" * 99, b"]}"), 200),
    "spaced texts": ("invoke", lambda: in_payload(b'{"anything":[' + DEEP, b'  ""' * 99, b"]}"), 200),
    "batch of objects": ("batch", lambda: batch(b"{}"), 400),
    "batch of few, of objects": ("batch", lambda: batch(b'{"x":[%b]}' % b",".join([b"{}"] * 400)), 400),
    "batch of empty requests": ("batch", lambda: batch(empty_request), "executed"),
}


#: Those that show most of it.
USUAL = (
    "envelope of objects",
    "envelope of wide text",
    "numbers",
    "texts",
    "objects",
    "objects of the wrong kind",
    "keys",
    "nested",
    "too deep",
    "batch of objects",
)


class Figures:
    """The memory of a server's one worker, from now on."""

    def __init__(self, server: Process) -> None:
        assert post(server, "invoke", with_own_id(SMALL)) == (200, "1", "")
        (pid,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        self._process = Path("/proc", pid)
        (self._process / "clear_refs").write_text("5")
        self._resting = self._bytes("VmRSS")

    @property
    def peak(self) -> int:
        """Bytes that it has had at most, above what it had at rest."""
        return self._bytes("VmHWM") - self._resting

    def _bytes(self, name: str) -> int:
        lines = (self._process / "status").read_text().splitlines()
        (line,) = [line for line in lines if line.startswith(f"{name}:")]
        return int(line.split()[1]) * 1024


def post(server: Process, path: str, body: bytes, ready: Callable[[], object] = lambda: None) -> tuple[int, str, str]:
    """Send a call, the last byte of it when ``ready`` returns; return status, ``Catga-Executed`` and error."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        lines = (f"Content-Length: {len(body)}", "Connection: close", f"Catga-Timeout-Ms: {PATIENCE * 1000:.0f}")
        sock.sendall(head(*lines).replace(b"/invoke ", b"/%b " % path.encode()) + body[:-1])
        ready()
        sock.sendall(body[-1:])
        with sock.makefile("rb") as file:
            status = int(file.readline().split()[1])
            headers = dict(line.decode().strip().lower().split(": ", 1) for line in iter(file.readline, b"\r\n"))
            answer = json.loads(file.read())
    return status, headers["catga-executed"], str(answer.get("errorCode", "responses" in answer or ""))


def at_once(server: Process, path: str, body: bytes) -> list[tuple[int, str, str]]:
    """Send a body eight times at once, and a small call when all are there; return the answers, that one's last."""
    there = threading.Barrier(AT_ONCE + 1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        calls = [
            pool.submit(post, server, path, with_own_id(body), lambda: there.wait(PATIENCE)) for _ in range(AT_ONCE)
        ]
        there.wait(PATIENCE)
        beside = post(server, "invoke", with_own_id(SMALL))
        return [*(call.result() for call in calls), beside]


@pytest.mark.slow
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("behind", ["blueprint", "middleware"])
def test_eight_large_bodies_at_once_need_a_bounded_memory(cluster_name: str, name: str, behind: str) -> None:
    path, make, status = BODIES[name]
    body = make()
    assert LONGEST * 0.95 < len(body) <= LONGEST
    # Each in a worker of its own: what the system's allocator keeps for later belongs to none of the others.
    with exclusive("memory", 600.0), node("n1", cluster_name, app="tests.process.large:app", BEHIND=behind) as server:
        figures = Figures(server)
        answers = at_once(server, path, body)
        figure = figures.peak / (AT_ONCE * len(body))
    print(f"{name}: {figure:.1f} x {len(body)} bytes, {set(answers)}")
    wanted = (200, "1") if status == "executed" else (status, "0")
    # On a busy machine one may have no time left for its turn, or come too slowly: that is told, and nothing has run.
    assert wanted in {answer[:2] for answer in answers[:-1]} <= {wanted, (503, "0"), (408, "0")}
    assert answers[-1][:2] == (200, "1")
    assert figure <= MOST


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_loads_of_every_kind_leave_little_behind_where_the_allocator_is_told_so(cluster_name: str) -> None:
    environment = {"MALLOC_MMAP_THRESHOLD_": "131072"}
    with exclusive("memory", 600.0), node("n1", cluster_name, app="tests.process.large:app", **environment) as server:
        figures = Figures(server)
        for name in USUAL:
            path, make, _ = BODIES[name]
            at_once(server, path, make())
            print(f"{name}: {figures.peak / (AT_ONCE * LONGEST):.1f}")
        assert figures.peak <= MOST * AT_ONCE * LONGEST

"""Raw requests to a real gunicorn: bodies that drip, or end before they should."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.conftest import require_module
from tests.process.nodes import head, node
from tests.processes import Process

require_module("gunicorn")

# One server for all of them, so one worker for all of them.
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("slow-bodies")]

#: Seconds between two bytes: less than any server waits for one.
DRIP = 0.1
SLOW = "the body came too slowly"


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with node("n1", f"tests-{uuid.uuid4().hex[:12]}", INSECURE="1") as process:
        yield process


def invocation() -> bytes:
    return json.dumps(
        {
            "requestTypeName": "tests.Do",
            "responseTypeName": "tests.Answer",
            "payloadData": base64.b64encode(b'{"text":"x"}').decode(),
            "requestId": "r-1",
            "timestamp": "2026-01-31T12:00:00Z",
        }
    ).encode()


def answer_of(sock: socket.socket) -> tuple[int, str, str]:
    """Return status, ``Catga-Executed`` and text of the answer."""
    with sock.makefile("rb") as file:
        status = int(file.readline().split()[1])
        headers = {}
        while line := file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = json.loads(file.read(int(headers["content-length"])))
    return status, headers["catga-executed"], body["errorMessage"]


def drip(server: Process, start: bytes) -> tuple[tuple[int, str, str], float]:
    """
    Send a head, then spaces, one at a time, until the server has closed the connection.

    Returns:
        The answer, and the seconds until the end of the connection.
    """
    pause, ended, started = threading.Event(), [0.0], time.monotonic()

    def send() -> None:
        try:
            while not pause.wait(DRIP):
                sock.sendall(b" ")
        except OSError:
            ended[0] = time.monotonic() - started

    with socket.create_connection(("127.0.0.1", server.port), 20.0) as sock:
        sock.sendall(start)
        sending = threading.Thread(target=send)
        sending.start()
        try:
            answer = answer_of(sock)
            sending.join(20.0)
        finally:
            pause.set()
            sending.join(20.0)
    assert ended[0], "the connection is still open"
    return answer, ended[0]


@pytest.mark.slow
@pytest.mark.parametrize("length", ["Content-Length: 1000", "Content-Length: 1000000"])
def test_a_body_that_drips_is_cut_off_and_the_connection_ends(server: Process, length: str) -> None:
    answer, seconds = drip(server, head(length))
    assert answer == (408, "0", SLOW)
    assert seconds >= 5.0


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(head("Catga-Timeout-Ms: 500", "Content-Length: 1000"), id="length", marks=pytest.mark.slow),
        pytest.param(head("Catga-Timeout-Ms: 500", "Transfer-Encoding: chunked"), id="chunked"),
    ],
)
def test_a_body_gets_no_more_time_than_its_call_has(server: Process, start: bytes) -> None:
    if b"chunked" in start:
        start += b"FFFF\r\n"
    answer, _ = drip(server, start)
    assert answer == (408, "0", SLOW)


def test_a_body_that_nothing_comes_of_is_cut_off_too(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20.0) as sock:
        sock.sendall(head("Catga-Timeout-Ms: 500", "Content-Length: 1000"))
        assert answer_of(sock) == (408, "0", SLOW)


def test_strangers_that_drip_keep_no_thread_of_a_node_with_a_secret(cluster_name: str) -> None:
    with node("n1", cluster_name, "--threads", "2", SECRET="k" * 32) as server:
        for _ in range(2):
            answer, _ = drip(server, head("Content-Length: 1000000"))
            assert answer[:2] == (401, "0")


def test_connections_go_on_being_used_by_those_who_are_in_time(server: Process) -> None:
    body = invocation()
    with socket.create_connection(("127.0.0.1", server.port), 20.0) as sock:
        for _ in range(3):
            sock.sendall(head(f"Content-Length: {len(body)}") + body)
            assert answer_of(sock)[:2] == (200, "1")


@pytest.mark.parametrize("length", ["1" + "0" * 19, "9" * 30])
def test_a_body_that_is_cut_short_does_not_run_however_long_its_length_is(server: Process, length: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20.0) as sock:
        sock.sendall(head(f"Content-Length: {length}") + invocation())
        sock.shutdown(socket.SHUT_WR)
        assert answer_of(sock)[:2] == (413, "0")

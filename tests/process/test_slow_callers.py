"""Callers that read nothing, and callers that send slowly, against a real gunicorn: threads stay free."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from tests.conftest import require_module
from tests.process.nodes import head, node
from tests.processes import Process, get

require_module("gunicorn")

pytestmark = pytest.mark.process

CALLERS = 8
#: Signed with the id of a key that the node has, and nothing else that is right.
SECRET = "k" * 32


@contextlib.contextmanager
def callers(server: Process, requests: list[bytes]) -> Iterator[list[socket.socket]]:
    """Connections that have sent one of these each and do nothing more."""
    with contextlib.ExitStack() as stack:
        made = []
        for request in requests:
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(20.0)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(request)
            made.append(sock)
        yield made


def large(*lines: str, path: str = "invoke") -> bytes:
    """A request whose response has almost 4 MB."""
    item = {
        "requestTypeName": "tests.Ask",
        "responseTypeName": "tests.Answer",
        "payloadData": base64.b64encode(json.dumps({"text": "x" * 2_700_000}).encode()).decode(),
        "requestId": uuid.uuid4().hex,
        "timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    body = json.dumps(item if path == "invoke" else {"requests": [item]}).encode()
    return head(*lines, f"Content-Length: {len(body)}").replace(b"cluster/invoke", b"cluster/" + path.encode()) + body


@pytest.mark.slow
@pytest.mark.parametrize("path", ["invoke", "batch"])
def test_callers_that_never_read_hold_no_thread_beyond_their_deadline(cluster_name: str, path: str) -> None:
    with (
        node("n1", cluster_name, "--threads", "4", INSECURE="1") as server,
        callers(server, [large("Catga-Timeout-Ms: 1500", path=path) for _ in range(CALLERS)]),
    ):
        assert get(f"{server.url}/catga/cluster/node", timeout=60.0) is not None


@pytest.mark.slow
def test_a_caller_that_reads_in_time_gets_all_of_it(cluster_name: str) -> None:
    with (
        node("n1", cluster_name, INSECURE="1") as server,
        callers(server, [large("Catga-Timeout-Ms: 15000")]) as (sock,),
        sock.makefile("rb") as file,
    ):
        assert file.readline().split()[1] == b"200"
        while line := file.readline().strip().lower():
            if line.startswith(b"content-length"):
                length = int(line.split(b":")[1])
        assert len(file.read(length)) == length > 3_600_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "secret", [pytest.param("", id="unsigned"), pytest.param(SECRET, id="signed with the id of a key")]
)
def test_slow_bodies_hold_some_threads_and_never_all(cluster_name: str, secret: str) -> None:
    environment = {"SECRET": secret} if secret else {"INSECURE": "1"}
    signed = [f"Catga-Signature: {_claim(secret)}"] if secret else []
    hooks = ("-c", "python:catga_sync.integrations.gunicorn")
    with (
        node("n1", cluster_name, "--threads", "8", *hooks, **environment) as server,
        callers(server, [head(*signed, "Content-Length: 100000") + b"{"] * 64),
    ):
        # All of them would hold their threads for eight times five seconds.
        assert get(f"{server.url}/catga/cluster/node", timeout=20.0) is not None


def _claim(secret: str) -> str:
    from catga_sync.wire.headers import SIGNATURE
    from catga_sync.wire.signatures import KeyRing, sign_request

    assert SIGNATURE == "Catga-Signature"
    return sign_request(
        KeyRing(secret),
        method="POST",
        path="/catga/cluster/invoke",
        cluster="another",
        audience="n1",
        incarnation="",
        headers={"content-type": "application/json"},
        body=b"another",
        now=time.time(),
        nonce="0" * 32,
    )

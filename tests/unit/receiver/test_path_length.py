"""How many functions of this package one call runs: what a call costs that no benchmark of a busy machine shows.

A number that has grown is a step that was added to every call. Make it a part of another step, or do it once for each
type or node; where neither is possible, raise the number here and say what for.
"""

from __future__ import annotations

import gc
import io
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import catga_sync
from catga_sync import ClusterMediator, Mediator, Request, create_cluster
from catga_sync._runtime_dir import RUNTIME_DIR
from catga_sync.cluster.trust import trust_of
from catga_sync.context import CallContext, new_request_id
from catga_sync.integrations._hangup import hung_up
from catga_sync.receiver.request import RawRequest
from catga_sync.transport.request_headers import write_headers
from catga_sync.wire.envelope import RequestEnvelope
from catga_sync.wire.frames import CALL, CallHead, FrameReader, write_frame
from catga_sync.wire.mac import MacKey
from catga_sync.wire.routes import INVOKE_PATH
from catga_sync.wire.stream_keys import StreamKeys

_PACKAGE = catga_sync.__path__[0]


@dataclass(frozen=True)
class Ask(Request[str]):
    text: str


def _received(node: ClusterMediator, incarnation: str) -> RawRequest:
    """Return a request for a node as a server hands it over that lends no socket; another Python node has sent it."""
    call = CallContext(new_request_id(), chain=(("web", 5),))
    entry = node.local.registry.ensure(Ask)
    payload = entry.codec.encode(Ask("tea"))
    body = RequestEnvelope(entry.name, entry.response_name, payload, call.request_id, "web", time.time()).encode()
    headers = write_headers(call, 5.0)
    signing = trust_of(node.options).signing()
    if signing is not None:
        signing.sign("POST", INVOKE_PATH, "node", incarnation, headers, body)
    lowered = {"host": "127.0.0.1:5001", **{name.lower(): value for name, value in headers.items()}}
    read = io.BytesIO(body).read
    return RawRequest("POST", INVOKE_PATH, lowered, read, str(len(body)), remote_address="127.0.0.1")


def _functions_until_handled(node: ClusterMediator, incarnation: str, ran: dict[CodeType, None]) -> list[str]:
    """Return the functions of the package that a request runs until its handler, which ends the watching."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            ran[frame.f_code] = None

    ran.clear()
    warm = _received(node, incarnation)
    sys.setprofile(note)
    try:
        response = node.receiver.handle(warm)
    finally:
        sys.setprofile(None)
    assert response.status == 200
    # Some steps come once a second at most, and not with each request: a look at the key.
    return [f"{code.co_filename.removeprefix(_PACKAGE)}:{code.co_firstlineno} {code.co_name}" for code in ran]


# A shared key takes a dozen functions (who signed, is it the key of now, the MAC, for which run), a payload six, the
# store of request ids three.
@pytest.mark.parametrize(("options", "most"), [({"insecure": True}, 38), ({}, 49)], ids=["insecure", "shared key"])
def test_a_warm_received_request_runs_few_functions_until_its_handler(
    options: dict[str, Any], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUNTIME_DIR, str(tmp_path))
    local = Mediator()
    ran: dict[CodeType, None] = {}

    @local.handler
    def answer(request: Ask) -> str:
        sys.setprofile(None)
        return request.text

    endpoint = "http://127.0.0.1:5001"
    with create_cluster(local, node_id="node", endpoint=endpoint, discovery="memory://", environ={}, **options) as node:
        incarnation = node._local_node._group.join()
        for _ in range(3):  # the first ones compile and look what there is
            assert node.receiver.handle(_received(node, incarnation)).status == 200
        gc.collect()  # what other tests have left ends here, and not within a call
        functions = min((_functions_until_handled(node, incarnation, ran) for _ in range(5)), key=len)
    # Below a dozen nothing was watched: another tool profiles this thread.
    assert 12 < len(functions) <= most, f"{len(functions)} functions:\n" + "\n".join(functions)


def _send_over_a_stream(node: ClusterMediator, number: int) -> None:
    """Have a node serve so many calls of one stream, one after the other."""
    entry = node.local.registry.ensure(Ask)
    head = CallHead(entry.name, entry.response_name, "web")
    keys = StreamKeys(MacKey(b"c" * 32), MacKey(b"r" * 32))
    ours, theirs = socket.socketpair()
    with theirs:
        node.receiver.streams.start(ours, keys, node.receiver.serve_call, remote_address="peer", hung_up=hung_up)
        theirs.settimeout(20)
        reader = FrameReader(keys.responses, 100_000)
        for each in range(1, number + 1):
            call = CallContext(new_request_id(), chain=(("web", 5),))
            payload = entry.codec.encode(Ask("tea"))
            theirs.sendall(write_frame(CALL, each, head.write(call, 5.0, time.time()), payload, keys.calls))
            frame = reader.feed(theirs.recv(65_536))
            assert frame is not None
            assert frame.payload == b'"tea"'


def test_a_warm_call_of_a_stream_makes_few_calls() -> None:
    """From the handler of one call to that of the next: all that the thread of the stream does."""
    local = Mediator()
    made: list[CodeType] = []
    served: list[list[str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            made.append(frame.f_code)

    @local.handler
    def answer(request: Ask) -> str:
        sys.setprofile(None)
        served.append(
            [f"{each.co_filename.removeprefix(_PACKAGE)}:{each.co_firstlineno} {each.co_name}" for each in made]
        )
        made.clear()
        sys.setprofile(note)
        return request.text

    options: dict[str, Any] = {"insecure": True, "max_concurrency": 8, "environ": {}}
    endpoint = "http://127.0.0.1:5001"
    with create_cluster(local, node_id="node", endpoint=endpoint, discovery="memory://", **options) as node:
        _send_over_a_stream(node, 8)
    fewest = min(served[3:], key=len)
    assert 12 < len(fewest) <= 56, f"{len(fewest)} calls:\n" + "\n".join(fewest)

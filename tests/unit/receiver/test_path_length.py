"""How many functions of this package one call runs: what a call costs that no benchmark of a busy machine shows.

A number that has grown is a step that was added to every call. Make it a part of another step, or do it once for each
type or node; where neither is possible, raise the number here and say what for.
"""

from __future__ import annotations

import gc
import io
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
from catga_sync.receiver.request import RawRequest
from catga_sync.transport.request_headers import write_headers
from catga_sync.wire.envelope import RequestEnvelope
from catga_sync.wire.routes import INVOKE_PATH

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
@pytest.mark.parametrize(("options", "most"), [({"insecure": True}, 48), ({}, 58)], ids=["insecure", "shared key"])
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

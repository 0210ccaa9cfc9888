"""Peers with the secret that were restarted, are about to be, or only say so: a call is signed again once."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import urllib3

from catga_sync import Delivery, ErrorCode
from catga_sync.context import CallContext
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.authentication import SignatureGuard
from catga_sync.receiver.refusal import Refused
from catga_sync.receiver.request import RawRequest
from catga_sync.transport import EnvelopeInvoker
from catga_sync.transport.http.probe import HttpProbe, ProbeOutcome
from catga_sync.transport.signing import Signing
from catga_sync.wire.signatures import KeyRing, sign_response
from tests.misbehaviour.calls import REQUEST_ID, Look, Order, every_way, invoking
from tests.misbehaviour.peers import Peer, Script, read_request, reply, serving
from tests.nonces import MemoryNonces
from tests.processes import until

RING = KeyRing("the key of the tests of signed peers, of 32 bytes or more")
NONCE = re.compile(rb"nonce=([0-9a-f]{32});incarnation=([^;]*);")


@dataclass
class Node:
    """The guard of a node, and what it says in turn of which run of the node it is."""

    runs: list[str]
    served: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.guard = SignatureGuard(RING, MemoryNonces(), cluster="default", incarnation=lambda: self.runs[0])
        # Stamps are in milliseconds: one of the very millisecond in which the guard was made is too old for it.
        made = time.time()
        until(lambda: time.time() > made + 0.002, "the clock has gone on")

    def script(self, connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            response = self.respond(request)
            if len(self.runs) > 1:  # before the response: the next request may come by another connection at once
                self.runs.pop(0)
            connection.sendall(response)

    def respond(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        raw = RawRequest(method, path, headers, lambda size: b"", len(body))
        status, executed, caller = 200, "1", None
        try:
            caller = self.guard.verify(raw, body, "peer", self.guard.admit(raw))
            self.served.append(path)
        except Refused as exc:
            status, executed, caller = exc.reason.status, "0", exc.caller
        code = {} if status == 200 else {"isSuccess": False, "payloadData": None, "errorCode": "UNAVAILABLE"}
        plain = reply(b"\r\n\r\n" + (body or b"{}"), **code) if "batch" not in path else _batch(body, status)
        content = plain.partition(b"\r\n\r\n")[2]
        sealed = self.guard.seal(caller, status, executed, "peer", content)
        return _response(status, {"Catga-Executed": executed, **sealed}, content)


def _batch(body: bytes, status: int) -> bytes:
    items = [json.loads(reply(b"\r\n\r\n" + json.dumps(each).encode()).partition(b"\r\n\r\n")[2])
             for each in json.loads(body)["requests"]]  # fmt: skip
    if status == 200:
        content = {"responses": [{**each, "executed": "1"} for each in items]}
    else:
        content = {**items[0], "isSuccess": False, "payloadData": None, "errorCode": "UNAVAILABLE"}
    return b"\r\n\r\n" + json.dumps(content).encode()


def _response(status: int, headers: dict[str, str], body: bytes) -> bytes:
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body


def asked_for(peer: Peer) -> list[str]:
    """Return the incarnation for which each request was signed, having seen that no two are one."""
    found = [NONCE.search(each) for each in peer.requests]
    assert len({each[1] for each in found if each}) == len(found)
    return [each[2].decode() for each in found if each]


@pytest.fixture
def signed() -> Iterator[Callable[..., EnvelopeInvoker]]:
    with contextlib.ExitStack() as stack:
        yield lambda session=None: stack.enter_context(invoking(session, signing=Signing(RING, "default")))


def send(invoker: EnvelopeInvoker, endpoint: str, known: str = "old", message: Any = None) -> Any:
    node = ClusterNode("peer", endpoint, incarnation=known, signed=True)
    return invoker.invoke(node, Order() if message is None else message, timeout=20.0, call=CallContext(REQUEST_ID))


def batch(invoker: EnvelopeInvoker, endpoint: str, known: str = "old") -> Any:
    node = ClusterNode("peer", endpoint, incarnation=known, signed=True)
    return invoker.invoke_batch(node, [Look(), Look()], timeout=20.0, calls=[CallContext("r-1"), CallContext("r-2")])


@every_way
@pytest.mark.parametrize("known", ["old", ""])
def test_a_call_is_signed_again_for_the_run_that_the_node_names_and_the_next_one_for_it_at_once(
    make: Callable[[], requests.Session | None], known: str, signed: Callable[..., EnvelopeInvoker]
) -> None:
    node = Node(["new"])
    node.guard._began += 60.0  # what is signed for no run is older than that
    with serving(node.script) as peer:
        invoker = signed(make())
        assert send(invoker, peer.endpoint, known).is_success
        assert asked_for(peer) == [known, "new"]
        assert all(batch(invoker, peer.endpoint, known))
        assert send(invoker, peer.endpoint, "new").is_success
        assert asked_for(peer) == [known, "new", "new", "new"]
    assert len(node.served) == 3


@pytest.mark.parametrize("odd", ['of "odd" name\nin two lines', "\u00e9", "a;mac=b", "x" * 65])
def test_a_run_with_a_name_that_no_node_has_given_itself_is_signed_for_as_unknown(
    odd: str, signed: Callable[..., EnvelopeInvoker]
) -> None:
    with serving(Node(["new"]).script) as peer:
        assert send(signed(), peer.endpoint, odd).is_success
        assert asked_for(peer) == [""]


def test_a_batch_is_signed_again_as_a_whole(signed: Callable[..., EnvelopeInvoker]) -> None:
    node = Node(["new"])
    with serving(node.script) as peer:
        assert [each.delivery for each in batch(signed(), peer.endpoint)] == [Delivery.EXECUTED] * 2
        assert asked_for(peer) == ["old", "new"]
    assert node.served == ["/catga/cluster/batch"]


def test_a_node_that_has_no_name_for_its_run_yet_is_called_under_none(signed: Callable[..., EnvelopeInvoker]) -> None:
    with serving(Node([""]).script) as peer:
        assert send(signed(), peer.endpoint).is_success
        assert asked_for(peer) == ["old", ""]


def test_a_node_that_gets_its_name_in_between_still_serves_the_call(signed: Callable[..., EnvelopeInvoker]) -> None:
    with serving(Node(["", "new"]).script) as peer:
        assert send(signed(), peer.endpoint).is_success
        assert asked_for(peer) == ["old", ""]


@pytest.mark.parametrize("call", [send, batch])
def test_a_call_is_signed_again_once_and_is_provably_not_run_then(
    call: Callable[..., Any], signed: Callable[..., EnvelopeInvoker]
) -> None:
    node = Node([f"run-{number}" for number in range(9)])
    with serving(node.script) as peer:
        told = call(signed(), peer.endpoint)
        assert asked_for(peer) == ["old", "run-0"]
    for result in told if isinstance(told, list) else [told]:
        assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)
    assert node.served == []


def says(status: int, executed: str | None, *, ring: KeyRing | None) -> Script:
    """Return a peer that refuses everything in the same words, signed or not."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            body = reply(request, isSuccess=False, payloadData=None).partition(b"\r\n\r\n")[2]
            nonce = NONCE.search(request)
            assert nonce is not None
            headers = {} if executed is None else {"Catga-Executed": executed}
            if ring is not None:
                headers["Catga-Signature"] = sign_response(
                    ring,
                    nonce=nonce[1].decode(),
                    status=status,
                    executed=executed,
                    node_id="peer",
                    incarnation="new",
                    content_type="application/json",
                    content_encoding=None,
                    body=body,
                )
            connection.sendall(_response(status, headers, body))

    return script


@pytest.mark.parametrize(
    "script",
    [
        says(421, "0", ring=None),
        says(421, "0", ring=KeyRing("another key than that of the cluster, of 32 bytes or more")),
        says(421, None, ring=RING),
        says(421, "unknown", ring=RING),
        says(421, "1", ring=RING),
        says(401, "unknown", ring=RING),
    ],
    ids=["not signed", "another key", "no proof", "not known", "it ran", "another status"],
)
def test_a_call_is_not_made_again_without_proof_that_it_has_not_run(
    script: Script, signed: Callable[..., EnvelopeInvoker]
) -> None:
    with serving(script) as peer:
        assert send(signed(), peer.endpoint).delivery is not Delivery.NOT_EXECUTED
        assert len(peer.requests) == 1


def test_a_probe_learns_the_run_of_a_node_and_a_drain_is_for_the_run_that_it_names() -> None:
    node, probe = Node(["new"]), HttpProbe(signing=Signing(RING, "default"))
    node.guard._began += 60.0
    with serving(node.script) as peer:
        assert probe.ask("peer", peer.endpoint, 5.0).outcome is ProbeOutcome.DESCRIBED
        assert probe.drain("peer", peer.endpoint, 5.0).outcome is ProbeOutcome.DESCRIBED
        assert asked_for(peer) == ["", "", "new"]
    assert node.served == ["/catga/cluster/node", "/catga/cluster/drain"]


def test_a_drain_is_signed_again_once() -> None:
    node, probe = Node([f"run-{number}" for number in range(9)]), HttpProbe(signing=Signing(RING, "default"))
    node.guard._began += 60.0
    with serving(node.script) as peer:
        answer = probe.drain("peer", peer.endpoint, 5.0)
        assert (answer.outcome, answer.status) == (ProbeOutcome.OTHER, 421)
        assert asked_for(peer) == ["", "run-0"]
    assert node.served == []


TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=x"}


def adds_to_a_copy(headers: dict[str, str]) -> dict[str, str]:
    """Do what OpenTelemetry does."""
    return {**headers, **TRACE}


def adds_in_place(headers: dict[str, str]) -> dict[str, str]:
    """Do what others do."""
    headers.update(TRACE)
    return headers


@every_way
@pytest.mark.parametrize("add", [adds_to_a_copy, adds_in_place])
def test_what_traces_the_application_below_us_breaks_no_signature(
    make: Callable[[], requests.Session | None],
    add: Callable[[dict[str, str]], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    signed: Callable[..., EnvelopeInvoker],
) -> None:
    real = urllib3.HTTPConnectionPool.urlopen

    # With what it is given by name.
    def traced(self: Any, *args: Any, **options: Any) -> Any:
        return real(self, *args, **{**options, "headers": add(options["headers"])})

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", traced)
    node = Node(["new"])
    with serving(node.script) as peer:
        assert send(signed(make()), peer.endpoint, "new").is_success
        probe = HttpProbe(signing=Signing(RING, "default"))
        assert probe.ask("peer", peer.endpoint, 5.0).outcome is ProbeOutcome.DESCRIBED
        assert all(b"traceparent: 00-aaa" in each for each in peer.requests)
        assert len(peer.requests) == 2

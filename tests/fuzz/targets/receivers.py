"""The whole receiver, from the environment that a WSGI server makes to the response that it is given to send."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any

from catga_sync.idempotency import MemoryIdempotency
from catga_sync.integrations.wsgi import raw_request, send_response
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.receiver.authentication import Guard, LoopbackGuard, OpenGuard, SignatureGuard
from catga_sync.receiver.deduplication import Deduplication
from catga_sync.receiver.receiver import Receiver
from catga_sync.testing.clock import FakeClock
from catga_sync.wire.compression import compress, decompress
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope, read_batch_response
from catga_sync.wire.headers import SIGNATURE
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH
from catga_sync.wire.signatures import sign_request
from tests.fuzz.target import Check, Finding, OfTheApplication, Target, join, split
from tests.fuzz.targets.headers import as_header
from tests.fuzz.targets.signatures import CLUSTER, NOW, RING, SIGNED_HEADERS
from tests.nonces import MemoryNonces
from tests.unit.serving_node import local_node

__all__ = ["TARGETS", "Ask", "Order"]

_NODE, _RUN = "node-1", "run-1"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOCAL = {"Host": "localhost:5001", "Content-Type": "application/json"}


@message(name="Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


@message(name="Order")
@dataclass(frozen=True)
class Order(Request[None]):
    item: str
    count: int = 1


@message(name="Placed")
@dataclass(frozen=True)
class Placed(Event):
    item: str


class _Node:
    """A receiver with handlers that count. Not thread-safe."""

    def __init__(self) -> None:
        self.ran = 0
        local = Mediator()
        local.register(Ask, self._ask)
        local.register(Order, self._count)
        local.subscribe(Placed, self._count)
        self._local = local

    def fresh(self, guard: Guard, once: bool) -> Receiver:
        """Return a receiver that has seen no request yet."""
        self.ran = 0
        return Receiver(
            self._local,
            local_node(_NODE, self._local),
            guard=guard,
            deduplication=Deduplication(MemoryIdempotency()) if once else None,
            max_body_bytes=64 * 1024,
        )

    def _ask(self, request: Ask) -> int:
        self.ran += 1
        if request.number == 13:
            raise OfTheApplication
        return request.number

    def _count(self, request: object) -> None:
        self.ran += 1


def _environ(data: bytes) -> dict[str, Any]:
    """Return what a WSGI server makes of a request: method, path, version, peer, header lines, body."""
    method, path, protocol, address, lines, body = split(data, 6)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": (as_header(method) or "GET").split()[0],
        "PATH_INFO": path.decode("latin-1"),
        "SERVER_PROTOCOL": as_header(protocol) or "HTTP/1.1",
        "REMOTE_ADDR": as_header(address) or "",
        "wsgi.input": BytesIO(body),
    }
    for line in lines.split(b"\n"):
        name, colon, value = line.partition(b":")
        text = name.decode("latin-1").upper()
        if not colon or not _TOKEN.fullmatch(text) or "_" in text:
            continue
        key = text.replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = as_header(value) or ""
    environ["wsgi.input_terminated"] = environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
    return environ


def _exchange(receiver: Receiver, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request through the receiver, and judge what every response has to be."""
    environ = _environ(data)
    told: list[Any] = []
    body = b"".join(
        send_response(
            receiver.handle(raw_request(environ)), environ, lambda status, headers: told.append((status, headers))
        )
    )
    ((line, pairs),) = told
    status = int(line.split()[0])
    if line != f"{status} {HTTPStatus(status).phrase}":
        raise Finding(f"no status line: {line!a}")
    headers = dict(pairs)
    for name, value in pairs:
        if not _TOKEN.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise Finding(f"a header that no server sends: {name!a}: {value!a}")
    if headers["Catga-Executed"] not in ("0", "1", "unknown"):
        raise Finding(f"Catga-Executed: {headers['Catga-Executed']!a}")
    if environ["REQUEST_METHOD"] != "HEAD" and int(headers["Content-Length"]) != len(body):
        raise Finding("the length is not that of the body")
    if "Content-Encoding" in headers and body:
        body = decompress(headers["Content-Encoding"], body, 1 << 30)
    return status, headers, body


def _judge(node: _Node, guard: Guard, data: bytes, *, once: bool = True) -> int:
    """Send a request twice; return how often a handler ran for the first."""
    receiver, environ = node.fresh(guard, once), _environ(data)
    status, headers, body = _exchange(receiver, data)
    first, path, method = node.ran, environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if method == "HEAD":
        body = b""
    elif status == 200 and path in (NODE_PATH, DRAIN_PATH):
        json.loads(body)
    elif status == 200 and path == BATCH_PATH:
        _judge_batch(body, first)
    else:
        reply = ResponseEnvelope.decode(body)
        if reply.is_success and headers["Catga-Executed"] != "1":
            raise Finding("a success that did not run")
        if status >= 500 and status not in (503, 504):
            raise Finding(f"a fault of the receiver: {reply.error_message}")
    told = headers["Catga-Executed"]
    if (told == "1") != (first > 0) and told != "unknown":
        raise Finding(f"Catga-Executed is {told} and handlers ran {first} times")
    if first and path not in (INVOKE_PATH, BATCH_PATH):
        raise Finding(f"a handler ran for {path!a}")
    _exchange(receiver, data)
    if node.ran != first:
        raise Finding("the same request ran twice")
    return first


def _judge_batch(body: bytes, ran: int) -> None:
    told = [executed for _, executed in read_batch_response(body)]
    if set(told) - {"0", "1", "unknown"}:
        raise Finding(f"executed: {told!a}")
    # An id that stands twice in a batch runs once, and is answered as having run both times.
    if not min(1, told.count("1")) <= ran <= told.count("1") + told.count("unknown"):
        raise Finding(f"a batch says {told}, and handlers ran {ran} times")


def _request(body: bytes, path: str = INVOKE_PATH, method: str = "POST", **headers: str) -> bytes:
    given = {**_LOCAL, "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "\n".join(f"{name}:{value}" for name, value in given.items())
    return join(method, path, "HTTP/1.1", "127.0.0.1", lines, body)


def _bodies() -> list[bytes]:
    now = time.time()
    return [
        RequestEnvelope("Ask", "System.Int32", b'{"number":1}', "r-1", "node-2", now).encode(),
        RequestEnvelope("Ask", "int", b'{"number":13}', "r-2", None, now).encode(),
        RequestEnvelope("Order", "none", b'{"item":"tea"}', "r-3", None, now).encode(),
        RequestEnvelope("Placed", "none", b'{"item":"tea"}', "r-4", None, now).encode(),
    ]


def _batch(bodies: Iterable[bytes]) -> bytes:
    return b'{"requests":[%b]}' % b",".join(bodies)


def _seeds() -> list[bytes]:
    bodies = _bodies()
    old = bodies[0].replace(b'"timestamp":"2', b'"timestamp":"1')
    first = re.sub(rb'"timestamp":"[^"]*"', b'"timestamp":"0001-01-01T00:00:00"', bodies[0])
    return [
        *(_request(body, Catga_Timeout_Ms="30000") for body in bodies),
        _request(bodies[0], Catga_Chain="web=5,users=0", traceparent=f"00-{'a' * 32}-{'b' * 16}-01", tracestate="a=b"),
        _request(bodies[0], Catga_Store="5ca1ab1e" * 4),
        _request(old, Catga_Timeout_Ms="1"),
        _request(first, Catga_Timeout_Ms="1000"),
        _request(_batch(bodies), BATCH_PATH),
        _request(_batch([bodies[2], bodies[2], b"{}", b"7"]), BATCH_PATH, Catga_Request_Id="r-9"),
        _request(b"", NODE_PATH, "GET"),
        _request(b"", DRAIN_PATH),
        _request(bodies[0], Transfer_Encoding="chunked", Content_Length=""),
        _request(compress("gzip", bodies[0]), Content_Encoding="gzip"),
        _request(compress("gzip", _batch(bodies)), BATCH_PATH, Content_Encoding="x-gzip", Accept_Encoding="gzip"),
        _request(compress("gzip", bytes(10_000_000)), Content_Encoding="gzip"),
        _request(bodies[0], Origin="http://evil.example"),
        _request(bodies[0], Host="[::1]:5001", X_Forwarded_For="10.0.0.1"),
    ]


def _prepare_open(place: str) -> Check:
    node = _Node()
    return lambda data: _judge(node, OpenGuard(), data) > 0


def _prepare_loopback(place: str) -> Check:
    node = _Node()

    def check(data: bytes) -> bool:
        ran = _judge(node, LoopbackGuard(), data)
        raw = raw_request(_environ(data))
        local = (raw.remote_address or "").startswith(("127.", "::1", "::ffff:127.", "0:", "0000:", "::ffff:7f"))
        if ran and (not local or {"origin", "via", "forwarded", "x-forwarded-for"} & raw.headers.keys()):
            raise Finding(f"an unsigned call of {raw.remote_address} ran: {dict(raw.headers)!a}")
        return ran > 0

    return check


# -- signed -----------------------------------------------------------------------------------------------------------


def _signed_seeds() -> list[bytes]:
    made = []
    bodies = _bodies()
    for path, run, more, body in (
        (INVOKE_PATH, _RUN, {"Catga-Timeout-Ms": "30000", "Catga-Request-Id": "r-1"}, bodies[0]),
        (INVOKE_PATH, _RUN, {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "a=b"}, bodies[2]),
        (INVOKE_PATH, "run-0", {}, bodies[2]),
        (BATCH_PATH, "", {}, _batch(bodies)),
        (NODE_PATH, _RUN, {}, b""),
    ):
        headers = {name.lower(): value for name, value in {**_LOCAL, **more}.items()}
        signature = sign_request(
            RING,
            method="POST",
            path=path,
            cluster=CLUSTER,
            audience=_NODE,
            incarnation=run,
            headers=headers,
            body=body,
            now=NOW + 1.0,
        )
        made.append(_request(body, path, **more, **{SIGNATURE: signature}))
    return made


def _signed_cells(data: bytes) -> tuple[object, ...]:
    """Return all that a signature stands for, and the signature."""
    raw = raw_request(_environ(data))
    length = raw.headers.get("content-length", "")
    body = raw.read(int(length[:9])) if length.isascii() and length.isdigit() else raw.read(-1)
    return (raw.method, raw.path, raw.headers.get(SIGNATURE.lower()), *map(raw.headers.get, SIGNED_HEADERS), body)


def _prepare_signed(place: str) -> Check:
    known = frozenset(map(_signed_cells, _SIGNED_SEEDS))
    node = _Node()

    def check(data: bytes) -> bool:
        clock = FakeClock(NOW)
        nonces = MemoryNonces()
        # It began to remember before anything was signed.
        guard = SignatureGuard(RING, nonces, cluster=CLUSTER, incarnation=lambda: _RUN, clock=clock)
        clock.advance(2.0)
        # That nothing runs twice is up to the nonces alone.
        ran = _judge(node, guard, data, once=False)
        if len(nonces) > (_signed_cells(data) in known) or (ran and _signed_cells(data) not in known):
            raise Finding("a request that nobody signed was let in")
        return ran > 0

    return check


#: Made once: each signature has a nonce of its own.
_SIGNED_SEEDS = _signed_seeds()

_WORDS = (
    "Content-Length:", "Content-Type:", "Transfer-Encoding:chunked", "Content-Encoding:gzip", "Catga-Timeout-Ms:",
    "Catga-Chain:", "Catga-Request-Id:", "Catga-Signature:", "Catga-Store:", "traceparent:", "Origin:", "Host:",
    "HTTP/1.0", "HEAD", INVOKE_PATH, BATCH_PATH, NODE_PATH, DRAIN_PATH, "0001-01-01T00:00:00+01:00", "application/json",
    "\n", "10.0.0.1", "requestId", "requests", "Order", "Placed", "payloadData",
)  # fmt: skip

TARGETS = (
    Target("receiver", _prepare_open, _seeds, _WORDS),
    Target("receiver-loopback", _prepare_loopback, _seeds, _WORDS),
    Target("receiver-signed", _prepare_signed, lambda: _SIGNED_SEEDS, _WORDS),
)

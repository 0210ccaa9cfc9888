"""Opens a stream: one HTTP/1.1 upgrade on the port of a node, signed by both sides where calls are signed."""

from __future__ import annotations

import re
import select
import socket
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from catga_sync._socket_io import send_all
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import ClusterNode
from catga_sync.transport.http.resolver import addresses_of
from catga_sync.transport.signing import Signing
from catga_sync.wire.frames import PROTOCOL
from catga_sync.wire.headers import EXECUTED, SIGNATURE, STREAM_NONCE
from catga_sync.wire.routes import STREAM_PATH
from catga_sync.wire.stream_keys import StreamKeys, is_nonce

__all__ = ["SHORT_PAUSE", "SILENCE_PAUSE", "NoStream", "open_connection"]

#: Seconds for which no further stream is opened: where the node cannot be reached or refuses for the moment, and where
#: it, or what stands before it, knows no streams.
SHORT_PAUSE, LONG_PAUSE = 1.0, 60.0
#: The same where there was no response in time: a node that hangs for a moment, or a proxy that waits for something.
SILENCE_PAUSE = 10.0
#: HTTP statuses with which a node refuses for the moment, and the seconds for which it does. After 421 (the request was
#: signed for another run of the node) the POST that follows learns the present run.
_PASSING = {421: 0.0, 503: SHORT_PAUSE}

_MAX_HEAD = 16 * 1024
_PIECE = 64 * 1024
_SIGNED = (SIGNATURE, EXECUTED, "Content-Type", "Content-Encoding")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")


class NoStream(Exception):
    """
    No stream could be opened.

    Args:
        why: The reason, as a sentence without its full stop.
        pause: Seconds for which another try is of no use.
    """

    def __init__(self, why: str, pause: float) -> None:
        super().__init__(why)
        self.pause = pause


class _Head(NamedTuple):
    """The head of the response to an upgrade, and what came behind it."""

    status: int
    headers: dict[str, str]
    rest: bytes


def open_connection(
    node: ClusterNode, signing: Signing | None, incarnation: str, until: float
) -> tuple[socket.socket, bytes, StreamKeys | None]:
    """
    Open a stream.

    Args:
        node: Where to.
        signing: Signs the request; None means that it is not signed.
        incarnation: That of the node in the signature.
        until: Monotonic time at which it ends.

    Returns:
        The connection, what came behind the response, and the keys.

    Raises:
        NoStream: The node does not serve one now.
        OSError: It cannot be reached.
    """
    parts = urlsplit(node.endpoint or "")
    headers = {"User-Agent": "catga-sync", "Accept-Encoding": "identity"}
    nonce, sign = "", None
    if signing is not None:
        try:
            signed = signing.sign("GET", STREAM_PATH, node.node_id, incarnation, headers, b"")
        except ConfigurationError as exc:
            raise NoStream(f"the request cannot be signed: {exc}", SHORT_PAUSE) from exc
        nonce, sign = signed.nonce, signing
    lines = [
        f"GET {STREAM_PATH} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "Connection: Upgrade",
        f"Upgrade: {PROTOCOL}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    sock = _connect(parts.hostname or "", parts.port or 80, until)
    try:
        send_all(sock, "\r\n".join([*lines, "", ""]).encode("ascii"), until)
        head = _read_head(sock, until)
        if head.status != 101:
            pause = _PASSING.get(head.status, LONG_PAUSE)
            ends = head.status == 503 and head.headers.get("retry-after") == "0"
            if ends and _is_of_node(sock, head, until, sign, node, nonce):
                pause = 0.0  # a worker that ends; the next connection may reach another one
            raise NoStream(f"the upgrade was refused with HTTP status {head.status}", pause)
        node_nonce = head.headers.get(STREAM_NONCE.lower(), "")
        if head.headers.get("upgrade", "").lower() != PROTOCOL or not is_nonce(node_nonce):
            raise NoStream("the response to the upgrade is not that of a node", LONG_PAUSE)
        keys = None
        if sign is not None:
            keys = _keys(sign, node, nonce, headers[SIGNATURE], head.headers, node_nonce)
        return sock, head.rest, keys
    except BaseException:
        sock.close()
        raise


def _keys(
    signing: Signing, node: ClusterNode, nonce: str, signature: str, headers: dict[str, str], node_nonce: str
) -> StreamKeys | None:
    """Return the keys of a stream whose upgrade is signed by the node; None where it need not sign, and has not."""
    if signing.signer(nonce, node.node_id, 101, _signed(headers), node_nonce.encode("ascii")) is not None:
        return signing.stream_keys(signature, nonce, node_nonce, node.node_id)
    if SIGNATURE.lower() in headers or signing.needs_proof(node):
        raise NoStream("the response to the upgrade is not signed with the secret", LONG_PAUSE)
    return None


def _is_of_node(
    sock: socket.socket, head: _Head, until: float, signing: Signing | None, node: ClusterNode, nonce: str
) -> bool:
    """Return whether the node itself refused: what stands before it may send the same status for any reason."""
    signed = SIGNATURE.lower() in head.headers
    if signing is None or not (signed or signing.needs_proof(node)):
        return EXECUTED.lower() in head.headers
    body = _read_body(sock, head, until) if signed else None
    return body is not None and (
        signing.signer(nonce, node.node_id, head.status, _signed(head.headers), body) is not None
    )


def _signed(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers of a response that its signature covers, and the signature."""
    found = {name: headers.get(name.lower()) for name in _SIGNED}
    return {name: value for name, value in found.items() if value is not None}


def _connect(host: str, port: int, until: float) -> socket.socket:
    error: OSError | None = None
    for address in addresses_of(host, port, max(0.001, until - time.monotonic())):
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            sock = socket.create_connection((address, port), timeout=left)
        except OSError as exc:
            error = exc
            continue
        if sock.getsockname() == sock.getpeername():
            # A connect to a free local port may meet itself; see ``http/connection.py``.
            sock.close()
            error = ConnectionRefusedError("connected to itself: no server listens on that port")
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return sock
    raise error if error is not None else TimeoutError("the connection was not made in time")


def _read_body(sock: socket.socket, head: _Head, until: float) -> bytes | None:
    """Return the body of a refusal; None where it does not come whole, in time and at a length that is told."""
    length = head.headers.get("content-length", "")
    if not length.isascii() or not length.isdecimal() or len(length) > 5:
        return None
    raw = head.rest
    try:
        while len(raw) < int(length):
            raw += _receive(sock, until)
    except (NoStream, OSError):
        return None
    return raw if len(raw) == int(length) else None


def _receive(sock: socket.socket, until: float) -> bytes:
    """Return the bytes that come next, one at least."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    while (left := until - time.monotonic()) > 0:
        poller.poll(left * 1000.0 + 1.0)
        try:
            data = sock.recv(_PIECE)
        except BlockingIOError:
            continue
        if not data:
            raise NoStream("the connection was closed at the upgrade", SHORT_PAUSE)
        return data
    raise NoStream("there was no response to the upgrade in time", SILENCE_PAUSE)


def _read_head(sock: socket.socket, until: float) -> _Head:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _receive(sock, until)
        if len(raw) > _MAX_HEAD:
            raise NoStream("the response to the upgrade has too long a head", LONG_PAUSE)
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise NoStream("the response to the upgrade is no HTTP/1.1", LONG_PAUSE)
    headers: dict[str, str] = {}
    for field in fields:
        found = _FIELD.fullmatch(field)
        if found is None or found[1].decode("ascii").lower() in headers:
            if status[1] == b"101":
                raise NoStream("the response to the upgrade cannot be read", LONG_PAUSE)
            continue
        headers[found[1].decode("ascii").lower()] = found[2].decode("latin-1")
    return _Head(int(status[1]), headers, rest)

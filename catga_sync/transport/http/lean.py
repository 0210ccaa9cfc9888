"""The short way of a small POST to a node: over a connection that is there, with one write and one strict look.

For a small exchange, urllib3 and http.client take longer than the network and the other node together. Here the bytes
of a request go straight to the socket of a connection of the pool. A response is taken as a node of ours writes it: a
status line, a line for each header, ``Content-Length``, the body, and nothing after it.

Rules of this file:
1. What is unusual goes the long way. Before anything is written, that is the pool. Afterwards it is http.client, which
   gets the bytes that have come, and then the socket. So every response means what it means there.
2. Nobody who watches or replaces requests is passed by: while a method of the long way is not the library's own,
   everything goes the long way.
"""

from __future__ import annotations

import http.client
import logging
import re
import sys
from collections.abc import Mapping
from operator import is_not
from types import FunctionType
from typing import Any, NamedTuple

import urllib3
import urllib3.connection

from catga_sync._socket_io import NotTaken, send_all
from catga_sync.transport.http.adapter import DeadlinePool
from catga_sync.transport.http.connection import Connection, DeadlineSocket, Exchange
from catga_sync.transport.http.user_session import ResponseTooLong, check_encoding, read_whole
from catga_sync.wire.headers import ACCEPT_ENCODING

__all__ = ["Lane"]

#: Bytes of the longest body, in either direction, for which the way matters.
_MOST_BYTES = 64 * 1024
#: Pieces in which a response may come.
_MOST_PIECES = 16
#: Of the head of a response; http.client has limits of its own, which are higher.
_MOST_HEADERS, _LONGEST_HEAD = 50, 16 * 1024

_STATUS = re.compile(r"HTTP/1\.1 ([2-5]\d\d) [ -~]*\r\n")
_HEADER = re.compile(r"^([A-Za-z0-9-]+): ([!-~](?:[ -~]*[!-~])?)\r\n", re.MULTILINE)
_LENGTH = re.compile(r"[0-9]{1,5}", re.ASCII)
#: Statuses whose responses have no body, whatever their headers say.
_BODILESS = ("204", "304")
#: What may stand in a line of a head, and what is between two.
_PRINTABLE = bytes(range(0x20, 0x7F)) + b"\r\n"
#: A host that stands in the header ``Host`` as it is: no address in brackets, and no dot at its end.
_NAME = re.compile(r"[A-Za-z0-9._-]*[A-Za-z0-9_-]", re.ASCII)

#: Tells each request at DEBUG.
_urllib3_log = logging.getLogger("urllib3.connectionpool")

#: What carries a request on the long way. Tracing libraries and tests replace one of these, to see it.
_CARRIERS: tuple[tuple[Any, str], ...] = (
    (urllib3.HTTPConnectionPool, "urlopen"),
    (urllib3.connection.HTTPConnection, "request"),
    (urllib3.connection.HTTPConnection, "putrequest"),
    (urllib3.connection.HTTPConnection, "getresponse"),
    (http.client.HTTPConnection, "request"),
    (http.client.HTTPConnection, "putrequest"),
    (http.client.HTTPConnection, "endheaders"),
    (http.client.HTTPConnection, "send"),
    (http.client.HTTPConnection, "getresponse"),
)


def _stock(cls: type, name: str) -> object:
    """Return the library's own method; one that was replaced before this import equals nothing."""
    method = vars(cls).get(name)
    own = type(method) is FunctionType and method.__globals__ is vars(sys.modules[cls.__module__])
    return method if own else object()


_CLASSES, _NAMES = zip(*_CARRIERS, strict=True)
_STOCK = tuple(map(_stock, _CLASSES, _NAMES))


class _Head(NamedTuple):
    """The head of a response that came as a node of ours writes it."""

    status: int
    headers: Headers
    #: Where the body begins and ends.
    begin: int
    end: int


class Headers(dict[str, str]):
    """The headers of a response: kept with names in lower case, found in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """See ``dict``."""
        return dict.get(self, name.lower(), default)


class Lane:
    """
    The short way to one node. Thread-safe.

    Args:
        pool: The pool of its connections, which the long way uses, too.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self._is_ours = isinstance(pool, DeadlinePool)
        # A cache; two threads that fill the same place put the same there.
        self._starts: dict[str, bytes | None] = {}

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], exchange: Exchange, limit: int
    ) -> tuple[int, Mapping[str, str], bytes] | None:
        """
        Send a request; return status, headers and body of its response.

        Args:
            path: The cluster's route.
            body: The request's.
            headers: The request's.
            exchange: Its deadline; gets the evidence.
            limit: Bytes that the response may have.

        Returns:
            None where nothing was written, and the request has to go the long way.

        Raises:
            Exception: The exchange has failed; its connection is closed.
        """
        # Without ``exchange.finish``: nobody on this way changes a header after it was signed.
        request = self._request(path, body, headers)
        # By identity: a wrapper may say that it equals what it wraps.
        if request is None or not self._is_ours or any(map(is_not, map(getattr, _CLASSES, _NAMES), _STOCK)):
            return None
        if _urllib3_log.isEnabledFor(logging.DEBUG):
            return None
        connection = self.pool.take()
        if connection is None:
            return None
        sock = connection.begin(exchange) if type(connection) is Connection else None
        if sock is None:
            self.pool.give_back(connection)  # the long way connects it anew
            return None
        try:
            raw, head = _exchanged(sock, request, exchange)
            if head is not None:
                connection.end()
                if "content-encoding" in head.headers:
                    check_encoding(head.headers, headers.get(ACCEPT_ENCODING, ""))
                if head.end - head.begin > limit:
                    raise ResponseTooLong
            else:
                with exchange.run():
                    response = connection.take_up(path, raw)
        except BaseException:
            connection.close()
            self.pool.give_back(connection)
            raise
        if head is not None:
            self.pool.give_back(connection)
            return head.status, head.headers, raw[head.begin :]
        # As the pool does: the response gives its connection back.
        response._connection, response._pool = connection, self.pool
        with exchange.run():
            return read_whole(response, headers, limit)

    def _request(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes | None:
        """Return the bytes of a request; None where http.client has to write, or to refuse, them."""
        if len(body) > _MOST_BYTES:
            return None
        try:
            start = self._starts[path]
        except KeyError:
            start = self._starts[path] = _start_of(self.pool, path)
        text = "\r\n".join(map(": ".join, headers.items()))
        if start is None or not text.isascii():
            return None
        lines = text.encode("ascii")
        breaks = len(headers) - 1
        if lines.translate(None, _PRINTABLE) or not lines.count(b"\r") == lines.count(b"\n") == breaks:
            return None
        return b"%b%d\r\n%b\r\n\r\n%b" % (start, len(body), lines, body)


def _start_of(pool: Any, path: str) -> bytes | None:
    """Return how a request begins, up to its length; None for a host that http.client has to write."""
    host, port = pool.host, pool.port
    if pool.proxy is not None or not isinstance(host, str) or _NAME.fullmatch(host) is None:
        return None
    where = host if port == 80 else f"{host}:{port}"
    return f"POST {path} HTTP/1.1\r\nHost: {where}\r\nContent-Length: ".encode("ascii")


def _exchanged(sock: DeadlineSocket, request: bytes, exchange: Exchange) -> tuple[bytes, _Head | None]:
    """Return a response and its head; without one, what has come of a response that http.client is to read."""
    exchange.left()  # when the time is up, nothing is written
    sys.audit("http.client.send", exchange.connection, request)
    # Beforehand: what a signal handler raises may come when the kernel has all.
    exchange.request_complete = True
    try:
        send_all(sock, request, exchange.expires)
    except (BrokenPipeError, ConnectionResetError):
        exchange.request_complete = False
        return b"", None  # the peer may have responded before it closed the connection
    except NotTaken:
        exchange.request_complete = False
        raise
    raw, head = b"", None
    for _ in range(_MOST_PIECES):
        piece = _next_piece(sock, exchange)
        raw += piece
        try:
            head = head or _read_head(raw)
        except _UnusualError:
            break
        if head is not None and len(raw) >= head.end:
            return raw, head if len(raw) == head.end else None
        if not piece:
            break
    return raw, None


def _next_piece(sock: DeadlineSocket, exchange: Exchange) -> bytes:
    """Return what comes next; b"" at the end. The socket is not waited for longer than the exchange lasts."""
    readable = sock.readable
    while True:
        if readable is None or readable(exchange.left() * 1000.0 + 1.0):
            try:
                return sock.recv(_MOST_BYTES)
            except BlockingIOError:
                pass


class _UnusualError(Exception):
    """A response is none that is read here."""


def _read_head(raw: bytes) -> _Head | None:
    """
    Return the head of a response, None if it has not come yet.

    Raises:
        _UnusualError: A node of ours would not write it so.
    """
    begin = raw.find(b"\r\n\r\n") + 4
    if begin < 4:
        if len(raw) > _LONGEST_HEAD:
            raise _UnusualError
        return None
    try:
        text = raw[: begin - 2].decode("ascii")
    except UnicodeDecodeError:
        raise _UnusualError from None
    status = _STATUS.match(text)
    if status is None:
        raise _UnusualError
    lines = _HEADER.findall(text, status.end())
    headers = {name.lower(): value for name, value in lines}
    length = headers.get("content-length", "")
    usual = (
        len(headers) == len(lines) == text.count("\n") - 1  # each line is a header, and none came twice
        and len(lines) <= _MOST_HEADERS
        and begin <= _LONGEST_HEAD
        and status[1] not in _BODILESS
        and "transfer-encoding" not in headers
        and headers.get("connection", "keep-alive").lower() == "keep-alive"
        and _LENGTH.fullmatch(length) is not None
        and int(length) <= _MOST_BYTES
    )
    if not usual:
        raise _UnusualError
    return _Head(int(status[1]), Headers(headers), begin, begin + int(length))

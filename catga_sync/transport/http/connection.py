"""Connections that keep one deadline for a whole exchange, and record whether the request was sent.

``requests`` and urllib3 limit each read of a socket: a peer that sends a byte a second blocks a thread for ever, a
silent name server blocks it for half a minute, and no exception shows whether the request had left. These connections
decide that at the socket:

* ``Exchange`` holds the deadline and the evidence of one exchange; it belongs to the thread that runs it.
* A connection is made within the deadline, the look-up of the name included (``resolver.py``).
* Each read and write of a socket gets what is left of the deadline.
* Interim responses are skipped, and a response whose ``Content-Length`` is no number is refused: http.client reads it
  until the peer closes, and returns a part as if it were complete.
* A connection that has been idle or open for too long is not used again.

Rules of this file:
1. Evidence only: what an exchange means is decided in ``verdict.py``.
2. A thread without an exchange gets urllib3's own behaviour, and so does a connection that never carried one: the
   user's own calls through an adapter that makes these connections work as before.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, InvalidHeader, NewConnectionError

from catga_sync.transport.http.resolver import addresses_of

__all__ = ["IDLE_LIMIT", "Connection", "DeadlineSocket", "Exchange", "GuardedConnection", "TlsConnection", "current"]

#: Seconds that an idle connection is kept when its server has not said how long it keeps it: half of gunicorn's 2 s.
IDLE_LIMIT = 1.0
#: Seconds after which a connection is replaced, give or take a tenth, so that a change of DNS is followed.
MAX_AGE = 300.0

#: Interim responses (100 Continue, 103 Early Hints) before a response.
MOST_INTERIM = 100

_LENGTH = re.compile(r"(\d+)(?: *, *\1)*", re.ASCII)


@dataclass(slots=True, eq=False)
class Exchange:
    """
    The deadline and the evidence of one request and its response. Belongs to the thread that runs it.

    Args:
        expires: Monotonic time at which the exchange ends, whatever the peer does.
        idle_limit: Seconds for which a connection may have been idle to be used.
        finish: Returns the headers of the request as they are to be sent; None leaves them as they are.
    """

    expires: float
    idle_limit: float = IDLE_LIMIT
    finish: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None
    #: Whether the kernel has taken the whole request.
    request_complete: bool = field(default=False, init=False)
    #: The connection that carries the exchange; set before it is made. None until then.
    connection: GuardedConnection | None = field(default=None, init=False)
    #: The address that a connection made for it has reached; None when none was made.
    peer: tuple[Any, ...] | None = field(default=None, init=False)
    #: Whether a session of the user's own sends it, perhaps over connections of another kind.
    is_delegated: bool = field(default=False, init=False)

    @contextlib.contextmanager
    def run(self) -> Iterator[Exchange]:
        """Make this the exchange of the current thread."""
        outer = current.exchange
        current.exchange = self
        try:
            yield self
        finally:
            current.exchange = outer

    def left(self) -> float:
        """
        Return the seconds left.

        Raises:
            TimeoutError: There are none.
        """
        left = self.expires - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time of the exchange is up")
        return left

    @property
    def has_evidence(self) -> bool:
        """Whether ``request_complete`` is known for certain: the exchange used no connection of another kind."""
        return self.connection is not None or not self.is_delegated

    def retire(self) -> None:
        """Have the connection closed instead of used again."""
        if self.connection is not None:
            self.connection.retired = True


class _Current(threading.local):
    #: None when the thread runs none.
    exchange: Exchange | None = None


#: The exchange of the current thread.
current = _Current()


def _limit(sock: socket.socket) -> None:
    exchange = current.exchange
    if exchange is not None:
        sock.settimeout(exchange.left())


class DeadlineSocket(socket.socket):
    """A socket whose reads and writes end with the deadline of the current exchange."""

    #: What was received already, and is to be read once more.
    unread = b""
    #: Waits until there is something to read, for milliseconds at most, and returns [] if there is not; None where the
    #: system has no ``poll`` (Windows).
    readable: Callable[[float], list[Any]] | None = None

    def recv_into(self, *args: Any) -> int:
        if self.unread:
            came, self.unread = self.unread[: len(args[0])], self.unread[len(args[0]) :]
            args[0][: len(came)] = came
            return len(came)
        _limit(self)
        return super().recv_into(*args)

    def sendall(self, *args: Any) -> None:
        _limit(self)  # for all parts together: the timeout does not restart with each
        super().sendall(*args)


class _DeadlineTlsSocket(ssl.SSLSocket):
    """The same over TLS, where ``sendall`` calls ``send`` for each part."""

    __slots__ = ()

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        _limit(self)
        return super().recv_into(*args, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> int:
        _limit(self)
        return super().send(*args, **kwargs)


class _Response(http.client.HTTPResponse):
    """
    A response without the interim ones before it (RFC 9110, 15.2); http.client skips none but 100 Continue.

    ``_read_status`` is private, but urllib3 calls it, too.
    """

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MOST_INTERIM + 1):
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            # 101 is not an interim response: another protocol follows it, for which no request of ours asks.
            if current.exchange is None or not 100 <= line[1] < 200 or line[1] == 101:
                return line
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {MOST_INTERIM} interim responses")


class GuardedConnection(HTTPConnection):
    """What the plain and the TLS connection have in common."""

    response_class = _Response
    retired = False
    _used_at = 0.0
    _replace_at = 0.0
    #: None until the connection carries an exchange.
    _idle_limit: float | None = None

    def connect(self) -> None:
        exchange = current.exchange
        if exchange is not None:
            exchange.connection = self
        super().connect()
        sock = self.sock
        try:
            peer = sock.getpeername()
            if exchange is not None:
                exchange.peer = peer
            if sock.getsockname() == peer:
                # A connect to a free local port may meet itself (RFC 9293, simultaneous open).
                raise ConnectionRefusedError("connected to itself: no server listens on that port")
        except BaseException:
            self.close()
            raise
        now = time.monotonic()
        self.retired = False
        self._used_at = now
        self._replace_at = now + MAX_AGE * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing

    def _new_conn(self) -> socket.socket:
        exchange = current.exchange
        if exchange is None:
            return super()._new_conn()
        # urllib3 resolves the name without a limit, and gives each address the whole time.
        host, seconds = self._dns_host, self.timeout
        end = time.monotonic() + (seconds if isinstance(seconds, (int, float)) else exchange.left())
        try:
            addresses = addresses_of(host.strip("[]"), self.port, min(end - time.monotonic(), exchange.left()))
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, exc) from exc
        except OSError as exc:
            raise NewConnectionError(self, f"{host}: {exc}") from exc
        try:
            for rest in range(len(addresses), 0, -1):
                self._dns_host = addresses[-rest]
                self.timeout = max(0.001, min(end - time.monotonic(), exchange.left()) / rest)
                try:
                    sock = super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError):
                    if rest == 1:
                        raise
                else:
                    # A TLS handshake gets the rest of the time to connect.
                    sock.settimeout(max(0.001, min(end - time.monotonic(), exchange.left())))
                    return sock
        finally:
            self._dns_host, self.timeout = host, seconds
        raise NewConnectionError(self, f"{host} has no address")

    @property
    def is_connected(self) -> bool:
        return not self.is_stale and super().is_connected

    @property
    def is_stale(self) -> bool:
        """Whether it is not to be used again: retired, idle for too long, or too old."""
        if self._idle_limit is None:
            return False
        now = time.monotonic()
        return self.retired or now - self._used_at > self._idle_limit or now > self._replace_at

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = current.exchange
        if exchange is not None:
            exchange.connection = self
            self._idle_limit = exchange.idle_limit
            if exchange.finish is not None and "headers" in kwargs:
                kwargs["headers"] = exchange.finish(kwargs["headers"])
        super().request(*args, **kwargs)
        if exchange is not None:
            exchange.request_complete = True

    def getresponse(self) -> Any:
        response = super().getresponse()
        self._used_at = time.monotonic()
        length = response.headers.get("Content-Length")
        if length is not None and current.exchange is not None and not _LENGTH.fullmatch(length):
            response.close()  # else the descriptor stays open until the response is garbage collected
            raise InvalidHeader(f"Content-Length: {length[:40]!r} is no length")
        return response


class Connection(GuardedConnection):
    """A connection without TLS. ``lean.py`` writes to its socket, and reads off it, without http.client."""

    @property
    def is_connected(self) -> bool:
        return super().is_connected and not self.sock.unread  # type: ignore[union-attr]

    def begin(self, exchange: Exchange) -> DeadlineSocket | None:
        """
        Have the connection carry an exchange.

        Returns:
            Its socket, which does not block; None where it cannot be used as it is.
        """
        sock = self.sock
        if type(sock) is not DeadlineSocket or sock.readable is None or sock.unread or self.debuglevel:
            return None
        # What can be read before a request is the end of the connection, or a response to nothing.
        if self.is_stale or sock.readable(0):
            return None
        exchange.connection = self
        self._idle_limit = exchange.idle_limit
        if sock.gettimeout() != 0.0:  # http.client sets it before each exchange of its own
            sock.setblocking(False)
        return sock

    def end(self) -> None:
        """Note that the response was read to its end."""
        self._used_at = time.monotonic()

    def take_up(self, path: str, raw: bytes) -> Any:
        """Return the response to a POST that was written to the socket; ``raw`` has come of it."""
        cast("DeadlineSocket", self.sock).unread = raw
        self.send = lambda data: None  # type: ignore[method-assign]  # it was sent
        try:
            # Not ``self.request``: whether the kernel took the whole request is known already.
            HTTPConnection.request(self, "POST", path, preload_content=False, decode_content=False)
        finally:
            del self.send
        return self.getresponse()

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        # urllib3 makes a plain socket; this one takes over its descriptor, and its timeout where there is no exchange.
        timeout = sock.gettimeout()
        made = DeadlineSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        made.settimeout(timeout)
        made.readable = _look_at(made.fileno())
        return made


def _look_at(descriptor: int) -> Callable[[float], list[Any]] | None:
    """Return ``DeadlineSocket.readable`` for a socket."""
    if not hasattr(select, "poll"):
        return None
    # Once: it takes longer than the look. But that of gevent is for one thread.
    poller = _poller(descriptor)
    return poller.poll if type(poller).__module__ == "select" else lambda wait: _poller(descriptor).poll(wait)


def _poller(descriptor: int) -> Any:
    made = select.poll()
    made.register(descriptor, select.POLLIN)
    return made


class TlsConnection(GuardedConnection, HTTPSConnection):
    """A connection over TLS."""

    def connect(self) -> None:
        """Connect, and do the handshake."""
        super().connect()
        if type(self.sock) is ssl.SSLSocket:
            # Not by ``SSLContext.sslsocket_class``: the context may be the user's, and serve other connections as well.
            self.sock.__class__ = _DeadlineTlsSocket

"""The caller's side of streams: connections to a node that carry calls without HTTP around them.

Where a node offers streams (``nodes.STREAM``), a call goes over one. Whatever is in the way of that costs no call: it
goes by POST then, as every other.

    a stream that waits --healthy?--> CALL --> RESPONSE --> waits again
    none --> GET /catga/cluster/stream, 0.25 s at most --101--> CALL ...
                                                   --else--> POST, and for a while no further try

Rules of this file:
1. The evidence is that of POST. What the kernel has not taken whole did not run. After that only a response, or GOING
   with an earlier number, proves anything.
2. A stream on which anything has gone wrong is closed, and a caller whose time is up closes the stream of its call.
3. The lock guards the lists only; nothing waits for the network with it held.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable

import requests
from requests.adapters import HTTPAdapter

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._redaction import escaped
from catga_sync._socket_io import send_all
from catga_sync.context import CallContext
from catga_sync.errors import ErrorCode, ends_process
from catga_sync.nodes import STREAM, ClusterNode
from catga_sync.transport.base import ExchangeFailed
from catga_sync.transport.http.user_session import STOCK_GET_ADAPTER, STOCK_SEND
from catga_sync.transport.stream_opening import SHORT_PAUSE, SILENCE_PAUSE, NoStream, open_connection
from catga_sync.transport.way import Way
from catga_sync.wire.frames import (
    CALL,
    GOING,
    RESPONSE,
    CallHead,
    Frame,
    FrameError,
    FrameReader,
    FrameTooLong,
    Response,
    UnsignedFrame,
    read_response,
    write_frame,
)
from catga_sync.wire.stream_keys import StreamKeys

__all__ = ["StreamChannel"]

#: Seconds for opening a stream, the connection included.
OPENING_TIME = 0.25
#: Seconds for which a stream may wait; its node keeps it for longer.
IDLE_LIMIT = 10.0
#: Seconds after which a stream is replaced, give or take a tenth, so that a change of DNS is followed.
MAX_AGE = 300.0
_PIECE = 64 * 1024

_STOCK_SESSION_SEND = requests.Session.send


#: The id and the endpoint of a node: a stream is that of the node which has signed it.
_Key = tuple[str, str]


class _NotTaken(Exception):
    """It is proven that the node has not taken the call."""


class _Peer:
    """The streams to one node at one endpoint, and why there are none."""

    __slots__ = ("avoid_until", "node", "opened_at", "waiting", "why")

    def __init__(self) -> None:
        #: The record that was last found to offer streams here: it is not looked at again, but what may change is.
        self.node: ClusterNode | None = None
        #: The last one is used first, so that the others become idle. ``append`` and ``pop`` are atomic.
        self.waiting: list[_Stream] = []
        self.why: str | None = None
        self.avoid_until = self.opened_at = 0.0


class StreamChannel:
    """
    Carry calls to nodes that offer streams. Thread-safe, and safe after a fork: a child opens its own.

    Args:
        max_body_bytes: The longest response that is read.
        always: Whether they are used where the user has replaced a method of ``requests``, too.
        clock: None means the system's.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        *,
        max_body_bytes: int = 4 * 1024 * 1024,
        always: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._always = always
        clock = SYSTEM_CLOCK if clock is None else clock
        self._monotonic, self._time = clock.monotonic, clock.time
        self._lock = threading.Lock()
        # Guarded by _lock where it grows or shrinks; read without it. And every stream there is, for a fork.
        self._peers: dict[_Key, _Peer] = {}
        self._streams: set[_Stream] = set()
        _fork.watch(self)
        # The end of a channel that is dropped: its mediator was dropped with its app.
        weakref.finalize(self, _close_all, self._streams).atexit = False

    def why_not(self, node: ClusterNode) -> str | None:
        """Return why the next call to a node goes by POST; None if it goes over a stream."""
        if STREAM not in node.features:
            return "the node offers no streams"
        if not (node.endpoint or "").startswith("http://"):
            return "streams are not for TLS"
        if not self._always and _is_replaced():
            return "a method of requests is replaced here, which is to see every call"
        peer = self._peers.get(_key(node))
        if peer is None or peer.waiting or self._monotonic() >= peer.avoid_until:
            return None
        return peer.why

    def call(
        self,
        way: Way,
        head: CallHead,
        call: CallContext,
        payload: bytes,
        expires: float,
    ) -> tuple[Response, float] | None:
        """
        Send one call, and wait for its response.

        Args:
            way: The way to the node.
            head: What the calls of its type have in common.
            call: The call.
            payload: The JSON of the request.
            expires: Monotonic time at which it ends.

        Returns:
            The response, and when the call was sent, in seconds since the epoch. None if nothing of the call was taken:
            it may go by POST.

        Raises:
            ExchangeFailed: No response came; see ``Channel.exchange``.
        """
        if os.getpid() != _fork.pid:
            _fork.check_process()
        node = way.node
        key = (node.node_id, node.endpoint or "")
        peer = self._peers.get(key)
        if peer is None or peer.node is not node or not peer.waiting or (not self._always and _is_replaced()):
            if self.why_not(node) is not None:
                return None
            peer = peer or self._add_peer(key)
            peer.node = node
        used = 0
        while used < 2:
            try:
                stream: _Stream | None = peer.waiting.pop()
            except IndexError:  # none waits, or another thread has taken the last one
                stream = None
            if stream is None:
                stream = self._open(peer, way, expires)
                if stream is None:
                    return None
            elif not stream.is_usable(self._monotonic()):
                self._drop(stream)
                continue
            used += 1
            sent, offset = self._time(), way.clock.offset
            there = None if offset is None else sent + offset
            try:
                raw = head.write(call, expires - self._monotonic(), sent, there)
                response = read_response(stream.exchange(raw, payload, expires))
            except _NotTaken as exc:
                self._drop(stream)
                peer.why = f"the node has ended a stream: {exc}"
                continue
            except FrameError as exc:
                self._drop(stream)
                raise _unreadable(exc) from exc
            except BaseException:
                self._drop(stream)
                raise
            if response.envelope.request_id != call.request_id:
                self._drop(stream)
                return response, sent
            stream.used_at = self._monotonic()
            peer.waiting.append(stream)
            if self._peers.get(key) is not peer:  # closed meanwhile
                self._close_waiting(peer, _always)
            return response, sent
        return None

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``Channel``."""
        _fork.check_process()
        keys = {_key(node) for node in nodes}
        now = self._monotonic()
        with self._lock:
            gone = [self._peers.pop(key) for key in list(self._peers) if key not in keys]
            peers = list(self._peers.values())
        for peer in gone:
            self._close_waiting(peer, _always)
        for peer in peers:
            # What came while a stream waited says that the node has ended it.
            self._close_waiting(peer, lambda stream: not stream.is_usable(now))

    def close(self) -> None:
        """See ``Channel``."""
        with self._lock:
            peers, self._peers = list(self._peers.values()), {}
        for peer in peers:
            self._close_waiting(peer, _always)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The parent's connections are left as they are, but for their descriptors here."""
        self._lock = threading.Lock()
        self._peers = {}
        for stream in self._streams:
            stream.abandon()
        self._streams.clear()

    def _add_peer(self, key: _Key) -> _Peer:
        with self._lock:
            return self._peers.setdefault(key, _Peer())

    def _open(self, peer: _Peer, way: Way, expires: float) -> _Stream | None:
        until, began = time.monotonic() + OPENING_TIME, self._monotonic()
        if until > expires or began < peer.avoid_until:  # too little time says nothing of the node
            return None
        try:
            sock, rest, keys = open_connection(way.node, way.signing, way.incarnation, until)
        except BaseException as exc:
            if ends_process(exc):
                raise
            pause = exc.pause if isinstance(exc, NoStream) else SHORT_PAUSE
            if pause == SILENCE_PAUSE and peer.opened_at > began:  # it opens streams, and is busy
                pause = SHORT_PAUSE
            peer.why = escaped(str(exc) or type(exc).__name__, 200)
            peer.avoid_until = self._monotonic() + pause
            return None
        peer.why, peer.opened_at = None, self._monotonic()
        age = MAX_AGE * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing
        stream = _Stream(sock, keys, rest, self._max_body_bytes, self._monotonic(), age)
        with self._lock:
            self._streams.add(stream)
        return stream

    def _drop(self, stream: _Stream) -> None:
        with self._lock:
            self._streams.discard(stream)
        stream.close()

    def _close_waiting(self, peer: _Peer, is_due: Callable[[_Stream], bool]) -> None:
        for stream in reversed(list(peer.waiting)):
            # Taken out first, so that no call uses it meanwhile.
            try:
                peer.waiting.remove(stream)
            except ValueError:
                continue
            if is_due(stream):
                self._drop(stream)
            else:
                peer.waiting.insert(0, stream)


class _Stream:
    """One stream. Used by one thread at a time."""

    __slots__ = ("_keys", "_number", "_poller", "_reader", "_replace_at", "_sock", "used_at")

    def __init__(
        self, sock: socket.socket, keys: StreamKeys | None, rest: bytes, limit: int, now: float, age: float
    ) -> None:
        self._sock = sock
        self._keys = keys
        self._reader = FrameReader(None if keys is None else keys.responses, limit, rest)
        self._number = 0
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self._replace_at = now + age
        self.used_at = now

    def is_usable(self, now: float) -> bool:
        """Return whether it may carry a further call: it is not too old, and the node has neither ended nor used it."""
        is_old = now - self.used_at > IDLE_LIMIT or now > self._replace_at or self._number >= 2**32 - 2
        return not (is_old or self._poller.poll(0))

    def exchange(self, head: bytes, payload: bytes, expires: float) -> Frame:
        """
        Send one call; return its response.

        Raises:
            _NotTaken: The node has not taken it.
            ExchangeFailed: No response came.
            FrameError: What came is no response to it.
        """
        if time.monotonic() >= expires:
            raise ExchangeFailed("", sent=False, code=ErrorCode.DEADLINE_EXCEEDED)
        self._number = number = self._number + 1
        raw = write_frame(CALL, number, head, payload, None if self._keys is None else self._keys.calls)
        try:
            send_all(self._sock, raw, expires)
        except TimeoutError as exc:
            raise ExchangeFailed("", sent=False, code=ErrorCode.DEADLINE_EXCEEDED) from exc
        except OSError as exc:
            raise _NotTaken("the connection is broken") from exc
        reader = self._reader
        while True:
            frame = reader.feed(b"") if reader.waiting else None
            while frame is None:
                left = expires - time.monotonic()
                if left <= 0:
                    raise ExchangeFailed("", sent=True, code=ErrorCode.DEADLINE_EXCEEDED)
                self._poller.poll(left * 1000.0 + 1.0)
                try:
                    data = self._sock.recv(_PIECE)
                except BlockingIOError:
                    continue
                except OSError as exc:
                    raise _lost(exc.strerror or type(exc).__name__) from exc
                if not data:
                    raise _lost("the connection was closed without a response")
                frame = reader.feed(data)
            if frame.kind == GOING and frame.number < number:
                raise _NotTaken("it was going")
            if frame.kind == RESPONSE and frame.number == number:
                return frame
            if frame.kind != GOING or frame.number > number:
                raise FrameError(f"frame {frame.number} of kind {frame.kind} came, and not response {number}")
            # The node has taken this call, and takes no more: its response is still to come.

    def close(self) -> None:
        """Close the connection, whatever other process has a descriptor of it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def abandon(self) -> None:
        """Close the descriptor alone."""
        with contextlib.suppress(OSError):
            os.close(self._sock.detach())


def _close_all(streams: set[_Stream]) -> None:
    for stream in list(streams):
        stream.close()


def _key(node: ClusterNode) -> _Key:
    return node.node_id, node.endpoint or ""


def _always(stream: _Stream) -> bool:
    return True


def _is_replaced() -> bool:
    return (
        HTTPAdapter.send is not STOCK_SEND
        or requests.Session.get_adapter is not STOCK_GET_ADAPTER
        or requests.Session.send is not _STOCK_SESSION_SEND
    )


def _lost(why: str) -> ExchangeFailed:
    return ExchangeFailed(f"gave no complete response ({why})", sent=True)


def _unreadable(exc: FrameError) -> ExchangeFailed:
    if isinstance(exc, FrameTooLong):
        text = "gave a response that is longer than max_body_bytes allows"
        return ExchangeFailed(text, sent=True, code=ErrorCode.RESOURCE_EXHAUSTED)
    if isinstance(exc, UnsignedFrame):
        text = "gave a response over a stream that is not signed with the secret"
        return ExchangeFailed(text, sent=True, code=ErrorCode.UNAUTHENTICATED)
    text = f"gave a response over a stream that cannot be read ({exc})"
    return ExchangeFailed(text, sent=True, code=ErrorCode.INTERNAL, layer="serialization")

"""The streams that this process serves: a thread for each, one call at a time, until one side ends it.

    idle --CALL--> taken --RESPONSE written--> idle
      |                                         |
      +----- end() | too long idle | misuse ----+--> GOING (the last call that was taken) --> closed

Rules of this file:
1. A call is taken under the lock of its stream, and a stream that is to end takes none: so GOING is the truth.
2. A frame that cannot be trusted ends its stream. Nothing of it runs.
3. What is read off the socket is bounded in bytes and in time. A stream has a thread of its own, so a slow caller keeps
   none of the server's.
4. After GOING the socket is read until the caller closes it, for a moment: an early close would have the kernel drop
   GOING on its way (RFC 9112, 9.6).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from catga_sync._log_limit import LimitedLog
from catga_sync._redaction import escaped
from catga_sync._server_info import server_info
from catga_sync._socket_io import send_all
from catga_sync.errors import ends_process
from catga_sync.receiver.request import BODY_TIME, RawRequest
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope
from catga_sync.wire.frames import CALL, Frame, FrameError, FrameReader, read_call, write_going, write_response
from catga_sync.wire.routes import INVOKE_PATH
from catga_sync.wire.stream_keys import StreamKeys

__all__ = ["IDLE_TIME", "Owner", "Serve", "ServedCall", "Stream"]

#: Seconds without a call after which a stream is ended; a caller ends it earlier.
IDLE_TIME = 60.0
#: Seconds after which a stream takes no more calls, so that no key of a stream serves for ever.
_MAX_AGE = 900.0
#: Seconds for writing a response at least, and for what is left to read after GOING.
_LAST_WORD = 1.0
#: Seconds for which a look at the connection counts as one of now.
_STILL = 0.005
#: Linux tells of the end of what the caller sends also behind unread data; 0 elsewhere.
_END_OF_STREAM: int = getattr(select, "POLLRDHUP", 0)
_PIECE = 64 * 1024
#: The highest number of a call.
_LAST_NUMBER = 2**32 - 1

_log = logging.getLogger(__name__)


class ServedCall(NamedTuple):
    """What became of one call."""

    response: ResponseEnvelope
    #: The HTTP status that the response would have.
    status: int
    executed: str
    replayed: bool
    #: When it came and when its response was made, as ``Catga-Times`` has them.
    times: str
    #: Seconds for which the response may be written.
    seconds: float
    #: Whether the node takes no more calls.
    going: bool


#: Runs one call, whose caller was verified when its stream was opened.
Serve = Callable[[RawRequest, RequestEnvelope], ServedCall]


class Owner(Protocol):
    """What a stream needs of those that it is one of."""

    @property
    def max_body_bytes(self) -> int:
        """The longest payload."""

    @property
    def limited_log(self) -> LimitedLog:
        """Bounds the lines about misuse."""

    @property
    def monotonic(self) -> Callable[[], float]:
        """The clock."""

    def said(self) -> None:
        """Note that a stream has told its caller that it goes."""

    def closed(self, stream: Stream) -> None:
        """Note that a stream has ended."""


class Stream:
    """One stream; its thread runs ``run``. See ``Streams.start``."""

    def __init__(
        self,
        owner: Owner,
        sock: socket.socket,
        keys: StreamKeys | None,
        serve: Serve,
        remote_address: str | None,
        hung_up: Callable[[socket.socket], bool],
        wake: int,
    ) -> None:
        self._owner = owner
        self._sock = sock
        self._reader = FrameReader(None if keys is None else keys.calls, owner.max_body_bytes)
        self._key = None if keys is None else keys.responses
        self._serve = serve
        self._remote_address = remote_address
        self._hung_up = hung_up
        #: When a look at the connection has found it open, on the owner's clock; long ago once it was used.
        self._seen_open = -_STILL
        sock.setblocking(False)
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN | _END_OF_STREAM)
        self._poller.register(wake, select.POLLIN)
        self._ends_at = owner.monotonic() + _MAX_AGE
        self._count = server_info().count_call
        #: The thread that serves it.
        self.thread = 0
        #: Whether GOING was sent.
        self.has_said = False
        self._lock = threading.Lock()
        # Guarded by _lock: whether a call runs, the number of the last one that was taken, and why no more are taken.
        self.busy = False
        self._last = 0
        self._reason: str | None = None

    def run(self) -> None:
        """Serve calls until the stream ends."""
        self.thread = threading.get_ident()
        try:
            self._serve_calls()
        except OSError:
            pass  # the caller is gone; what it was to be told, it cannot be told
        except FrameError as exc:
            self._note(exc)
            self._go("a frame could not be read")
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("fault of a stream")
            self._go("the node failed on this stream")
        finally:
            self.close()
            self._owner.closed(self)

    def _serve_calls(self) -> None:
        # What a call leaves behind in memory ends with its method: the stream may wait for long.
        while self._serve_call():
            pass
        if self._reason is not None:
            self._go(self._reason)

    def _serve_call(self) -> bool:
        """Wait for the next call, and serve it; return whether there may be a further one."""
        frame = self._next_frame()
        if frame is None:
            return False
        if frame.kind != CALL or frame.number != self._last + 1:
            raise FrameError(f"frame {frame.number} of kind {frame.kind} came, and not call {self._last + 1}")
        arrived = time.monotonic()
        headers, envelope = read_call(frame)
        if not self._take(frame.number):
            return False
        if self._count is not None:
            self._count()
        try:
            raw = RawRequest(
                "POST",
                INVOKE_PATH,
                headers,
                _nothing,
                None,
                remote_address=self._remote_address,
                hung_up=self._has_hung_up,
                arrived=arrived,
                way="stream",
            )
            done = self._serve(raw, envelope)
            made = write_response(
                frame.number,
                done.response,
                done.status,
                done.executed,
                self._key,
                replayed=done.replayed,
                times=done.times,
            )
            send_all(self._sock, made, time.monotonic() + max(_LAST_WORD, done.seconds))
        finally:
            with self._lock:
                self.busy = False
        if done.going:
            self.end("the node goes offline")
        return not done.going

    def _next_frame(self) -> Frame | None:
        """Return the next frame; None where the stream is to end, or the caller has ended it."""
        reader, monotonic = self._reader, self._owner.monotonic
        has_part = reader.has_part
        frame = reader.feed(b"") if has_part else None
        now = monotonic()
        until = now + BODY_TIME if has_part else min(now + IDLE_TIME, self._ends_at)
        while frame is None and self._reason is None:
            if now >= until:
                if has_part:
                    raise FrameError("a frame came too slowly")
                self._reason = "no call came for a long time"
                break
            looked = now
            found = self._poller.poll((until - now) * 1000.0 + 1.0)
            now = monotonic()
            is_open = _END_OF_STREAM and len(found) == 1 and not found[0][1] & _END_OF_STREAM
            # From before the look: afterwards the thread may have waited for the interpreter.
            self._seen_open = looked if is_open else -_STILL
            try:
                data = self._sock.recv(_PIECE)
            except BlockingIOError:
                continue
            if not data:
                if has_part:
                    raise FrameError("a frame was cut off")
                break
            if not has_part:
                # From its first byte on, the whole frame has as long as a body has.
                until = now + BODY_TIME
            frame = reader.feed(data)
            has_part = True
        return frame if self._reason is None else None

    def _take(self, number: int) -> bool:
        with self._lock:
            if self._reason is not None or number == _LAST_NUMBER:
                return False
            self._last = number
            self.busy = True
            return True

    def _has_hung_up(self) -> bool:
        # The look that has found the call has told it already, and a further one is a further system call. Only where
        # time has passed since, in a paused process or in a wait for room, may the caller have given up meanwhile. It
        # counts once: what asks again, as for hooks, asks of a later moment.
        seen_open, self._seen_open = self._seen_open, -_STILL
        if self._owner.monotonic() - seen_open < _STILL:
            return False
        return self._hung_up(self._sock)

    def end(self, reason: str) -> None:
        """Take no more calls; the thread of the stream, once it is woken, says so to the caller."""
        with self._lock:
            if self._reason is None:
                self._reason = reason

    def _go(self, reason: str) -> None:
        """Say which call was the last one, and wait for a moment until the caller has read it."""
        sock = self._sock
        until = time.monotonic() + _LAST_WORD
        with contextlib.suppress(OSError):
            send_all(sock, write_going(self._last, reason, self._key), until)
            self.has_said = True
            self._owner.said()
            sock.shutdown(socket.SHUT_WR)
            sock.setblocking(True)
            while (seconds := until - time.monotonic()) > 0:
                sock.settimeout(seconds)
                if not sock.recv(_PIECE):
                    break

    def _note(self, exc: FrameError) -> None:
        self._owner.limited_log.log(
            _log,
            logging.WARNING,
            "ended: a stream",
            "a stream from %s was ended: %s",
            self._remote_address,
            escaped(str(exc)),
        )

    def refuse(self, reason: str) -> None:
        """Say that no call was taken, and close the connection."""
        self._go(reason)
        self.close()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def abandon(self) -> None:
        """Close the descriptor alone, in a child: the connection is the parent's."""
        self._lock = threading.Lock()
        with contextlib.suppress(OSError):
            os.close(self._sock.detach())


def _nothing(size: int) -> bytes:
    """Stand for the body of a call, which has come with its frame."""
    return b""

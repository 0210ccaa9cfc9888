"""``await mediator.asend(request)``: a send in a thread of its own, for callers that have an event loop.

Rules of this file:
1. Nothing here blocks the event loop: it waits for a future, and the send is that of any thread.
2. The time of a call begins with ``asend``. A call that has found no thread by its end is not sent.
3. The threads are the mediator's. The executor of the loop is bounded and shared by all of a process: another library
   that fills it would hold up calls.
4. A call waits for deeper ones only. What a handler of ``asend`` awaits has a pool of its own: in one pool, handlers
   that fill it would wait for ever for the calls behind them.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from catga_sync import _fork
from catga_sync.context import current_call
from catga_sync.deadline import check_timeout
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.messages import Request, require_request
from catga_sync.results import CatgaResult, expired_before_start

__all__ = ["AsyncSends", "in_send_thread"]

T = TypeVar("T")

#: Threads of one pool, made as they are needed. They wait for other nodes, so there may be more than processors.
_MAX_THREADS = 64
#: The depth of the last pool. Calls that are deeper share it: of a chain without end, such as a handler that starts the
#: next call and waits for none, each call is one deeper.
_DEEPEST = 15

#: How many calls of ``asend`` are around the code that runs now. A handler's event loop in another thread sees it too,
#: such as that of ``async_to_sync``, so it is no ``threading.local``.
_depth: ContextVar[int] = ContextVar("catga_sync_asend_depth", default=0)
_thread = threading.local()


class AsyncSends(ABC):
    """
    A mediator that can be awaited as well: what ``Mediator`` and ``ClusterMediator`` share. Thread-safe.

    Args:
        longest: Seconds of a call that is given no timeout. None means no bound.
    """

    def __init__(self, longest: float | None = None) -> None:
        self._longest = longest
        self._threads = _SendThreads()

    @abstractmethod
    def send(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> CatgaResult[T]:
        """Send a request, and wait for its result."""

    async def asend(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> CatgaResult[T]:
        """
        Do what ``send`` does in a thread of its own, for a coroutine: an async view of Django, a neighbour under ASGI.

        Context variables of the caller are seen by the handler. Up to 64 calls of a mediator run at once, and as many
        that their handlers await in turn; others wait for a thread. Where the task is cancelled, it goes on at once,
        and its call is cancelled only if it still waits for a thread: one that has begun goes on to its end or
        deadline, and the caller cannot know whether it has run.

        Args:
            request: The request.
            timeout: Seconds, with the wait for a thread; None as for ``send``.
            context: See ``send``.

        Returns:
            The result, as ``send`` gives it. A call that gets no thread within its time is NOT_EXECUTED.

        Raises:
            TypeError, ValueError: See ``send``.
        """
        require_request(request)
        seconds = self._longest if timeout is None else check_timeout(timeout)
        around = current_call()
        left = None if around is None else around.remaining()
        if left is not None:
            seconds = left if seconds is None else min(seconds, left)
        ends = None if seconds is None else time.monotonic() + seconds

        def send() -> CatgaResult[T]:
            return self.send(request, timeout=None if ends is None else ends - time.monotonic(), context=context)

        return await self._threads.run(send, ends)

    def close(self) -> None:
        """End the threads of ``asend``, each when its call ends. Safe to call twice; ``asend`` makes new ones."""
        self._threads.close()


class _SendThreads:
    """The threads of one mediator. Thread-safe; made at first need, in each process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._pools: dict[int, ThreadPoolExecutor] = {}  # by depth
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()
        self._pools = {}

    def close(self) -> None:
        """End the threads, those that run a call when it ends."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.shutdown(wait=False)

    async def run(self, send: Callable[[], CatgaResult[T]], ends: float | None) -> CatgaResult[T]:
        """Call ``send`` in a thread; see ``AsyncSends.asend``. ``ends`` is a monotonic time."""
        import asyncio  # here: whoever awaits this has it, and a WSGI app is to start without it

        begun = threading.Lock()

        def once() -> Any:
            return send() if begun.acquire(blocking=False) else None

        _fork.check_process()
        depth = min(_depth.get(), _DEEPEST)
        context = copy_context()
        context.run(_depth.set, depth + 1)
        try:
            with self._lock:
                pool = self._pools.get(depth)
                if pool is None:
                    pool = self._pools[depth] = ThreadPoolExecutor(_MAX_THREADS, "catga-asend", _note_thread)
                started: Future[CatgaResult[T]] = pool.submit(context.run, once)
        except RuntimeError as exc:
            # No thread can be made, or the interpreter ends. What is in the queue all the same is not to run any more.
            never = begun.acquire(blocking=False)
            return CatgaResult.failure(
                f"no thread for the call: {exc}",
                ErrorCode.RESOURCE_EXHAUSTED,
                delivery=Delivery.NOT_EXECUTED if never else Delivery.UNKNOWN,
            )
        result = asyncio.wrap_future(started)
        try:
            if ends is not None:
                await asyncio.wait([result], timeout=ends - time.monotonic())
                if not result.done() and started.cancel():
                    return expired_before_start()
            return await result
        except asyncio.CancelledError:
            result.cancel()
            raise


def _note_thread() -> None:
    _thread.is_ours = True


def in_send_thread() -> bool:
    """Return whether this is a thread of ``asend``, which is none of the server's and serves no request."""
    return getattr(_thread, "is_ours", False)

"""The one thread that follows a service: list, then watch, and start over when the two no longer fit together.

    list --version--> watch --the server ends it--> watch from the last version
      ^                 |---- refused, silent, down ----> wait, watch from the last version
      '-----------------'---- version gone, cut off, garbled ----> list anew

Rules of this file:
1. What was seen last is served whatever happens: the records are only ever replaced by a complete set.
2. After a failure comes a wait: what the server asks for, or else a draw from 0 to a bound that doubles up to 30 s.
   Only a version that is gone, and a token that may just have been replaced, are worth an attempt at once, one.
3. A change of state is logged, not a state.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable
from pathlib import Path

from catga_sync._clock import Clock
from catga_sync.discovery._kubernetes_api import MAX_SLICES, ApiServer, Gone, KubernetesApiError, Unreadable
from catga_sync.discovery._kubernetes_line import Line
from catga_sync.discovery._kubernetes_slices import Service, Slice, merge, read_slice
from catga_sync.nodes import NodeRecord

__all__ = ["Follower", "Pause"]

#: Bounds of the wait after the first failure, and after many.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
#: Seconds after which a watch that fails was a good one before.
_SOUND = 5.0
#: Seconds that a watch must have lasted, or else something must have come, for its end to be no failure.
_SHORT = 1.0
#: Different complaints that are logged, each of them once.
_MAX_COMPLAINTS = 100

#: Waits for an event or until seconds have passed.
Pause = Callable[[threading.Event, float], object]

_log = logging.getLogger("catga_sync.discovery.kubernetes")


class Follower:
    """
    Keep the records of one service up to date, in a thread of its own, until it is stopped. Thread-safe.

    Args:
        server: Where the slices are.
        service: Whose they are.
        namespace_file: Read when the service does not name its namespace.
        records: What to serve until the first list; None when nothing is known.
        watch_timeout: Seconds after which the server ends a watch, at most.
        idle_timeout: Seconds of silence after which a watch is given up.
        clock: Tells how long a watch has lasted.
        pause: Waits.
        rng: Draws the waits.
    """

    def __init__(
        self,
        server: ApiServer,
        service: Service,
        *,
        namespace_file: Path,
        records: tuple[NodeRecord, ...] | None,
        watch_timeout: float,
        idle_timeout: float,
        clock: Clock,
        pause: Pause,
        rng: random.Random,
    ) -> None:
        #: The complete set; swapped whole. None until the first list.
        self.records = records
        #: Why there is no list yet.
        self.failure = "it has not answered yet"
        self._server = server
        self._service = service
        self._namespace_file = namespace_file
        self._watch_timeout = watch_timeout
        self._idle_timeout = idle_timeout
        self._clock = clock
        self._pause = pause
        self._rng = rng
        self._line = Line()
        self._stop = threading.Event()
        self._tried = threading.Event()
        self._started_at = clock.monotonic()
        self._thread = threading.Thread(target=self._run, name="catga-kubernetes", daemon=True)
        # The rest belongs to the thread.
        self._slices: dict[str, Slice] = {}
        self._version: str | None = None
        self._failures = 0
        self._logged: str | None = None
        self._complaints: set[str] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end, and end what it waits for; does not wait for it."""
        self._stop.set()
        self._tried.set()
        self._line.end()

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def forget(self) -> None:
        """In a forked child, where the thread is not: let go of what it had open."""
        self._line.forget()

    def wait_for_first(self, patience: float) -> None:
        """Wait until the first list has come or failed, but not past ``patience`` seconds after the start."""
        left = self._started_at + patience - self._clock.monotonic()
        if left > 0 and not self._tried.is_set():
            self._tried.wait(min(left, patience))

    def watch_over(self) -> None:
        """Cut off a request that takes too long in a place where its own thread cannot notice, such as a header."""
        if self._clock.monotonic() > self._line.expires:
            self._line.cut()

    # -- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                namespace = self._namespace()
                if self._version is None:
                    self._list(namespace)
                else:
                    self._watch(namespace)
                self._tried.set()
            except Exception as exc:
                if self._stop.is_set():
                    return
                seconds = self._failed(exc)
                if seconds > 0:
                    self._tried.set()
                    self._pause(self._stop, seconds)

    def _list(self, namespace: str) -> None:
        version, items = self._server.list(namespace, self._service.name, self._line)
        slices = [self._read(item) for item in items]
        if not slices:
            self._complain(
                f"there is no EndpointSlice of a service {self._service.name!r} in namespace {namespace!r}; is the "
                f"Service there, and has it a selector?"
            )
        self._slices = {each.name: each for each in slices}
        self._publish()
        self._version = version
        self._recovered()

    def _watch(self, namespace: str) -> None:
        """Follow one watch until the server ends it; what it brings counts even if it ends badly."""
        seconds = max(1, int(self._watch_timeout * self._rng.uniform(0.5, 1.0)))
        opened_at, progress = float("inf"), False
        events = self._server.watch(
            namespace, self._service.name, self._version or "", self._line, seconds=seconds, idle=self._idle_timeout
        )
        try:
            with contextlib.closing(events):
                for kind, item, version in events:
                    if self._stop.is_set():
                        return
                    if kind == "OPEN":
                        opened_at = self._clock.monotonic()
                        continue
                    if kind != "BOOKMARK":
                        self._apply(kind, item)
                    self._version = version
                    progress = True
                    self._recovered()
        finally:
            lasted = self._clock.monotonic() - opened_at
            if lasted >= _SOUND:
                self._failures = 0
        if not progress and lasted < _SHORT:
            raise KubernetesApiError("the API server ended the watch at once")
        self._failures = 0

    def _apply(self, kind: str, item: dict[str, object]) -> None:
        if kind == "DELETED":
            metadata = item.get("metadata")
            name = metadata.get("name") if isinstance(metadata, dict) else None
            if not isinstance(name, str):
                raise Unreadable("metadata.name: a text is expected")
            self._slices.pop(name, None)
        else:
            read = self._read(item)
            self._slices[read.name] = read
            if len(self._slices) > MAX_SLICES:
                raise Unreadable(f"the service has more than {MAX_SLICES} EndpointSlices")
        self._publish()

    def _read(self, item: object) -> Slice:
        try:
            read = read_slice(item, self._service)
        except ValueError as exc:
            raise Unreadable(f"the API server's answer is not what was asked for: {exc}") from exc
        for problem in read.problems:
            self._complain(problem)
        return read

    def _publish(self) -> None:
        records = merge(self._slices.values())
        if records != self.records:
            self.records = records

    def _namespace(self) -> str:
        if self._service.namespace:
            return self._service.namespace
        try:
            with self._namespace_file.open("rb") as opened:
                namespace = opened.read(256).decode("ascii").strip()
        except (OSError, ValueError) as exc:
            raise KubernetesApiError(
                f"discovery: {self._namespace_file} does not tell the namespace of this pod ({exc}); write "
                f"kubernetes://namespace/{self._service.name}"
            ) from exc
        if not namespace.replace("-", "a").isalnum():
            raise KubernetesApiError(f"discovery: {self._namespace_file} has no name of a namespace in it")
        return namespace

    # -- failures -------------------------------------------------------------------------------------------------

    def _failed(self, exc: Exception) -> float:
        """Take note of a failure; return the seconds to wait."""
        self._failures += 1
        if not isinstance(exc, KubernetesApiError) or isinstance(exc, (Gone, Unreadable)):
            self._version = None
        self.failure = str(exc) or repr(exc)
        self._log_failure(exc)
        status = exc.status if isinstance(exc, KubernetesApiError) else None
        if self._failures == 1 and status in (401, 410):
            return 0.0
        retry_after = exc.retry_after if isinstance(exc, KubernetesApiError) else None
        if retry_after is not None:
            # Not all at the same moment: others were told the same.
            return retry_after * self._rng.uniform(1.0, 1.25)
        bound = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 30))
        return self._rng.uniform(0.0, bound)

    def _log_failure(self, exc: Exception) -> None:
        if not isinstance(exc, KubernetesApiError):
            _log.error("kubernetes discovery failed", exc_info=exc)
            return
        if isinstance(exc, Gone) or (self._failures == 1 and (isinstance(exc, Unreadable) or exc.status == 401)):
            _log.debug("listing anew: %s", exc)  # that happens to the best of watches
            return
        mark = f"{type(exc).__name__} {exc.status}"
        if mark != self._logged:
            self._logged = mark
            level = logging.ERROR if exc.status in (401, 403, 404) else logging.WARNING
            _log.log(level, "the nodes of %s are those seen last: %s", self._service.name, exc)

    def _recovered(self) -> None:
        if self._logged is not None:
            self._logged = None
            _log.info("the nodes of %s are followed again", self._service.name)

    def _complain(self, text: str) -> None:
        if text not in self._complaints and len(self._complaints) < _MAX_COMPLAINTS:
            self._complaints.add(text)
            _log.warning("%s", text)

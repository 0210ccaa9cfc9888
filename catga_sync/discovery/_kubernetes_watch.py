"""The thread that keeps the nodes of a Service up to date: it lists, then watches, and lists again after a gap.

    list --version--> watch --the server ends it--> watch from the last version
      ^                 |---- refused, silent, down ----> wait, watch from the last version
      '-----------------'---- version gone, cut off, not as documented ----> list again

Rules of this file:
1. The last records are served whatever happens: they are only ever replaced by a complete set.
2. After a failure the thread waits: as long as the server asks for, or for a random part of a limit that doubles up to
   30 s. The first failure of a version that is gone, or of a token that may have been replaced, is tried again at once.
3. A change of state is logged, not a state.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

from catga_sync._redaction import cause_of
from catga_sync.discovery._kubernetes_api import MAX_SLICES, ApiServer, Settings
from catga_sync.discovery._kubernetes_responses import KubernetesApiError, ListAgain
from catga_sync.discovery._kubernetes_slices import Slice, merge, read_slice
from catga_sync.nodes import NodeRecord

__all__ = ["Follower"]

#: Limits of the wait after the first failure, and after many.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
#: Seconds after which a watch counts as good even if it fails, and below which one without an event counts as failed.
_SOUND, _SHORT = 5.0, 1.0
#: Different problems that are logged, each of them once.
_MAX_PROBLEMS = 100

_log = logging.getLogger("catga_sync.discovery.kubernetes")


class Follower:
    """
    Keep the records of one Service up to date, in a thread of its own, until it is stopped. Thread-safe.

    Args:
        settings: The Service, the API server and the timeouts.
        records: The records until the first list; None when there are none.
        owner: The thread ends when this object is garbage collected.
    """

    def __init__(self, settings: Settings, records: tuple[NodeRecord, ...] | None, owner: object) -> None:
        #: The complete set; None until the first list.
        self.records = records
        #: Why there is no list yet.
        self.failure = "the API server has not responded yet"
        self.server = ApiServer(settings)
        self._settings = settings
        self._owner: object = weakref.ref(owner, lambda _: self.stop())
        self._stop = threading.Event()
        self._tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name="catga-kubernetes", daemon=True)
        # The rest belongs to the thread.
        self._slices: dict[str, Slice] = {}
        self._version: str | None = None
        self._failures = 0
        self._logged: str | None = None
        self._problems: set[str] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, patience: float = 0.0) -> None:
        """End the thread and the request that it waits for; wait for its end, for ``patience`` seconds at most."""
        self._stop.set()
        self._tried.set()
        self.server.close()
        if patience and self._thread is not threading.current_thread():
            self._thread.join(patience)

    def after_fork_in_child(self) -> None:
        """Called by the store: leave the thread and the connection of the parent alone."""
        self._owner = None

    def wait_for_first(self, seconds: float) -> None:
        """Wait until the first list has come or failed. After the first timeout no call waits."""
        self._tried.wait(seconds)
        self._tried.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._list() if self._version is None else self._watch(self._version)
                self._tried.set()
            except Exception as exc:
                if self._stop.is_set():
                    return
                seconds = self._failed(exc)
                if seconds > 0:
                    self._tried.set()
                    self._settings.pause(self._stop, seconds)

    def _list(self) -> None:
        version, items = self.server.list()
        slices = [self._read(item) for item in items]
        if not slices:
            name, namespace = self._settings.service.name, self.server.namespace()
            self._warn_once(
                f"there is no EndpointSlice of a service {name!r} in namespace {namespace!r}; does the Service exist, "
                f"and does it have a selector?"
            )
        self._publish({each.name: each for each in slices})
        self._version = version
        self._recovered()

    def _watch(self, version: str) -> None:
        """Follow one watch until the server ends it. Its events are applied even if it fails later."""
        settings, progress = self._settings, False
        seconds = max(1, int(settings.watch_timeout * settings.rng.uniform(0.5, 1.0)))
        with self.server.watch(version, seconds) as events:
            begun = settings.clock.monotonic()
            try:
                for kind, item, now in events:
                    if kind != "BOOKMARK":
                        self._apply(kind, item)
                    self._version, progress = now, True
                    self._recovered()
            finally:
                lasted = settings.clock.monotonic() - begun
                if lasted >= _SOUND:
                    self._failures = 0
        if not progress and lasted < _SHORT:
            raise KubernetesApiError("the API server ended the watch at once")
        self._failures = 0

    def _apply(self, kind: str, item: dict[str, Any]) -> None:
        slices = dict(self._slices)
        if kind == "DELETED":
            name = item["metadata"].get("name")
            if not isinstance(name, str):
                raise ListAgain("metadata.name: a text is expected")
            slices.pop(name, None)
        else:
            read = self._read(item)
            slices[read.name] = read
        if len(slices) > MAX_SLICES:
            raise ListAgain(f"the service has more than {MAX_SLICES} EndpointSlices")
        self._publish(slices)

    def _read(self, item: object) -> Slice:
        try:
            read = read_slice(item, self._settings.service)
        except ValueError as exc:
            raise ListAgain(f"the API server's response is not what was asked for: {exc}") from exc
        for problem in read.problems:
            self._warn_once(problem)
        return read

    def _publish(self, slices: dict[str, Slice]) -> None:
        self._slices, records = slices, merge(slices.values())
        if records != self.records:
            self.records = records

    def _failed(self, exc: Exception) -> float:
        """Record and log a failure; return the seconds to wait."""
        error = exc if isinstance(exc, KubernetesApiError) else ListAgain(cause_of(exc))
        bug = None if error is exc else exc
        if isinstance(error, ListAgain):
            self._version = None
        self._failures += 1
        self.failure = str(error)
        service, uniform = self._settings.service.name, self._settings.rng.uniform
        mark = f"{type(exc).__name__} {error.status}"
        if error.status == 410 or (self._failures == 1 and (isinstance(exc, ListAgain) or error.status == 401)):
            _log.debug("trying again: %s", error)  # every watch ends like this at times
        elif mark != self._logged:
            self._logged = mark
            level = logging.ERROR if bug or error.status in (401, 403, 404) else logging.WARNING
            _log.log(level, "the nodes of %s are those seen last: %s", service, error, exc_info=bug)
        if self._failures == 1 and error.status in (401, 410):
            return 0.0
        if error.retry_after is not None:
            # Spread: the server asks other clients to wait for the same time.
            return error.retry_after * uniform(1.0, 1.25)
        return uniform(0.0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 30)))

    def _recovered(self) -> None:
        if self._logged is not None:
            self._logged = None
            _log.info("the nodes of %s are followed again", self._settings.service.name)

    def _warn_once(self, text: str) -> None:
        if text not in self._problems and len(self._problems) < _MAX_PROBLEMS:
            self._problems.add(text)
            _log.warning("%s", text)

"""This node as it is in this process: its description, its limit of concurrent calls, and whether it goes offline.

``max_concurrency`` limits calls in, from other nodes. Calls out are limited by ``resilience/concurrency.py``.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from catga_sync import _fork
from catga_sync._server_info import server_info
from catga_sync.cluster.load import default_load, rounded
from catga_sync.cluster.visibility import Visibility
from catga_sync.cluster.worker_group import WorkerGroup
from catga_sync.context import Hop
from catga_sync.errors import ends_process
from catga_sync.mediator import Mediator
from catga_sync.nodes import STREAM, UNSIGNED, ClusterNode, NodeRecord, NodeStatus
from catga_sync.options import ClusterOptions
from catga_sync.receiver.deduplication import Deduplication
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.wire.compression import codings

__all__ = ["SHARED_IDEMPOTENCY", "WITHOUT_A_LIMIT", "LocalNode"]

#: The feature of a node whose store of request ids other nodes may share; the identity of the store follows.
SHARED_IDEMPOTENCY = "shared-idempotency:"

#: Received calls of streams that run at once before further ones wait, where nothing tells the number of the server's
#: threads: as many as Python's own pool of threads has at most.
WITHOUT_A_LIMIT = 32

_log = logging.getLogger(__name__)


class LocalNode:
    """
    The node that this process serves, or the client that it is. Thread-safe.

    Args:
        this: Its id, endpoint and metadata.
        local: The handlers of this process.
        group: The processes of the node on this machine.
        visibility: Has the reason why other nodes do not see it.
        deduplication: Keeps request ids; None where none are kept.
        options: The options of the process.
        signs: Whether it signs its responses.
    """

    def __init__(
        self,
        this: ClusterNode,
        local: Mediator,
        group: WorkerGroup,
        visibility: Visibility,
        deduplication: Deduplication | None,
        options: ClusterOptions,
        *,
        signs: bool = False,
    ) -> None:
        self.this = this
        self.node_id = this.node_id
        self._local = local
        self._group = group
        self._visibility = visibility
        self._deduplication = deduplication
        self._options = options
        self._signs = signs
        self._closed = False
        #: Threads of a server that no server hook has told of.
        self._threads: int | None = None
        #: Called once new calls are refused; must be quick.
        self.when_draining: Callable[[], None] = _nothing
        # Guarded by _lock: how many received calls run, how many of them have come over streams and are bounded here
        # alone, whether new ones are refused, and how many threads wait until none runs.
        self._running = 0
        self._bounded = 0
        self._draining = False
        self._waiting = 0
        self._make_lock()
        _fork.watch(self)

    def describe(self) -> ClusterNode:
        """Return the node as it is now."""
        handled = [entry for entry in self._local.handled if entry.remote]
        info = server_info()
        most = self.max_concurrency
        return replace(
            self.this,
            status=self._status(),
            load=self._load(),
            handles=frozenset(entry.name for entry in handled),
            subscribes=frozenset(entry.name for entry in self._local.subscribed if entry.remote),
            contracts={entry.name: entry.contract for entry in handled},
            incarnation=self._group.incarnation,
            keep_alive=info.keep_alive,
            concurrency=None if most is None else most * (info.workers or 1),
            features=self._features(),
        )

    def to_wire(self) -> Mapping[str, Any]:
        """Return the description that other nodes read, as a JSON object."""
        types = {entry.name: entry.response_name for entry in self._local.handled if entry.remote}
        extra = {
            "idle": self.is_idle,
            "responses": types,
            "serverTimeout": server_info().timeout,
            "trouble": self._visibility.trouble,
        }
        return {**NodeRecord(self.describe()).to_mapping(), **extra}

    def before_heartbeat(self) -> None:
        """Read what the description needs and may take time to read. Raises nothing."""
        if self._deduplication is not None:
            self._deduplication.identity.refresh()

    def _status(self) -> NodeStatus:
        if self._closed:
            return NodeStatus.OFFLINE
        return NodeStatus.DRAINING if self._drain_wished or self._draining else NodeStatus.ONLINE

    def _serves_streams(self) -> bool:
        if self._options.stream == "off" or self._options.max_streams == 0:
            return False
        django: Any = sys.modules.get("django.apps")
        if django is None or not django.apps.ready:
            return True
        scopes: Any = importlib.import_module("catga_sync.integrations.django.scopes")
        return not scopes.keeps_connections()

    def _features(self) -> frozenset[str]:
        found = {"batch"} if self._signs else {"batch", UNSIGNED}
        if self._options.compression != "off":
            found.update(codings())
        if self._serves_streams() and server_info().lends_socket:
            found.add(STREAM)
        if self._deduplication is not None and self._deduplication.identity.known is not None:
            found.add(SHARED_IDEMPOTENCY + self._deduplication.identity.known)
        return frozenset(found)

    def _load(self) -> float:
        reporter = self._options.load_reporter
        try:
            return rounded(float(reporter()) if reporter is not None else default_load(self._share_in_use()))
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("load_reporter failed; the node is reported as fully loaded")
            return 100.0

    def _share_in_use(self) -> float:
        most = self.max_concurrency
        return 0.0 if most is None else min(1.0, self._running / most)

    @property
    def max_concurrency(self) -> int | None:
        """The limit of received calls that run at once in this process; None when there is none."""
        given = self._options.max_concurrency
        if given is not None:
            return given
        threads = server_info().threads
        if threads is None:
            return self._threads
        # Some threads stay free, so that health checks and refusals always get through.
        return max(1, threads - (2 if threads > 4 else 1))

    def serve_with(self, threads: int) -> None:
        """Note that a server of this process runs so many received calls at once."""
        self._threads = threads

    @property
    def in_flight(self) -> int:
        """The number of received calls that run. A call that is still being read does not count."""
        return self._running

    @property
    def room(self) -> int | None:
        """The number of further calls that this process takes; None when there is no limit."""
        most = self.max_concurrency
        return None if most is None else max(0, most - self._running)

    @property
    def room_for_a_return(self) -> int | None:
        """The number of calls that this process takes while one thread sends and waits; None when that is not known."""
        room = self.room
        # The only thread is the one that sends.
        return 0 if room is None and server_info().one_thread else room

    def count_in(self, patience: float | None = None, chain: Iterable[Hop] = ()) -> bool:
        """
        Count a received call in, or refuse it. ``count_out`` is to be called at its end.

        Args:
            patience: Seconds for which a call of a stream waits for room where ``max_concurrency`` is None. None means
                that the call has a thread of the server, whose number bounds it already.
            chain: The way that the call has come. One that has come through this node waits for nothing where
                ``max_concurrency`` is None: a call that runs here waits for it.

        Returns:
            What ``count_out`` needs: whether it is one of those that wait for room.

        Raises:
            Refused: The node is going offline, or has no room. The call is not counted.
        """
        with self._lock:
            most = self.max_concurrency
            patience = patience if most is None else None
            bounded = patience is not None
            if patience is not None and self._bounded >= WITHOUT_A_LIMIT and not self._is_on(chain):
                # As a request by POST waits for a thread of the server.
                self._room.wait_for(lambda: self._draining or self._bounded < WITHOUT_A_LIMIT, max(0.0, patience))
                most, in_use = WITHOUT_A_LIMIT, self._bounded
            else:
                in_use = self._running
            if self._draining:
                raise Refused(Reason.DRAINING, f"node {self.node_id} is going offline; ask another node")
            if most is not None and in_use >= most:
                raise Refused(Reason.BUSY, f"node {self.node_id} is busy; ask another node")
            self._running += 1
            self._bounded += bounded
        return bounded

    def count_out(self, bounded: bool) -> None:
        """Note that a received call has ended; ``bounded`` is what ``count_in`` has returned."""
        with self._lock:
            self._running -= 1
            if bounded:
                self._bounded -= 1
                self._room.notify()
            if self._running == 0 and self._waiting:
                self._idle.notify_all()

    def _is_on(self, chain: Iterable[Hop]) -> bool:
        return any(name == self.node_id for name, _ in chain)

    @property
    def closed(self) -> bool:
        """Whether it has left the cluster."""
        return self._closed

    def close(self) -> None:
        """Leave the cluster."""
        self._closed = True

    def open(self) -> None:
        """Take part in the cluster, perhaps again."""
        self._closed = False

    @property
    def draining(self) -> bool:
        """Whether new calls are refused."""
        return self._draining

    def drain(self) -> None:
        """Refuse new calls from now on; calls that run go on."""
        with self._lock:
            self._draining = True
            self._room.notify_all()
        self.when_draining()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no received call is running; return False when ``timeout`` seconds were not enough."""
        with self._lock:
            self._waiting += 1
            try:
                return self._idle.wait_for(lambda: self._running == 0, timeout)
            finally:
                self._waiting -= 1

    @property
    def is_idle(self) -> bool:
        """Whether the node is drained and no process of it runs anything."""
        if not self._group.joined:
            return self._draining and self._running == 0
        return self._group.drain_is_wished() and self._group.all_idle()

    @property
    def _drain_wished(self) -> bool:
        return self.this.endpoint is not None and self._group.drain_is_wished()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: none of the parent's calls run here."""
        self._make_lock()
        self._running = self._bounded = self._waiting = 0

    def _make_lock(self) -> None:
        self._lock = threading.RLock()
        self._idle, self._room = threading.Condition(self._lock), threading.Condition(self._lock)


def _nothing() -> None:
    """Do nothing: there are no streams to end."""

"""The pods behind a Kubernetes Service, as its EndpointSlices tell of them.

Rules of this file:
1. Nothing is made at construction: no thread, no file, no socket. The first ``nodes`` of a process starts the thread.
2. ``nodes`` reads what the thread has put there. It waits for the very first list only, and never for the network.
3. Before a fork the thread is stopped, so that the child gets no lock that is held and no connection in use; both sides
   start one of their own when they next need it.

The platform keeps the records. A pod is registered by being ready and leaves by being deleted, whatever it says
itself, so ``register`` and ``deregister`` have nothing to do.
"""

from __future__ import annotations

import math
import os
import random
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync.discovery._kubernetes_api import ApiServer, KubernetesApiError
from catga_sync.discovery._kubernetes_slices import parse_url
from catga_sync.discovery._kubernetes_watch import Follower, Pause
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import NodeRecord, check_endpoint, is_loopback
from catga_sync.redaction import shown

__all__ = ["KubernetesApiError", "KubernetesDiscovery"]

#: Where a pod finds what its service account is given.
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Seconds that ``nodes`` waits for the first list, counted from the start of the thread.
_FIRST_LIST = 1.0
#: Seconds to wait for the thread to end. It is waiting for a name or a connection if it takes more.
_PATIENCE = 2.0


class KubernetesDiscovery:
    """
    Find the pods of a Service. Thread-safe, and safe to take through a fork.

    A pod is a node under its own name, at its own address: a pod that is ready is online, one that is being deleted and
    still answers is draining, any other is not there. Each node is asked what it handles; so a pod must give its name
    as its ``node_id``.

    Args:
        url:
            ``kubernetes://namespace/service``. An empty namespace (``kubernetes:///service``) means that of the
            service account. ``:name`` or ``:number`` after the service chooses one of its ports; without it the
            first one counts. ``?scheme=https`` after that is for nodes that serve TLS.

        api_server:
            Scheme, host and port. ``http://`` is accepted for loopback only, which is where ``kubectl proxy`` listens.

        token_file:
            Has the service account's token, and is read again for every request, since tokens live for an hour. None
            sends no token.

        ca_file:
            Certificates of the authority that the API server's must come from. None means the usual public ones.
            There is no way to go without.

        namespace_file:
            Read when the URL has no namespace.

        port_name:
            Name or number of the port, if the URL has none.

        timeout:
            Seconds of silence after which an answer is given up. Lower notices a dead API server sooner; higher bears
            with a busy one.

        watch_timeout:
            Seconds after which a watch is begun anew, at most. Lower costs the API server more requests.

        idle_timeout:
            Seconds of silence after which a watch is taken for dead. An API server sends a sign about once a minute;
            lower than that costs it more requests.

        clock:
            Bounds the waits; None means the system's.

        pause:
            Called to wait, with an event that ends the wait and the seconds; None means ``Event.wait``.

        rng:
            Draws the waits between attempts; None means one of its own in each process.

    Raises:
        ConfigurationError: The URL or an option is wrong.

    .. versionadded:: 0.1
    """

    refresh_interval = 0.25

    def __init__(
        self,
        url: str,
        *,
        api_server: str = "https://kubernetes.default.svc",
        token_file: str | os.PathLike[str] | None = _SERVICE_ACCOUNT / "token",
        ca_file: str | os.PathLike[str] | None = _SERVICE_ACCOUNT / "ca.crt",
        namespace_file: str | os.PathLike[str] = _SERVICE_ACCOUNT / "namespace",
        port_name: str | None = None,
        timeout: float = 5.0,
        watch_timeout: float = 300.0,
        idle_timeout: float = 90.0,
        clock: Clock | None = None,
        pause: Pause | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._service = parse_url(url, port_name)
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._server = ApiServer(
            _check_server(api_server),
            token_file=None if token_file is None else Path(token_file),
            ca_file=None if ca_file is None else Path(ca_file),
            timeout=_seconds("timeout", timeout),
            clock=self._clock,
        )
        self._namespace_file = Path(namespace_file)
        self._watch_timeout = _seconds("watch_timeout", watch_timeout)
        self._idle_timeout = _seconds("idle_timeout", idle_timeout)
        self._pause: Pause = threading.Event.wait if pause is None else pause
        self._rng = rng
        self._lock = threading.Lock()
        # Guarded by _lock: the thread, whether none may be started because the process is forking, and what ends it.
        self._follower: Follower | None = None
        self._forking = False
        self._last_resort: weakref.finalize[[], KubernetesDiscovery] | None = None
        #: What was known before the thread was stopped for a fork.
        self._known: tuple[NodeRecord, ...] | None = None
        _fork.watch(self)

    @property
    def where(self) -> str:
        """See ``Discovery``."""
        return f"the {self._place()}"

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``. There is nothing to write: a pod is there when it is ready."""

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``. There is nothing to remove: a pod leaves when it is deleted."""

    def nodes(self) -> Sequence[NodeRecord]:
        """
        See ``Discovery``. The platform tells no ages.

        The first call waits for a list, up to a second. The others return what was seen last, however long the API
        server has been away.

        Raises:
            KubernetesApiError: There has been no list yet; the text says why.
        """
        follower = self._follower
        if follower is None:
            follower = self._start()
        follower.watch_over()
        if follower.records is None:
            follower.wait_for_first(_FIRST_LIST)
        records = follower.records
        if records is None:
            raise KubernetesApiError(f"{self._place()}: {follower.failure}")
        return records

    def close(self) -> None:
        """See ``Discovery``. A later ``nodes`` starts afresh."""
        with self._lock:
            follower = self._release_locked()
            self._known = None
        if follower is not None:
            follower.stop()
            follower.join(_PATIENCE)

    def forget(self) -> None:
        """
        In a forked child: let go of what belongs to the parent. What it knew is as good here as there.

        ``os.fork`` has it called; to call it again does no harm.
        """
        self._lock = threading.Lock()
        self._forking = False
        follower = self._release_locked()
        if follower is not None:
            follower.forget()
            self._known = follower.records

    def _start(self) -> Follower:
        with self._lock:
            if self._follower is not None:
                return self._follower
            if self._forking:
                raise KubernetesApiError(f"{self._place()}: the process is forking")
            follower = Follower(
                self._server,
                self._service,
                namespace_file=self._namespace_file,
                records=self._known,
                watch_timeout=self._watch_timeout,
                idle_timeout=self._idle_timeout,
                clock=self._clock,
                pause=self._pause,
                rng=random.Random() if self._rng is None else self._rng,  # noqa: S311 - spreads load, guards nothing
            )
            follower.start()
            # Nobody has to call close(): the thread does not hold this object, and ends with it.
            self._last_resort = weakref.finalize(self, follower.stop)
            self._follower = follower
            return follower

    def _release_locked(self) -> Follower | None:
        follower, self._follower = self._follower, None
        if self._last_resort is not None:
            self._last_resort.detach()
        return follower

    # -- forks ----------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """See ``AcrossForks``."""
        with self._lock:
            self._forking = True
            follower = self._follower
        if follower is not None:
            follower.stop()
            follower.join(_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """See ``AcrossForks``."""
        with self._lock:
            self._forking = False
            follower = self._release_locked()
            if follower is not None:
                self._known = follower.records

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self.forget()

    def _place(self) -> str:
        return f"EndpointSlices of {self._service.namespace or 'this namespace'}/{self._service.name}"


def _check_server(url: str) -> str:
    checked = check_endpoint(url, "api_server")
    if checked.startswith("https://"):
        return checked
    if checked.startswith("http://") and is_loopback(checked):
        return checked
    raise ConfigurationError(f"api_server: give https://host:port (http:// is for loopback only), not {shown(url)}")


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name}: give seconds above 0, not {shown(value)}")
    return float(value)

"""The pods behind a Kubernetes Service, from the EndpointSlices of the Service.

Rules of this file:
1. Nothing is made at construction: no thread, no file, no socket. The first ``nodes`` of a process starts the thread.
2. ``nodes`` returns what the thread has read. It waits for the first list only.
3. Before a fork the thread is stopped: the child gets no lock that is held and no open connection. Parent and child
   start a thread of their own at their next ``nodes``.

Kubernetes keeps the records: a pod is there from being ready until it is deleted, so ``register`` and ``deregister`` do
nothing.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

from catga_sync import _fork
from catga_sync._checks import check_seconds
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._endpoint import check_endpoint, is_loopback
from catga_sync._redaction import shown
from catga_sync.discovery._kubernetes_api import Pause, Settings
from catga_sync.discovery._kubernetes_responses import KubernetesApiError
from catga_sync.discovery._kubernetes_slices import parse_url
from catga_sync.discovery._kubernetes_watch import Follower
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import NodeRecord

__all__ = ["KubernetesApiError", "KubernetesDiscovery"]

#: The folder in a pod with the files of its service account.
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Seconds that ``nodes`` waits for the first list, and that a stop waits for the thread, which may be looking up a name
#: or connecting.
_FIRST_LIST, _PATIENCE = 1.0, 2.0


class KubernetesDiscovery:
    """
    Find the pods of a Service. Thread-safe, and safe to take through a fork.

    A pod is a node, with the pod's name as its id: a pod that is ready is online, one that is being deleted and still
    serves is draining, any other is left out. Nodes are asked for their descriptions, so the ``node_id`` of a pod must
    be its name.

    Args:
        url: ``kubernetes://namespace/service``. An empty namespace (``kubernetes:///service``) means that of the
            service account. ``:name`` or ``:number`` after the service chooses one of its ports; without it the
            first one counts. ``?scheme=https`` after that is for nodes that serve TLS.
        api_server: Scheme, host and port. ``http://`` is accepted for loopback only, where ``kubectl proxy`` listens.
        token_file: The service account's token, read again for every request, since tokens live for an hour. None
            means that no token is sent.
        ca_file: Certificates of the authority that has signed the API server's. None means the usual public ones. The
            server's certificate is always checked.
        namespace_file: Read when the URL has no namespace.
        timeout: Seconds of silence after which a request fails. Lower notices a dead API server sooner; higher
            tolerates a busy one.
        watch_timeout: Seconds after which a watch is started again, at most. Lower costs the API server more requests.
        idle_timeout: Seconds of silence after which a watch counts as dead. An API server sends a bookmark about once
            a minute; lower than that costs it more requests.
        clock: Measures timeouts; None means the system's.
        pause: Called with an event and seconds to wait for the event; None means ``Event.wait``.
        rng: Draws the waits between attempts; None means the system's randomness.

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
        timeout: float = 5.0,
        watch_timeout: float = 300.0,
        idle_timeout: float = 90.0,
        clock: Clock | None = None,
        pause: Pause | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = Settings(
            parse_url(url),
            _check_server(api_server),
            token_file=None if token_file is None else Path(token_file),
            ca_file=None if ca_file is None else Path(ca_file),
            namespace_file=Path(namespace_file),
            timeout=check_seconds("timeout", timeout),
            watch_timeout=check_seconds("watch_timeout", watch_timeout),
            idle_timeout=check_seconds("idle_timeout", idle_timeout),
            clock=SYSTEM_CLOCK if clock is None else clock,
            pause=threading.Event.wait if pause is None else pause,
            rng=random.SystemRandom() if rng is None else rng,
        )
        service = self._settings.service
        self._place = f"EndpointSlices of {service.namespace or 'this namespace'}/{service.name}"
        #: See ``Discovery``.
        self.where = f"the {self._place}"
        self._lock = threading.Lock()
        # Guarded by _lock: the follower, and the records that it had when it was stopped for a fork.
        self._follower: Follower | None = None
        self._known: tuple[NodeRecord, ...] | None = None
        #: Whether the process is forking, so that no thread may be started.
        self._forking = False
        _fork.watch(self)

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``. Does nothing: Kubernetes lists a pod when it is ready."""

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``. Does nothing: Kubernetes removes a pod when it is deleted."""

    def nodes(self) -> Sequence[NodeRecord]:
        """
        See ``Discovery``. The records have no age.

        The first call waits for a list, up to a second. Later calls return the last records, also while the API server
        cannot be reached.

        Raises:
            KubernetesApiError: There is no list yet; the text says why.
        """
        _fork.check_process()
        follower = self._follower
        if follower is None:
            follower = self._start()
        follower.server.cut_overdue()
        if follower.records is None:
            follower.wait_for_first(_FIRST_LIST)
        records = follower.records
        if records is None:
            raise KubernetesApiError(f"{self._place}: {follower.failure}")
        return records

    def close(self) -> None:
        """See ``Discovery``. A later ``nodes`` starts a thread again."""
        _fork.check_process()
        follower = self._release()
        self._known = None
        if follower is not None:
            follower.stop(_PATIENCE)

    def _start(self) -> Follower:
        with self._lock:
            if self._follower is None:
                if self._forking:
                    raise KubernetesApiError(f"{self._place}: the process is forking")
                follower = Follower(self._settings, self._known, owner=self)
                follower.start()
                self._follower = follower
            return self._follower

    def _release(self) -> Follower | None:
        with self._lock:
            follower, self._follower = self._follower, None
            if follower is not None:
                self._known = follower.records
        return follower

    def before_fork(self) -> None:
        """See ``Forkable``."""
        self._forking = True
        follower = self._release()
        if follower is not None:
            follower.stop(_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """See ``Forkable``."""
        self._forking = False

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock, self._forking = threading.Lock(), False
        follower = self._release()
        if follower is not None:
            follower.after_fork_in_child()


def _check_server(url: str) -> str:
    checked = check_endpoint(url, "api_server")
    if checked.startswith("https://") or (checked.startswith("http://") and is_loopback(checked)):
        return checked
    raise ConfigurationError(f"api_server: give https://host:port (http:// is for loopback only), not {shown(url)}")

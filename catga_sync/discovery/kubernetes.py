"""The pods behind a Kubernetes Service, as the EndpointSlices of the Service list them.

Rules of this file:
1. Nothing is made at construction: no thread, no file, no socket. The first ``nodes`` of a process starts the thread.
2. ``nodes`` returns what the thread has read. It waits for the very first list only.
3. Before a fork the thread is stopped: the child gets no lock that is held and no open connection. Each side starts
   a thread of its own at its next ``nodes``.

The platform keeps the records. A pod is registered by being ready and leaves by being deleted, so ``register`` and
``deregister`` have nothing to do.
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
from catga_sync._redaction import shown
from catga_sync.discovery._kubernetes_answers import KubernetesApiError
from catga_sync.discovery._kubernetes_api import Pause, Settings
from catga_sync.discovery._kubernetes_slices import parse_url
from catga_sync.discovery._kubernetes_watch import Follower
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import NodeRecord, check_endpoint, is_loopback

__all__ = ["KubernetesApiError", "KubernetesDiscovery"]

#: Where a pod finds the files of its service account.
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Seconds that ``nodes`` waits for the first list, and that a stop waits for the thread. The thread is waiting for a
#: name or a connection if it takes more.
_FIRST_LIST, _PATIENCE = 1.0, 2.0


class KubernetesDiscovery:
    """
    Find the pods of a Service. Thread-safe, and safe to take through a fork.

    A pod is a node under its own name, at its own address: a pod that is ready is online, one that is being deleted and
    still answers is draining, any other is not there. Each node is asked what it handles; so a pod must give its name
    as its ``node_id``.

    Args:
        url: ``kubernetes://namespace/service``. An empty namespace (``kubernetes:///service``) means that of the
            service account. ``:name`` or ``:number`` after the service chooses one of its ports; without it the
            first one counts. ``?scheme=https`` after that is for nodes that serve TLS.
        api_server: Scheme, host and port. ``http://`` is accepted for loopback only, where ``kubectl proxy`` listens.
        token_file: Has the service account's token, and is read again for every request, since tokens live for an
            hour. None sends no token.
        ca_file: Certificates of the authority that the API server's must come from. None means the usual public ones.
            The certificate is always checked.
        namespace_file: Read when the URL has no namespace.
        port_name: Name or number of the port, if the URL has none.
        timeout: Seconds of silence after which an answer is given up. Lower notices a dead API server sooner; higher
            tolerates a busy one.
        watch_timeout: Seconds after which a watch is begun anew, at most. Lower costs the API server more requests.
        idle_timeout: Seconds of silence after which a watch is taken for dead. An API server sends a bookmark about
            once a minute; lower than that costs it more requests.
        clock: Limits the waits; None means the system's.
        pause: Called to wait, with an event that ends the wait and the seconds; None means ``Event.wait``.
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
        port_name: str | None = None,
        timeout: float = 5.0,
        watch_timeout: float = 300.0,
        idle_timeout: float = 90.0,
        clock: Clock | None = None,
        pause: Pause | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = Settings(
            parse_url(url, port_name),
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
        # Guarded by _lock: what follows the Service, and what it knew when it was stopped for a fork.
        self._follower: Follower | None = None
        self._known: tuple[NodeRecord, ...] | None = None
        #: Whether the process is forking, so that no thread may be started.
        self._forking = False
        _fork.watch(self)

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``. There is nothing to write: a pod is there when it is ready."""

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``. There is nothing to remove: a pod leaves when it is deleted."""

    def nodes(self) -> Sequence[NodeRecord]:
        """
        See ``Discovery``. The records have no age.

        The first call waits for a list, up to a second. The others return what was seen last, however long the API
        server has been away.

        Raises:
            KubernetesApiError: There has been no list yet; the text says why.
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
        """See ``Discovery``. A later ``nodes`` starts afresh."""
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

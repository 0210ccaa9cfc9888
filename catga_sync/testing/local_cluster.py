"""Several nodes in one process, without a socket, with scripted faults: the cluster of a test.

Nodes are made by the factory of real ones, and time is the real one; only the network and the store are replaced.
"""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK
from catga_sync.cluster.factory import assemble
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.snapshot import Snapshot
from catga_sync.context import CallContext
from catga_sync.errors import ConfigurationError
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.options import ClusterOptions
from catga_sync.receiver.receiver import RawResponse
from catga_sync.serialization import MessageType
from catga_sync.testing.network import Fault, Network, Parcel, Serving, SimulatedChannel, SimulatedProbe

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from catga_sync.options import OptionValues

__all__ = ["LocalCluster"]

#: What the cluster itself sets, and what belongs to connections.
_ITS_OWN = frozenset(
    {
        "cert",
        "discovery",
        "endpoint",
        "grpc_endpoint",
        "insecure",
        "node_id",
        "peers",
        "session",
        "stream",
        "verify",
    }
)
#: Seconds for which close() waits for handlers, all together.
_GRACE = 5.0


class _Member:
    """One node of the cluster: its present mediator, and whether it runs."""

    clock = SYSTEM_CLOCK

    def __init__(self, cluster: LocalCluster, local: Mediator, options: ClusterOptions) -> None:
        self.node_id = options.node_id or ""
        self.is_running = True
        #: Set unless it is paused.
        self.going = threading.Event()
        #: Those whose callers wait. Added to and removed from by the threads of the callers.
        self._requests: set[Serving] = set()
        self._cluster = cluster
        self._local = local
        self._options = options
        self.begin()

    def begin(self) -> None:
        """Make new parts, as at the start of a process."""
        network = self._cluster._network
        parts = assemble(
            self._local,
            self._options,
            channel=SimulatedChannel(network, self),
            probe=SimulatedProbe(network, self.node_id),
            background=False,
            membership_type=_PresentMembership,
            nonces=_Nonces(),
        )
        self.mediator, self.membership = parts.mediator, parts.membership
        self.receiver = parts.mediator.receiver
        self.is_running = True
        self.going.set()

    def describe(self) -> ClusterNode:
        """See ``Peer``."""
        return self.mediator.node

    def kill(self) -> None:
        """See ``Peer``."""
        self.is_running = False
        self.going.set()
        for request in list(self._requests):
            request.done.set()

    @property
    def is_paused(self) -> bool:
        """See ``Peer``."""
        return not self.going.is_set()

    def held(self, parcel: Parcel, timeout: float) -> bool:
        """See ``Peer``. What is kept is the thread of the caller."""
        return self.going.wait(timeout)

    def serve(self, parcel: Parcel, timeout: float, *, hung_up: bool) -> RawResponse | None:
        """See ``Peer``. In a thread of its own: a caller out of time, or of a dead node, waits for no handler."""
        request = Serving(self, parcel, hung_up)
        self._requests.add(request)
        if self.is_running:  # otherwise it was killed before it knew of this caller
            request.start()
            request.done.wait(max(0.0, timeout))
        self._requests.discard(request)
        request.is_gone = True
        if request.error is not None:
            raise request.error
        return request.response


class _Nonces:
    """The nonces that a node has seen, for as long as it runs. Thread-safe."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def add(self, nonce: str, expires_in: float) -> bool:
        """See ``NonceStore``."""
        with self._lock:
            known = nonce in self._seen
            self._seen.add(nonce)
        return not known

    def close(self) -> None:
        """See ``NonceStore``."""


class _Members:
    """The discovery store: those of the cluster's nodes that serve, as they are at the moment. Thread-safe."""

    refresh_interval = 0.1
    where = "the LocalCluster of this test"

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``."""

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``."""

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``. A node that was killed stays, as in a real store until its record expires."""
        found = [member.describe() for member in self._cluster._all()]
        return [NodeRecord(node) for node in found if node.endpoint is not None]

    def close(self) -> None:
        """See ``Discovery``."""


class _PresentMembership(Membership):
    """Reads the store, which costs little here, before each look: a test sees at once what it has changed."""

    def look(self, call: CallContext | None) -> Snapshot:
        self.refresh(call=call)
        return super().look(call)

    def candidates(self, entry: MessageType, here: bool, call: CallContext | None) -> tuple[ClusterNode, ...]:
        self.refresh(call=call)
        return super().candidates(entry, here, call)


class LocalCluster:
    """
    A cluster in one process, for tests. Thread-safe; a context manager that closes all nodes.

        with LocalCluster() as cluster:
            cluster.add_node("stock", stock_handlers)
            shop = cluster.add_client("shop")
            cluster.script("stock", Fault.KILL_AFTER)
            result = shop.send(Reserve("apple"))

    A call between nodes is written, read, received, refused and sent again by the parts that do so over HTTP, and its
    handler runs in a thread of its own, as in a server. With a ``secret`` calls are signed; one of ``add_node`` is that
    of this node alone. The cluster opens no port and writes no file. Time is real: a call to a node that hangs takes
    its ``timeout``.

    Args:
        options: The options of all nodes; see ``ClusterOptions``.

    Raises:
        ConfigurationError: An option is wrong.

    .. versionadded:: 0.1
    """

    def __init__(self, **options: Unpack[OptionValues]) -> None:
        self._network = Network(self._sleep, latency=0.0)
        _check_options(options)
        # A number of their own: how many threads a server of this process has is nothing to these nodes.
        given = {"insecure": True, "discovery": _Members(self), "max_concurrency": 64}
        self._options = ClusterOptions.make(given).with_changes(options)
        #: Set when it is closed: what a fault keeps waiting goes on.
        self._over = threading.Event()
        # For the endpoints, which nobody resolves.
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._members: dict[str, _Member] = {}
        self._closed = False
        _fork.watch(self)

    def add_node(
        self, node_id: str, local: Mediator | None = None, /, **options: Unpack[OptionValues]
    ) -> ClusterMediator:
        """
        Add a node that serves, and return its mediator.

        Args:
            node_id: Its id.
            local: The mediator with its handlers; they may be registered later, too. None means an empty one.
            options: Options of this node alone.

        Raises:
            ConfigurationError: There is a node with this id, an option is wrong, or the cluster is closed.
        """
        return self._add(node_id, f"http://node-{next(self._numbers)}.test", local, options)

    def add_client(
        self, node_id: str = "client", local: Mediator | None = None, /, **options: Unpack[OptionValues]
    ) -> ClusterMediator:
        """Add a node that only sends, and return its mediator; otherwise as ``add_node``."""
        return self._add(node_id, None, local, options)

    def node(self, node_id: str) -> ClusterMediator:
        """Return the mediator of a node: after ``restart`` another one. Raises ConfigurationError if there is none."""
        return self._member(node_id).mediator

    def script(self, node_id: str, fault: Fault, *, times: int = 1, seconds: float = 0.0) -> None:
        """
        Let a fault happen to the next requests to a node, batches included.

        Args:
            node_id: The node.
            fault: The fault; scripts of a node take their turns.
            times: The number of requests.
            seconds: How much longer a request with ``Fault.SLOW`` takes.

        Raises:
            ConfigurationError: There is no such node.
            TypeError: ``fault`` is no ``Fault``.
        """
        self._network.script(fault, target=self._member(node_id).node_id, times=times, seconds=seconds)

    def kill(self, node_id: str) -> None:
        """End a node at once, as SIGKILL does: others do not know, and their connections to it are refused."""
        self._member(node_id).kill()

    def restart(self, node_id: str) -> ClusterMediator:
        """Start a node again, as a new process with the same handlers, and return its mediator. Others see it now."""
        member = self._member(node_id)
        member.kill()
        former = member.mediator
        former.close()
        member.begin()
        # Its app is the same one.
        for scope in former.surroundings.scopes:
            member.mediator.surroundings.add(scope)
        self._tell_all()
        return member.mediator

    def pause(self, node_id: str) -> None:
        """Have a node hang, as SIGSTOP does: it accepts requests and runs nothing; each takes its whole timeout."""
        self._member(node_id).going.clear()

    def resume(self, node_id: str) -> None:
        """Let a node that hangs go on: it runs the requests whose callers still wait, and they get their responses."""
        self._member(node_id).going.set()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()
        for member in self._members.values():
            paused, member.going = member.is_paused, threading.Event()
            if not paused:
                member.going.set()
        self._over = threading.Event()
        if self._closed:
            self._over.set()

    def close(self) -> None:
        """
        Kill and close all nodes, and wait up to 5 s for the handlers that run; no node can be added afterwards.

        A handler that runs on is named in a RuntimeWarning: it would run into the next test. Safe to call twice; the
        second call waits for no handler.
        """
        self._close()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        with self._lock:
            is_first, self._closed = not self._closed, True
        members = self._all()
        for member in members:
            member.kill()
        # Not before: a request that was slow would run at a node that is not dead yet.
        self._over.set()
        for member in members:
            member.mediator.close()
        if is_first and (left := _running(members, time.monotonic() + _GRACE)):
            names = ", ".join(sorted({f"{each.types()} at node {each.peer.node_id!r}" for each in left}))
            text = f"this LocalCluster is closed, and handlers still run: {names}; have the test end what they wait for"
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self._over.wait(seconds)

    def _add(self, node_id: str, endpoint: str | None, local: Mediator | None, options: Any) -> ClusterMediator:
        _check_options(options)
        chosen = self._options.with_changes({**options, "node_id": node_id, "endpoint": endpoint})
        member = _Member(self, Mediator() if local is None else local, chosen)
        with self._lock:
            if self._closed:
                raise ConfigurationError("this LocalCluster is closed: add nodes before that, or make another one")
            if node_id in self._members:
                raise ConfigurationError(f"node_id: the cluster has a node {node_id!r} already")
            self._members[node_id] = self._network.nodes[node_id] = member
        self._tell_all()
        return member.mediator

    def _tell_all(self) -> None:
        """Have every node look at the store, so that no test waits for one to notice another."""
        for member in self._all():
            member.membership.refresh()

    def _all(self) -> list[_Member]:
        with self._lock:
            return list(self._members.values())

    def _member(self, node_id: str) -> _Member:
        with self._lock:
            found = self._members.get(node_id)
            if found is None:
                names = ", ".join(self._members) or "none"
                raise ConfigurationError(f"node_id: the cluster has no node {node_id!r}; its nodes: {names}")
        return found


def _running(members: Sequence[_Member], expires: float) -> list[Serving]:
    """Wait for the requests that run at these nodes; return those that have not ended by then."""
    while True:  # more than once: one that was about to start may be there only now
        found = [each for each in threading.enumerate() if isinstance(each, Serving) and each.peer in members]
        # A handler may close its own cluster.
        found = [each for each in found if each is not threading.current_thread()]
        if not found or time.monotonic() >= expires:
            return found
        for each in filter(threading.Thread.is_alive, found):  # one that is about to start cannot be joined
            each.join(max(0.0, expires - time.monotonic()))


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that mean nothing here."""
    for name in options:
        if name in _ITS_OWN:
            raise ConfigurationError(f"{name}: leave it out; a LocalCluster has no addresses and no connections")

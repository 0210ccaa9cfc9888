"""The network of a cluster in one process: it carries raw requests to receivers, with scripted faults."""

from __future__ import annotations

import enum
import io
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from catga_sync import _fork
from catga_sync._clock import Clock
from catga_sync.errors import ErrorCode
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus
from catga_sync.receiver.receiver import RawRequest, RawResponse, Receiver
from catga_sync.transport.base import ExchangeFailed, Response
from catga_sync.transport.http.probe import Probe, ProbeOutcome
from catga_sync.wire.compression import decompress
from catga_sync.wire.envelope import RequestEnvelope, read_batch
from catga_sync.wire.routes import BATCH_PATH

__all__ = ["Fault", "Network", "Serving", "SimulatedChannel"]

#: Seconds after which a connection without a response is given up.
_CONNECT_TIMEOUT = 1.0


@enum.unique
class Fault(enum.Enum):
    """Faults of one request on its way."""

    #: It is lost after it was handed over: the handler never runs, and the caller cannot know.
    DROP_REQUEST = "DROP_REQUEST"
    #: The handler runs, its response is lost.
    DROP_RESPONSE = "DROP_RESPONSE"
    #: It takes ``seconds`` longer.
    SLOW = "SLOW"
    #: It arrives twice.
    DUPLICATE = "DUPLICATE"
    #: The connection is refused.
    REFUSE = "REFUSE"
    #: The node is killed with the request in its hands, before the handler runs: the caller cannot know that.
    KILL_BEFORE = "KILL_BEFORE"
    #: The node is killed when the handler has run, before it has responded.
    KILL_AFTER = "KILL_AFTER"


@dataclass
class _Scripted:
    fault: Fault
    target: str | None
    times: int
    seconds: float


class Parcel(NamedTuple):
    """What a request is made of on its way. Immutable."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Peer(Protocol):
    """A node as the network sees it."""

    node_id: str
    receiver: Receiver
    is_running: bool

    @property
    def clock(self) -> Clock:
        """Its clock."""

    @property
    def is_paused(self) -> bool:
        """Whether it accepts requests and runs nothing."""

    def held(self, parcel: Parcel, timeout: float) -> bool:
        """Keep a request that has come while it is paused; return whether the node goes on within the time."""

    def serve(self, parcel: Parcel, timeout: float, *, hung_up: bool) -> RawResponse | None:
        """Respond to a request as a server does, see ``deliver``; None when that has taken too long."""

    def kill(self) -> None:
        """End it at once, without notice to other nodes."""

    def describe(self) -> ClusterNode:
        """Return the node as it describes itself."""


class Network:
    """
    The network between the nodes. Thread-safe.

    Args:
        sleep: Lets time pass.
        latency: Seconds that a request and its response take together.
    """

    def __init__(self, sleep: Callable[[float], None], latency: float) -> None:
        self._sleep = sleep
        self.latency = latency
        self.nodes: dict[str, Peer] = {}
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._script: list[_Scripted] = []
        self._islands: list[frozenset[str]] = []
        _fork.watch(self)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

    def script(self, fault: Fault, *, target: str | None = None, times: int = 1, seconds: float = 0.0) -> None:
        """
        Let a fault happen to the next requests.

        Args:
            fault: The fault.
            target: The node whose requests have it; None means any node.
            times: The number of requests.
            seconds: How much longer a slow request takes.
        """
        if not isinstance(fault, Fault):
            raise TypeError(f"fault: give a Fault, such as Fault.REFUSE, not {fault!r}")
        with self._lock:
            self._script.append(_Scripted(fault, target, times, seconds))

    def partition(self, *islands: Iterable[str]) -> None:
        """Let nodes reach only those of their own island; nodes outside of every island reach each other."""
        self._islands = [frozenset(island) for island in islands]

    def heal(self) -> None:
        """End the partition and clear the script."""
        self._islands = []
        with self._lock:
            self._script = []

    def reaches(self, source: str, target: str) -> bool:
        """Return whether there is a way from one node to another."""
        return self._island_of(source) == self._island_of(target)

    def exchange(self, source: str, node_id: str, parcel: Parcel, timeout: float) -> RawResponse:
        """Carry one request, with the fault that the script has for it. Raises what a channel raises."""
        target = self.nodes.get(node_id)
        scripted = self._next_fault(node_id)
        fault = None if scripted is None else scripted.fault
        if target is None or not target.is_running or fault is Fault.REFUSE:
            self._sleep(min(self.latency, timeout))
            raise ExchangeFailed("refused", sent=False)
        if not self.reaches(source, node_id):
            self._sleep(min(_CONNECT_TIMEOUT, timeout))
            raise ExchangeFailed("is cut off", sent=False)
        if fault is Fault.KILL_BEFORE:
            target.kill()
            raise _connection_lost()
        expires = target.clock.monotonic() + timeout
        receiver = target.receiver
        if fault is Fault.DROP_REQUEST:
            self._sleep(timeout)
            raise _no_response()
        if target.is_paused and not target.held(parcel, timeout):
            raise _no_response()
        delay = self.latency + (scripted.seconds if scripted is not None and fault is Fault.SLOW else 0.0)
        left = expires - target.clock.monotonic()
        self._sleep(max(0.0, min(delay, left)))
        if not target.is_running or target.receiver is not receiver:  # killed before it ran anything
            raise _connection_lost()
        # A caller closes its connection when its time is up.
        hung_up = delay >= left
        response = target.serve(parcel, left - delay, hung_up=hung_up)
        if fault is Fault.DUPLICATE:
            response = target.serve(parcel, expires - target.clock.monotonic(), hung_up=hung_up)
        if fault is Fault.KILL_AFTER:
            target.kill()
        if not target.is_running or target.receiver is not receiver:  # killed meanwhile, and perhaps started again
            raise _connection_lost()
        left = expires - target.clock.monotonic()
        if fault is Fault.DROP_RESPONSE or response is None or left <= 0 or hung_up:
            self._sleep(max(0.0, left))
            raise _no_response()
        return response

    def _next_fault(self, target: str) -> _Scripted | None:
        with self._lock:
            for scripted in self._script:
                if scripted.times > 0 and scripted.target in (None, target):
                    scripted.times -= 1
                    return scripted
        return None

    def _island_of(self, node_id: str) -> frozenset[str] | None:
        return next((island for island in self._islands if node_id in island), None)


def _no_response() -> ExchangeFailed:
    return ExchangeFailed("", sent=True, code=ErrorCode.DEADLINE_EXCEEDED)


def _connection_lost() -> ExchangeFailed:
    return ExchangeFailed("has closed the connection without a response", sent=True)


def deliver(receiver: Receiver, parcel: Parcel, hung_up: Callable[[], bool]) -> RawResponse:
    """
    Hand a request to a node's receiver; ``hung_up`` returns whether the caller has gone.

    It runs in an empty context, as in a thread of a server, without Flask's request and the variables of the caller.
    """
    raw = RawRequest(
        "POST",
        parcel.path,
        {name.lower(): value for name, value in parcel.headers.items()},
        io.BytesIO(parcel.body).read,
        len(parcel.body),
        remote_address="127.0.0.1",
        hung_up=hung_up,
    )
    return Context().run(receiver.handle, raw)


class Serving(threading.Thread):
    """
    The thread in which a node serves one request.

    Args:
        peer: The node.
        parcel: The request.
        is_gone: Whether its caller has hung up.
    """

    def __init__(self, peer: Peer, parcel: Parcel, is_gone: bool) -> None:
        super().__init__(name=f"catga-local-{peer.node_id}", daemon=True)
        self.peer = peer
        self.is_gone = is_gone
        self.done = threading.Event()
        self.response: RawResponse | None = None
        self.error: BaseException | None = None
        self._parcel = parcel
        self._receiver = peer.receiver

    def run(self) -> None:
        try:
            self.response = deliver(self._receiver, self._parcel, lambda: self.is_gone)
        except BaseException as exc:
            self.error = exc
        finally:
            self.done.set()

    def types(self) -> str:
        """Return the wire names of the messages in a request that the node has accepted."""
        coding = self._parcel.headers.get("Content-Encoding")
        body = self._parcel.body if coding is None else decompress(coding, self._parcel.body, sys.maxsize)
        items = read_batch(body) if self._parcel.path == BATCH_PATH else [RequestEnvelope.decode(body)]
        # A batch may have items that cannot be read; the others run.
        return " or ".join(dict.fromkeys(each.request_type_name for each in items if isinstance(each, RequestEnvelope)))


class SimulatedProbe:
    """The probe of a node. It takes no time."""

    def __init__(self, network: Network, node_id: str) -> None:
        self._network = network
        self._node_id = node_id

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """See ``Asker``."""
        target = self._network.nodes[node_id]
        if not target.is_running or target.describe().status is NodeStatus.OFFLINE:
            return Probe(ProbeOutcome.REFUSED)
        if target.is_paused or not self._network.reaches(self._node_id, node_id):
            return Probe(ProbeOutcome.SILENT)
        return Probe(ProbeOutcome.OTHER, NodeRecord(target.describe()).to_mapping())


class SimulatedChannel:
    """The channel of a node."""

    def __init__(self, network: Network, source: Peer) -> None:
        self._network = network
        self._source = source

    def exchange(
        self,
        node: ClusterNode,
        path: str,
        headers: dict[str, str],
        body: bytes,
        expires: float,
        renew: Callable[[Mapping[str, str]], Mapping[str, str]] | None = None,
    ) -> Response:
        """See ``Channel``."""
        if not self._source.is_running:
            raise ExchangeFailed("was not asked: the test has killed or closed this node", sent=False)
        left = expires - self._source.clock.monotonic()
        came = self._network.exchange(self._source.node_id, node.node_id, Parcel(path, headers, body), left)
        return Response(came.status, came.headers, came.body, lambda: None)

    def tidy(self, nodes: Iterable[ClusterNode]) -> None:
        """See ``Channel``."""

    def close(self) -> None:
        """See ``Channel``."""

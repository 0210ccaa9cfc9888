"""The network of a simulation: it carries raw requests to receivers, and does to them what the script says."""

from __future__ import annotations

import enum
import io
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from catga_sync._log_limit import LimitedLog
from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode
from catga_sync.receiver.receiver import INVOKE_PATH, RawReply, RawRequest, Receiver
from catga_sync.results import CatgaResult
from catga_sync.testing.clock import FakeClock
from catga_sync.transport.outcome import Call
from catga_sync.wire.envelope import EnvelopeError, ReplyEnvelope, RequestEnvelope

__all__ = ["Fault", "Network", "SimulatedInvoker"]

#: Seconds after which a connection that nobody answers is given up.
_CONNECT_TIMEOUT = 1.0


@enum.unique
class Fault(enum.Enum):
    """What may happen to one request on its way."""

    #: It is lost after it was handed over: the handler never runs, and the caller cannot know.
    DROP_REQUEST = "DROP_REQUEST"
    #: The handler runs, its answer is lost.
    DROP_REPLY = "DROP_REPLY"
    #: It takes ``seconds`` longer.
    SLOW = "SLOW"
    #: It arrives twice.
    DUPLICATE = "DUPLICATE"
    #: The connection is refused.
    REFUSE = "REFUSE"


@dataclass
class _Scripted:
    fault: Fault
    target: str | None
    times: int
    seconds: float


class Peer(Protocol):
    """What the network needs of a node."""

    node_id: str
    local: Mediator
    clock: FakeClock
    receiver: Receiver
    is_running: bool
    is_paused: bool
    #: What has arrived while it was paused: envelope, time given, and when.
    backlog: list[tuple[Any, float, float]]


class Network:
    """
    What lies between the simulated nodes.

    Args:
        sleep: Lets simulated time pass.
        latency: Seconds that a request and its answer take together.
    """

    def __init__(self, sleep: Callable[[float], None], latency: float) -> None:
        self._sleep = sleep
        self.latency = latency
        self.nodes: dict[str, Peer] = {}
        self._script: list[_Scripted] = []
        self._islands: list[frozenset[str]] = []

    def script(self, fault: Fault, *, target: str | None = None, times: int = 1, seconds: float = 0.0) -> None:
        """
        Have something happen to the next requests.

        Args:
            fault: What.
            target: To those for this node; None means to any.
            times: To how many of them.
            seconds: How much longer a slow one takes.
        """
        self._script.append(_Scripted(fault, target, times, seconds))

    def partition(self, *islands: Iterable[str]) -> None:
        """Let nodes reach only those of their own island; a node in none of them reaches all others in none."""
        self._islands = [frozenset(island) for island in islands]

    def heal(self) -> None:
        """End the partition and forget the script."""
        self._islands = []
        self._script = []

    def reaches(self, source: str, target: str) -> bool:
        """Return whether there is a way from one node to another."""
        return self._island_of(source) == self._island_of(target)

    def exchange(self, source: str, call: Call, envelope: RequestEnvelope, timeout: float) -> CatgaResult[Any]:
        """Carry one request, and judge what came of it as the real transport would."""
        target = self.nodes.get(call.node.node_id)
        scripted = self._next_fault(call.node.node_id)
        fault = None if scripted is None else scripted.fault
        if target is None or not target.is_running or fault is Fault.REFUSE:
            self._sleep(min(self.latency, timeout))
            return call.failed("network", f"{call.where} refused", ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
        if not self.reaches(source, target.node_id):
            self._sleep(min(_CONNECT_TIMEOUT, timeout))
            return call.failed("network", f"{call.where} is cut off", ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
        if target.is_paused or fault is Fault.DROP_REQUEST:
            if target.is_paused:
                target.backlog.append((envelope, timeout, target.clock.monotonic()))
            self._sleep(timeout)
            return call.expired(Delivery.UNKNOWN, "while waiting for its answer")
        delay = self.latency + (scripted.seconds if scripted is not None and fault is Fault.SLOW else 0.0)
        self._sleep(min(delay, timeout))
        reply = deliver(target, envelope, max(0.001, timeout - delay) if delay < timeout else timeout)
        if fault is Fault.DUPLICATE:
            reply = deliver(target, envelope, max(0.001, timeout - delay))
        if fault is Fault.DROP_REPLY or delay >= timeout:
            self._sleep(max(0.0, timeout - delay))
            return call.expired(Delivery.UNKNOWN, "while waiting for its answer")
        try:
            answer = ReplyEnvelope.decode(reply.body)
        except EnvelopeError as exc:
            return call.no_envelope(reply.status, exc)
        return call.answered(answer, reply.status, reply.headers.get("Catga-Executed"))

    def _next_fault(self, target: str) -> _Scripted | None:
        for scripted in self._script:
            if scripted.times > 0 and scripted.target in (None, target):
                scripted.times -= 1
                return scripted
        return None

    def _island_of(self, node_id: str) -> frozenset[str] | None:
        return next((island for island in self._islands if node_id in island), None)


def deliver(target: Peer, envelope: RequestEnvelope, timeout: float, waited: float = 0.0) -> RawReply:
    """Hand a request to a node's receiver, as one that has been on its way for ``waited`` seconds."""
    body = replace(envelope, timestamp=time.time() - waited).encode()
    headers = {
        "content-type": "application/json",
        "catga-request-id": envelope.request_id,
        "catga-timeout-ms": str(max(1, int(timeout * 1000))),
    }
    raw = RawRequest(
        "POST",
        INVOKE_PATH,
        headers,
        io.BytesIO(body).read,
        len(body),
        remote_address="127.0.0.1",
        # A caller closes its connection when its time is up.
        hung_up=lambda: waited >= timeout,
    )
    return target.receiver.handle(raw)


class SimulatedInvoker:
    """The invoker of a simulated node."""

    def __init__(self, network: Network, node: Peer) -> None:
        self._network = network
        self._node = node
        self._failures = LimitedLog(logging.getLogger("catga_sync.transport.invoker"), node.clock)

    def invoke(self, node: ClusterNode, request: Any, *, timeout: float, request_id: str) -> CatgaResult[Any]:
        """See ``RemoteInvoker``."""
        entry = self._node.local.registry.ensure(type(request))
        call = Call(node, entry, request_id, self._failures)
        try:
            payload = entry.codec.encode(request)
        except SerializationError as exc:
            return call.unwritable(exc)
        answer = entry.response_name or "none"
        envelope = RequestEnvelope(entry.name, answer, payload, request_id, self._node.node_id)
        return self._network.exchange(self._node.node_id, call, envelope, timeout)

    def close(self) -> None:
        """See ``RemoteInvoker``."""

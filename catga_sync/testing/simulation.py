"""A cluster in one process, on a clock of its own.

Nodes are made by the factory of real ones; only the network, the store and the time are simulated. The same seed and
script give the same run, to the last call.

Calls are made one after the other: faults of single calls are simulated, and not calls at the same time.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, TypeVar

from catga_sync.cluster.events import ClusterEvent
from catga_sync.cluster.factory import assemble
from catga_sync.context import CallContext, current_call
from catga_sync.deadline import Deadline
from catga_sync.errors import Delivery
from catga_sync.explanation import Explanation
from catga_sync.idempotency import IdempotencyStore
from catga_sync.mediator import Mediator
from catga_sync.messages import Request
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.options import ClusterOptions
from catga_sync.pipeline import Handler
from catga_sync.receiver.receiver import RawResponse
from catga_sync.results import CatgaResult
from catga_sync.testing.clock import FakeClock
from catga_sync.testing.network import Network, Parcel, SimulatedChannel, SimulatedProbe, deliver
from catga_sync.testing.store import SimulatedStore

__all__ = ["Execution", "Outcome", "SimulatedNode", "Simulation"]

T = TypeVar("T")


@dataclass(frozen=True)
class Execution:
    """One run of a handler. Immutable."""

    request_id: str
    node_id: str
    #: On the simulation's clock.
    at: float


@dataclass(frozen=True)
class Outcome:
    """The result of one call. Immutable."""

    request_id: str
    result: CatgaResult[Any]
    #: Whether it is a query, which may run twice.
    repeatable: bool


class _NodeClock:
    """
    The clock of a simulated node: durations are those of the simulation.

    The time of day is the real one. It stands in every request, and a receiver compares it with its own.
    """

    time = staticmethod(time.time)

    def __init__(self, clock: FakeClock) -> None:
        self.monotonic = clock.monotonic


class SimulatedNode:
    """One node of a simulation; made by ``Simulation.add_node`` and ``add_client``."""

    def __init__(self, simulation: Simulation, node_id: str, local: Mediator, endpoint: str | None) -> None:
        self._simulation = simulation
        self.node_id = node_id
        self.local = local
        self.clock = simulation.clock
        self.is_running = True
        self.is_paused = False
        #: Requests that have arrived while it was paused, and when their callers give up.
        self.backlog: list[tuple[Parcel, float]] = []
        self.load = 0.0
        self._runs = 0
        self._seq = 0
        self._endpoint = endpoint
        self._begin()

    def _begin(self) -> None:
        """Make new parts, as at the start of a process."""
        simulation = self._simulation
        self._runs += 1
        self._seq = 0
        options = ClusterOptions(
            node_id=self.node_id,
            endpoint=self._endpoint,
            insecure=True,
            discovery=simulation.store,
            idempotency=simulation.shared_idempotency or "memory",
            router=simulation.router,
            request_timeout=simulation.timeout,
            heartbeat_interval=simulation.heartbeat_interval,
            heartbeat_timeout=simulation.heartbeat_timeout,
            max_retries=simulation.max_retries,
            load_reporter=lambda: self.load,
        )
        self._parts = assemble(
            self.local,
            options,
            clock=_NodeClock(self.clock),
            sleep=self.clock.sleep,
            rng=random.Random(f"{simulation.seed}/{self.node_id}/{self._runs}"),  # noqa: S311 - repeatable on purpose
            channel=SimulatedChannel(simulation.network, self),
            probe=SimulatedProbe(simulation.network, self.node_id),
            background=False,
        )
        self.receiver = self._parts.mediator.receiver
        self.membership = self._parts.membership

    def send(
        self, request: Request[T], *, timeout: float | None = None, request_id: str | None = None
    ) -> CatgaResult[T]:
        """Send a request from this node; the result is noted for ``assert_at_most_once``."""
        simulation = self._simulation
        deadline = Deadline.after(simulation.timeout if timeout is None else timeout, self.clock.monotonic)
        call = CallContext(request_id or simulation.next_id(), deadline)
        result: CatgaResult[T] = self._parts.dispatcher.send(request, self.local.registry.ensure(type(request)), call)
        repeatable = self.local.registry.ensure(type(request)).idempotent
        simulation.results.append(Outcome(call.request_id, result, repeatable))
        return result

    def explain(self, request: Request[Any]) -> Explanation:
        """Return what ``send`` would do with the request, and why."""
        deadline = Deadline.after(self._simulation.timeout, self.clock.monotonic)
        return self._parts.dispatcher.explain(request, CallContext("explain", deadline))

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Return the other nodes in the snapshot of this one."""
        return self.membership.snapshot.nodes

    def events(self) -> tuple[ClusterEvent, ...]:
        """Return the events that this node has noticed."""
        return self._parts.mediator.events()

    @property
    def serves(self) -> bool:
        """Whether other nodes can send to it."""
        return self._endpoint is not None

    def kill(self) -> None:
        """End it at once, without notice to other nodes."""
        self.is_running = False
        self.backlog.clear()

    def restart(self) -> None:
        """Start it again, as another incarnation without any state."""
        self.is_running, self.is_paused = True, False
        self._begin()
        self.beat()

    def pause(self) -> None:
        """Stop it as SIGSTOP does: connections are accepted, nothing runs."""
        self.is_paused = True

    def resume(self) -> None:
        """Let it go on, with all requests that have arrived meanwhile."""
        self.is_paused = False
        backlog, self.backlog = self.backlog, []
        for parcel, expires in backlog:
            self.serve(parcel, expires - self.clock.monotonic(), hung_up=self.clock.monotonic() >= expires)

    def held(self, parcel: Parcel, timeout: float) -> bool:
        """See ``Peer``: nothing else happens meanwhile, so it does not go on."""
        self.backlog.append((parcel, self.clock.monotonic() + timeout))
        self.clock.sleep(timeout)
        return False

    def serve(self, parcel: Parcel, timeout: float, *, hung_up: bool) -> RawResponse:
        """See ``Peer``."""
        return deliver(self.receiver, parcel, lambda: hung_up)

    def beat(self) -> None:
        """Send a heartbeat, if it can."""
        if not self.is_running or self.is_paused or not self.serves:
            return
        self._seq += 1
        record = NodeRecord(self.describe(), self._seq)
        try:
            self._simulation.store.register(record, self._simulation.heartbeat_timeout)
        except ConnectionError:
            return

    def describe(self) -> ClusterNode:
        """Return this node as it describes itself."""
        return replace(self._parts.local_node.describe(), incarnation=f"{self.node_id}-{self._runs}")

    def look(self) -> None:
        """Do one step of the background thread, if it can."""
        if self.is_running and not self.is_paused:
            self._parts.housekeeping.step()


class Simulation:
    """
    A cluster on a virtual clock. Not thread-safe; a context manager.

    Args:
        seed: The same one gives the same run.
        router: Name of the router that all nodes use.
        heartbeat_interval: Simulated seconds.
        heartbeat_timeout: Simulated seconds.
        latency: Simulated seconds that a call takes on the wire.
        timeout: Simulated seconds of a call.
        max_retries: As in ``ClusterOptions``.
        shared_idempotency: A store that all nodes share; None gives each one of its own.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        router: str = "round-robin",
        heartbeat_interval: float = 5.0,
        heartbeat_timeout: float = 30.0,
        latency: float = 0.001,
        timeout: float = 2.0,
        max_retries: int = 2,
        shared_idempotency: IdempotencyStore | None = None,
    ) -> None:
        self.seed = seed
        self.router = router
        self.heartbeat_interval = heartbeat_interval
        self.heartbeat_timeout = heartbeat_timeout
        self.timeout = timeout
        self.max_retries = max_retries
        self.shared_idempotency = shared_idempotency
        self.clock = FakeClock()
        self.rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.store = SimulatedStore(self.clock)
        self.network = Network(self.clock.sleep, latency)
        #: Every run of a handler, in order.
        self.executions: list[Execution] = []
        #: Every call made with ``SimulatedNode.send``, in order.
        self.results: list[Outcome] = []
        self._ids = 0

    def add_node(self, node_id: str, handlers: Callable[[Mediator], object], *, observes: bool = True) -> SimulatedNode:
        """
        Add a node that serves.

        Args:
            node_id: Its id.
            handlers: Registers its handlers with the mediator that it is given.
            observes: Whether it keeps a snapshot of the others; False saves time where hundreds of nodes only serve.
        """
        local = Mediator()
        handlers(local)
        local.add_behavior(lambda next_: self._noting(node_id, next_))
        return self._add(SimulatedNode(self, node_id, local, f"http://{node_id}:80"), observes)

    def add_client(self, node_id: str = "client") -> SimulatedNode:
        """Add a node that only sends."""
        return self._add(SimulatedNode(self, node_id, Mediator(), None), True)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        self.clock.advance(seconds)

    def next_id(self) -> str:
        """Return the next request id: 32 hex digits, in order."""
        self._ids += 1
        return f"{self._ids:032x}"

    def assert_at_most_once(self) -> None:
        """
        Check the results against what really ran.

        Raises:
            AssertionError: A request that is no query ran twice, a handler ran without a request, or the delivery of
                a result is wrong.
        """
        runs = Counter(execution.request_id for execution in self.executions)
        for outcome in self.results:
            ran = runs.pop(outcome.request_id, 0)
            told = f"{outcome.request_id}: {outcome.result!r} ran {ran} times"
            assert ran <= 1 or outcome.repeatable, told
            assert outcome.result.delivery is not Delivery.EXECUTED or ran >= 1, told
            assert outcome.result.delivery is not Delivery.NOT_EXECUTED or ran == 0, told
        assert not runs, f"ran without having been sent: {sorted(runs)}"

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def _add(self, node: SimulatedNode, observes: bool) -> SimulatedNode:
        self.network.nodes[node.node_id] = node
        # Spread, as the phases of real nodes are.
        if node.serves:
            node.beat()
            self._every(self.heartbeat_interval, node.beat)
        if observes:
            self._every(self.store.refresh_interval, node.look)
        return node

    def _every(self, interval: float, function: Callable[[], object]) -> None:
        def again() -> None:
            function()
            self.clock.call_at(self.clock.monotonic() + interval, again)

        self.clock.call_at(self.clock.monotonic() + self.rng.uniform(0.0, interval), again)

    def _noting(self, node_id: str, next_: Handler) -> Handler:
        def handle(request: Any) -> CatgaResult[Any]:
            call = current_call()
            request_id = "" if call is None else call.request_id
            self.executions.append(Execution(request_id, node_id, self.clock.monotonic()))
            return next_(request)

        return handle

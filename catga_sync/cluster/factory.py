"""Putting a cluster mediator together from its options. The one place that knows every part."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from catga_sync._redaction import shown
from catga_sync._runtime_dir import meeting_folder
from catga_sync._server_info import server_info
from catga_sync.cluster.dispatch import SHARED_IDEMPOTENCY, Dispatcher
from catga_sync.cluster.events import EventBoard
from catga_sync.cluster.failover import Failover
from catga_sync.cluster.housekeeping import Upkeep
from catga_sync.cluster.load import default_load, rounded
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.parting import Parting
from catga_sync.cluster.presence import Presence
from catga_sync.cluster.stores import discovery_of, idempotency_of
from catga_sync.cluster.trust import trust_of
from catga_sync.cluster.worker_group import WorkerGroup, group_key
from catga_sync.errors import ConfigurationError, ends_process
from catga_sync.mediator import Mediator
from catga_sync.nodes import UNSIGNED, ClusterNode, NodeRecord, NodeStatus
from catga_sync.options import ClusterOptions
from catga_sync.receiver.deduplication import Once
from catga_sync.receiver.receiver import Receiver
from catga_sync.receiver.replay import SqliteNonces
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import Ejection
from catga_sync.routing import Router, create_router, router_options
from catga_sync.transport import HttpInvoker, RemoteInvoker
from catga_sync.transport.http.diagnosis import Trouble, trouble_of
from catga_sync.transport.http.probe import HttpProbe, Probe, ProbeOutcome

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from catga_sync.options import OptionValues

__all__ = ["create_cluster"]

#: Seconds to wait for a node to describe itself.
_DESCRIBE_TIMEOUT = 1.0

_log = logging.getLogger(__name__)


def create_cluster(
    local: Mediator,
    options: ClusterOptions | None = None,
    *,
    invoker: RemoteInvoker | None = None,
    environ: Mapping[str, str] | None = None,
    **option_overrides: Unpack[OptionValues],
) -> ClusterMediator:
    """
    Make the cluster mediator of this app. It starts nothing: no thread, no connection, no file.

    Args:
        local:
            The mediator with this process's handlers; they may be registered later, too.

        options:
            The options, complete as they are. None means that what is not given by name comes from the environment
            (``CATGA_SECRET`` and so on; see ``ClusterOptions.from_env``), and the rest from the defaults.

        invoker:
            Carries requests to other nodes; None means HTTP through ``requests``.

        environ:
            The environment; None means ``os.environ``, and an empty one that none is read.

        option_overrides:
            Single options by name; they win over ``options`` and over the environment. See ``ClusterOptions``.

    Raises:
        ConfigurationError: An option, or a ``CATGA_`` variable, is wrong or unknown.

    .. versionadded:: 0.1
    """
    if not isinstance(local, Mediator):
        raise ConfigurationError(f"local: give a Mediator, not {type(local).__name__}")
    if options is not None and not isinstance(options, ClusterOptions):
        raise ConfigurationError(f"options: give a ClusterOptions, not {type(options).__name__}")
    if options is None:
        chosen = ClusterOptions.from_env(environ, **option_overrides)
    else:
        chosen = options.with_changes(option_overrides)
    return _Assembly(local, chosen, invoker).make()


class _Assembly:
    """The parts of one cluster mediator, made in the order in which they need each other."""

    def __init__(self, local: Mediator, options: ClusterOptions, invoker: RemoteInvoker | None) -> None:
        self.local = local
        self.options = options
        self.this = ClusterNode(options.node_id or "", options.endpoint, metadata=options.metadata)
        self.trust = trust_of(options)
        self.signing = self.trust.signing()
        self.probe = HttpProbe(verify=options.verify, cert=options.cert, signing=self.signing)
        store = idempotency_of(options)
        self.once = None if store is None else Once(store)
        self.nonces = self._nonces()
        self.group = WorkerGroup(meeting_folder, self._group_key())
        # Not the mediator: the store outlives it for as long as it takes to leave the cluster.
        tests: list[Callable[[], bool]] = []
        self.tests = tests
        self.discovery = discovery_of(options, lambda: any(tells() for tells in tests))
        self.surroundings = Surroundings()
        self.events = EventBoard()
        self.budget = RetryBudget()
        self.ejection = Ejection(self._tell_ejected)
        self.invoker = self._http() if invoker is None else invoker
        self.receiver = self._receiver()
        self.presence = self._presence()
        self.membership = Membership(
            self.discovery,
            self.this,
            self.events,
            suspect_after=3 * options.heartbeat_interval,
            keep_missing=options.heartbeat_timeout,
            describe=self._ask,
            is_gone=self._is_gone,
        )
        self.upkeep = Upkeep(
            self.membership,
            self.presence,
            self.ejection,
            self.budget,
            self.events,
            self.receiver,
            self.invoker,
            is_alive=self._is_alive,
            close_discovery=self._close_stores,
            forget_discovery=getattr(self.discovery, "forget", lambda: None),
        )

    def make(self) -> ClusterMediator:
        options = self.options
        router = options.router
        dispatcher = Dispatcher(
            self.local,
            self.this,
            self.membership,
            self.ejection,
            self.budget,
            Failover(
                self.this.node_id,
                self.ejection,
                self.budget,
                enabled=options.enable_failover,
                max_retries=options.max_retries,
                retry_delay=options.retry_delay,
            ),
            self.invoker,
            self._router(router) if isinstance(router, str) else _router_object(router),
            _Routers(self._router),
            surroundings=self.surroundings,
            room=self._room,
            one_thread=lambda: server_info().one_thread,
            timeout=options.request_timeout,
        )
        self.mediator = ClusterMediator(
            self.local,
            this=self.this,
            dispatcher=dispatcher,
            membership=self.membership,
            presence=self.presence,
            ejection=self.ejection,
            events=self.events,
            receiver=self.receiver,
            upkeep=self.upkeep,
            surroundings=self.surroundings,
            describe=self._describe,
            tell_of_tests=self.tests,
            let_go=Parting(self.this.node_id, self.group, self.discovery, self.once, self.nonces),
            check_keys=self.trust.check,
            options=options,
        )
        return self.mediator

    # -- what this node is ----------------------------------------------------------------------------------------

    def _describe(self) -> ClusterNode:
        handled = [entry for entry in self.local.handled if entry.remote]
        info = server_info()
        most = self._max_concurrency()
        return replace(
            self.this,
            status=self._status(),
            load=self._load(),
            handles=frozenset(entry.name for entry in handled),
            subscribes=frozenset(entry.name for entry in self.local.subscribed if entry.remote),
            contracts={entry.name: entry.contract for entry in handled},
            incarnation="" if self.presence is None else self.presence.incarnation,
            keep_alive=info.keep_alive,
            concurrency=None if most is None else most * (info.workers or 1),
            features=self._features(),
        )

    def _status(self) -> NodeStatus:
        if self.mediator.closed:
            return NodeStatus.OFFLINE
        drained = self.presence is not None and self.presence.drain_wished
        return NodeStatus.DRAINING if drained or self.receiver.draining else NodeStatus.ONLINE

    def _features(self) -> frozenset[str]:
        found = {"batch"} if self.trust.keys is not None else {"batch", UNSIGNED}
        if self.once is not None and self.once.identity.known is not None:
            found.add(SHARED_IDEMPOTENCY + self.once.identity.known)
        return frozenset(found)

    def _describe_on_the_wire(self) -> Mapping[str, Any]:
        types = {entry.name: entry.response_name for entry in self.local.handled if entry.remote}
        trouble = None if self.presence is None else self.presence.trouble
        extra = {"idle": self.upkeep.is_idle, "responses": types, "trouble": trouble}
        return {**NodeRecord(self._describe()).to_mapping(), **extra}

    def _load(self) -> float:
        reporter = self.options.load_reporter
        try:
            return rounded(float(reporter()) if reporter is not None else default_load(self._share_in_use))
        except BaseException as exc:
            if ends_process(exc):
                raise
            _log.exception("load_reporter failed; the node is reported as fully loaded")
            return 100.0

    def _share_in_use(self) -> float:
        most = self._max_concurrency()
        return 0.0 if most is None else min(1.0, self.receiver.in_flight / most)

    def _max_concurrency(self) -> int | None:
        given = self.options.max_concurrency
        if given is not None:
            return given
        threads = server_info().threads
        if threads is None:
            return None
        # Some threads stay free, so that health checks and refusals always get through.
        return max(1, threads - (2 if threads > 4 else 1))

    def _room(self) -> int | None:
        room = self.receiver.room
        # Its one thread is the one that sends.
        return 0 if room is None and server_info().one_thread else room

    def _close_stores(self) -> None:
        for store in (self.discovery, self.once, self.nonces):
            if store is not None:
                store.close()

    # What is made first is told of what is made last.

    def _tell_ejected(self, node: ClusterNode, ejected: bool) -> None:
        self.upkeep.tell_ejected(node, ejected)

    def _present_incarnation(self) -> str:
        return "" if self.presence is None else self.presence.present_incarnation

    def _notice_request(self) -> None:
        self.mediator.notice_request()

    def _begin_drain(self) -> None:
        self.upkeep.begin_drain()

    # -- the parts ------------------------------------------------------------------------------------------------

    def _router(self, name: str) -> Router:
        known = router_options(name)
        injected = {
            "node_id": self.this.node_id,
            "has_room": lambda: self.receiver.room != 0,
            "key_of": self._key_of,
        }
        return create_router(name, **{option: value for option, value in injected.items() if option in known})

    def _key_of(self, message: Any) -> Any:
        key = self.local.registry.ensure(type(message)).key
        return None if key is None else getattr(message, key)

    def _http(self) -> RemoteInvoker:
        options = self.options
        return HttpInvoker(
            self.local.registry,
            source_node_id=options.node_id,
            pool_size=options.pool_size,
            max_body_bytes=options.max_body_bytes,
            session=options.session,
            verify=options.verify,
            cert=options.cert,
            signing=self.signing,
            on_stall=self.ejection.avoid,
        )

    def _nonces(self) -> SqliteNonces | None:
        if not self.trust.remembers:
            return None
        # Shared by the workers of the node: each of them must know what another one has let in.
        name = hashlib.sha256(self._group_key().encode("utf-8")).hexdigest()[:32]
        return SqliteNonces(lambda: meeting_folder() / f"{name}.nonces")

    def _group_key(self) -> str:
        return group_key(self.options.cluster_name, self.this.node_id, self.this.endpoint or "")

    def _receiver(self) -> Receiver:
        options = self.options
        return Receiver(
            self.local,
            node_id=self.this.node_id,
            describe=self._describe_on_the_wire,
            guard=self.trust.guard(self.nonces, self._present_incarnation),
            once=self.once,
            surroundings=self.surroundings,
            on_request=self._notice_request,
            on_drain=self._begin_drain,
            max_body_bytes=options.max_body_bytes,
            max_concurrency=self._max_concurrency,
            default_timeout=options.request_timeout,
        )

    def _presence(self) -> Presence | None:
        options = self.options
        if options.endpoint is None:
            return None
        return Presence(
            self.this.node_id,
            options.endpoint,
            self.group,
            self.discovery,
            self.probe,
            self._describe,
            heartbeat_interval=options.heartbeat_interval,
            heartbeat_timeout=options.heartbeat_timeout,
            before_heartbeat=(lambda: None) if self.once is None else self.once.identity.refresh,
        )

    # -- asking other nodes ---------------------------------------------------------------------------------------

    def _probe(self, node: ClusterNode) -> Probe:
        return self.probe.ask(node.node_id, node.endpoint or "", _DESCRIBE_TIMEOUT)

    def _ask(self, node: ClusterNode) -> Mapping[str, Any] | Trouble:
        answer = self._probe(node)
        return trouble_of(answer) or answer.description

    def _is_gone(self, node: ClusterNode) -> bool | None:
        answer = self._probe(node)
        if self.trust.is_local and answer.status == 401 and answer.node_id not in (None, node.node_id):
            # It names itself without a signature; where every process of this machine was believed, that is enough.
            return True
        if answer.outcome is not ProbeOutcome.ANSWERED:
            return True if answer.outcome is ProbeOutcome.REFUSED else None
        said = answer.description
        if said.get("nodeId") != node.node_id or said.get("status") == NodeStatus.OFFLINE.name:
            # Another node has its port, or its server lives on where its mediator was closed.
            return True
        # One on its way out has left the store by itself, and is not lost.
        return None if said.get("status") == NodeStatus.DRAINING.name else False

    def _is_alive(self, node: ClusterNode) -> bool:
        # A node without the describe route answers something else, which is a sign of life as well.
        return self._probe(node).outcome in (ProbeOutcome.ANSWERED, ProbeOutcome.OTHER)


class _Routers:
    """The routers that single message types ask for by name, one of each."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._made: dict[str, Router] = {}

    def __call__(self, name: str) -> Router:
        router = self._made.get(name)
        return self._made.setdefault(name, self._make(name)) if router is None else router

    def forget(self) -> None:
        """In a forked child: see ``Dispatcher.forget``."""
        for router in self._made.values():
            forget = getattr(router, "forget", None)
            if forget is not None:
                forget()


def _router_object(router: Any) -> Router:
    if callable(getattr(router, "route", None)):
        found: Router = router
        return found
    raise ConfigurationError(f"router: give a name, or an object with route(message, nodes), not {shown(router)}")

"""Assembles a cluster mediator from its options. The only file that imports every part."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._log_limit import LimitedLog
from catga_sync._runtime_dir import meeting_folder
from catga_sync.cluster.dispatch import Dispatcher
from catga_sync.cluster.events import EventBoard
from catga_sync.cluster.failover import Failover
from catga_sync.cluster.housekeeping import Housekeeping
from catga_sync.cluster.lifecycle import Lifecycle
from catga_sync.cluster.local_node import LocalNode
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.parting import Parting
from catga_sync.cluster.peers import Asker, Peers, liveness
from catga_sync.cluster.presence import Presence
from catga_sync.cluster.routers import Routers
from catga_sync.cluster.sender import Sender
from catga_sync.cluster.short_way import ShortWay
from catga_sync.cluster.startup import tell_start
from catga_sync.cluster.trust import trust_of
from catga_sync.cluster.visibility import Visibility
from catga_sync.cluster.worker_group import WorkerGroup, group_key
from catga_sync.discovery import create_discovery
from catga_sync.discovery.base import place_of
from catga_sync.errors import ConfigurationError
from catga_sync.hooks import Hooks
from catga_sync.idempotency import create_idempotency
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode
from catga_sync.options import ClusterOptions
from catga_sync.receiver.deduplication import Deduplication
from catga_sync.receiver.receiver import Receiver
from catga_sync.receiver.replay import NonceStore, SqliteNonces
from catga_sync.receiver.surroundings import Surroundings
from catga_sync.resilience.budget import RetryBudget
from catga_sync.resilience.ejection import Ejection
from catga_sync.transport import Channel, NodeProbe, RemoteInvoker, create_invoker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from catga_sync.options import OptionValues

__all__ = ["Assembly", "assemble", "create_cluster"]


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
            Carries requests to other nodes; None means HTTP through ``requests``, and gRPC to nodes reached so.

        environ:
            The environment; None means ``os.environ``, and an empty mapping that no variable is read.

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
    return assemble(local, chosen, invoker).mediator


class Assembly(NamedTuple):
    """A cluster mediator, and the parts that a simulation drives."""

    mediator: ClusterMediator
    local_node: LocalNode
    membership: Membership
    dispatcher: Dispatcher
    housekeeping: Housekeeping


def assemble(
    local: Mediator,
    options: ClusterOptions,
    invoker: RemoteInvoker | None = None,
    *,
    clock: Clock = SYSTEM_CLOCK,
    sleep: Callable[[float], object] = time.sleep,
    rng: random.Random | None = None,
    channel: Channel | None = None,
    probe: Asker | None = None,
    background: bool = True,
    membership_type: type[Membership] = Membership,
    nonces: NonceStore | None = None,
) -> Assembly:
    """
    Make the parts in the order in which they need each other.

    Args:
        local: The mediator with the handlers.
        options: The options, complete.
        invoker: Carries requests to other nodes; None means envelopes over ``channel``.
        clock: The clock of every part.
        sleep: Waits between two attempts.
        rng: Source of every random choice; None means one for each part.
        channel: Carries the envelopes; None means HTTP, and gRPC to nodes that are reached so.
        probe: Asks nodes to describe themselves; None means over HTTP or gRPC, as the endpoint says.
        background: Whether a received request starts the background thread; without it the caller runs the steps.
        membership_type: The class that keeps the snapshot.
        nonces: Remembers the nonces of signed requests; None means a file of this node.

    Raises:
        ConfigurationError: An option names an unknown backend or router.
    """
    this = ClusterNode(
        options.node_id or "", options.endpoint, metadata=options.metadata, grpc_endpoint=options.grpc_endpoint
    )
    group_name = group_key(options.cluster_name, this.node_id, this.endpoint or "")
    trust = trust_of(options)
    signing = trust.signing()
    if probe is None:
        probe = NodeProbe(verify=options.verify, cert=options.cert, signing=signing)
    tests: list[Callable[[], bool]] = []
    discovery = create_discovery(
        options.discovery,
        cluster_name=options.cluster_name,
        peers=options.peers,
        is_alive=liveness(options.cluster_name),
        under_test=lambda: any(is_test() for is_test in tests),
    )
    idempotency = create_idempotency(options.idempotency, cluster_name=options.cluster_name, clock=clock)
    limited_log = LimitedLog(clock)
    deduplication = None if idempotency is None else Deduplication(idempotency, limited_log)
    if nonces is None:
        nonces = _nonces(group_name)
    nonces = nonces if trust.remembers else None

    # This node.
    hooks = Hooks(options.hooks, limited_log)
    surroundings = Surroundings()
    group = WorkerGroup(meeting_folder, group_name, clock=clock)
    visibility = Visibility(this.node_id, clock)
    local_node = LocalNode(this, local, group, visibility, deduplication, options, signs=trust.keys is not None)
    presence = None
    if options.endpoint is not None:
        presence = Presence(
            local_node,
            group,
            visibility,
            discovery,
            probe,
            heartbeat_interval=options.heartbeat_interval,
            heartbeat_timeout=options.heartbeat_timeout,
            started=lambda node: (
                tell_start(node, options.cluster_name, place_of(discovery), options.router) if background else None
            ),
            clock=clock,
        )

    # The other nodes.
    events = EventBoard()
    peers = Peers(probe, share_a_key=trust.is_local)
    membership = membership_type(
        discovery,
        this,
        events,
        peers,
        suspect_after=3 * options.heartbeat_interval,
        keep_missing=options.heartbeat_timeout,
        clock=clock,
    )

    # The way out.
    budget = RetryBudget(on_exhausted=hooks.tell_budget_exhausted, monotonic=clock.monotonic)
    ejection = Ejection(events.tell_ejected, monotonic=clock.monotonic, rng=rng)
    if invoker is None:
        invoker = create_invoker(
            local.registry,
            channel,
            source_node_id=options.node_id,
            pool_size=options.pool_size,
            max_body_bytes=options.max_body_bytes,
            compresses=options.compression != "off",
            session=options.session,
            verify=options.verify,
            cert=options.cert,
            signing=signing,
            stream=options.stream,
            limited_log=limited_log,
            clock=clock,
        )
    _fork.watch_given(invoker)
    sender = Sender(
        local_node,
        local,
        invoker,
        ejection,
        surroundings,
        hooks=hooks,
        pool_size=options.pool_size,
        limited_log=limited_log,
        monotonic=clock.monotonic,
    )
    failover = Failover(
        this.node_id,
        sender,
        ejection,
        budget,
        enabled=options.enable_failover,
        max_retries=options.max_retries,
        retry_delay=options.retry_delay,
        clock=clock,
        sleep=sleep,
        rng=rng,
    )
    routers = Routers(options.router, local_node, local.registry, rng=rng, clock=clock)
    dispatcher = Dispatcher(
        local,
        this,
        membership,
        ejection,
        budget,
        failover,
        sender,
        routers,
        surroundings=surroundings,
        timeout=options.request_timeout,
    )
    # Its life, and the way in.
    stores = [store for store in (discovery, deduplication, nonces) if store is not None]
    housekeeping = Housekeeping(
        membership, presence, ejection, local_node, sender, peers, stores, limited_log, monotonic=clock.monotonic
    )
    lifecycle = Lifecycle(
        local_node,
        membership,
        presence,
        housekeeping,
        trust=trust,
        parting=Parting(this.node_id, group, discovery, deduplication, nonces),
        tests=tests,
    )
    short_way = ShortWay(
        local,
        local_node,
        membership,
        dispatcher,
        budget,
        surroundings,
        hooks,
        prefers_this=options.router == "local-first" and clock is SYSTEM_CLOCK,
        timeout=options.request_timeout,
        is_running=lifecycle.is_running,
        monotonic=clock.monotonic,
    )
    receiver = Receiver(
        local,
        local_node,
        guard=trust.guard(nonces, lambda: group.present),
        deduplication=deduplication,
        surroundings=surroundings,
        on_request=lifecycle.notice_request if background else lambda: None,
        on_drain=housekeeping.begin_drain,
        max_body_bytes=options.max_body_bytes,
        compresses=options.compression != "off",
        default_timeout=options.request_timeout,
        limited_log=limited_log,
        hooks=hooks,
        max_streams=0 if options.stream == "off" else options.max_streams,
    )
    lifecycle.serve_streams(receiver.streams)
    mediator = ClusterMediator(
        local,
        options,
        local_node=local_node,
        surroundings=surroundings,
        hooks=hooks,
        events=events,
        membership=membership,
        ejection=ejection,
        presence=presence,
        dispatcher=dispatcher,
        short_way=short_way,
        sender=sender,
        receiver=receiver,
        lifecycle=lifecycle,
    )
    return Assembly(mediator, local_node, membership, dispatcher, housekeeping)


def _nonces(group_name: str) -> SqliteNonces:
    # Shared by the workers of the node, so that none of them accepts a nonce which another has accepted.
    name = hashlib.sha256(group_name.encode("utf-8")).hexdigest()[:32]
    return SqliteNonces(lambda: meeting_folder() / f"{name}.nonces")

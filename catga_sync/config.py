"""Putting a cluster mediator together from its options. The one place that knows every part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from catga_sync.access import unsigned_refusal
from catga_sync.cluster.events import EventBoard
from catga_sync.cluster.failover import Failover
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.presence import Presence
from catga_sync.cluster.workers import WorkerGroup, any_process_of
from catga_sync.discovery.base import Discovery
from catga_sync.errors import ConfigurationError
from catga_sync.folders import meeting_folder
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode
from catga_sync.options import ClusterOptions
from catga_sync.receiver import Receiver
from catga_sync.routing import Router, create_router
from catga_sync.transport import HttpInvoker, RemoteInvoker
from catga_sync.transport.probe import HttpProbe, ProbeOutcome, nobody_listens

__all__ = ["create_cluster"]

#: Seconds to wait for a node of a static list to describe itself.
_DESCRIBE_TIMEOUT = 1.0


def create_cluster(
    local: Mediator,
    options: ClusterOptions | None = None,
    *,
    invoker: RemoteInvoker | None = None,
    **option_overrides: Any,
) -> ClusterMediator:
    """
    Make the cluster mediator of this app. It starts nothing: no thread, no connection, no file.

    Args:
        local:
            The mediator with this process's handlers; they may be registered later, too.

        options:
            The options. None means the defaults.

        invoker:
            Carries requests to other nodes; None means HTTP through ``requests``.

        option_overrides:
            Single options by name; they win over ``options``. See ``ClusterOptions``.

    Raises:
        ConfigurationError: An option is wrong or unknown.

    .. versionadded:: 0.1
    """
    if not isinstance(local, Mediator):
        raise ConfigurationError(f"local: give a Mediator, not {local!r}")
    if options is not None and not isinstance(options, ClusterOptions):
        raise ConfigurationError(f"options: give a ClusterOptions, not {options!r}")
    chosen = ClusterOptions.make(option_overrides) if options is None else options.with_changes(option_overrides)
    node_id = chosen.node_id or ""
    this = ClusterNode(node_id, chosen.endpoint, metadata=chosen.metadata)
    probe = HttpProbe(verify=chosen.verify, cert=chosen.cert)
    discovery = _discovery(chosen)
    events = EventBoard()

    def router_named(name: str) -> Router:
        return create_router(name, **({"node_id": node_id} if name == "local-first" else {}))

    def receiver(mediator: ClusterMediator) -> Receiver:
        return Receiver(
            local,
            node_id=node_id,
            describe=mediator.describe,
            refuse=_let_in_all if chosen.insecure else unsigned_refusal,
            on_request=mediator.notice_request,
            max_body_bytes=chosen.max_body_bytes,
            default_timeout=chosen.request_timeout,
        )

    presence = None
    if chosen.endpoint is not None:
        presence = Presence(
            chosen.endpoint,
            WorkerGroup(meeting_folder(), _group_key(chosen.cluster_name, node_id, chosen.endpoint)),
            discovery,
            probe,
            lambda: mediator.node,
            heartbeat_interval=chosen.heartbeat_interval,
            heartbeat_timeout=chosen.heartbeat_timeout,
        )
    if invoker is None:
        invoker = HttpInvoker(
            local.registry,
            source_node_id=node_id,
            pool_size=chosen.pool_size,
            max_body_bytes=chosen.max_body_bytes,
            session=chosen.session,
            verify=chosen.verify,
            cert=chosen.cert,
        )
    mediator = ClusterMediator(
        local,
        this=this,
        membership=Membership(
            discovery,
            this,
            events,
            describe=lambda endpoint: _ask(probe, endpoint),
        ),
        presence=presence,
        events=events,
        router=router_named(chosen.router) if isinstance(chosen.router, str) else _router_object(chosen.router),
        routers=_Routers(router_named),
        failover=Failover(
            enabled=chosen.enable_failover, max_retries=chosen.max_retries, retry_delay=chosen.retry_delay
        ),
        invoker=invoker,
        receiver=receiver,
        request_timeout=chosen.request_timeout,
        close_discovery=discovery.close,
    )
    return mediator


class _Routers:
    """The routers that single message types ask for by name, one of each."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._made: dict[str, Router] = {}

    def __call__(self, name: str) -> Router:
        router = self._made.get(name)
        return self._made.setdefault(name, self._make(name)) if router is None else router


def _ask(probe: HttpProbe, endpoint: str) -> Mapping[str, Any] | None:
    answer = probe.ask(endpoint, _DESCRIBE_TIMEOUT)
    return answer.description if answer.outcome is ProbeOutcome.ANSWERED else None


def _let_in_all(remote_address: str | None, headers: Mapping[str, str]) -> str | None:
    return None


def _router_object(router: Any) -> Router:
    if callable(getattr(router, "route", None)):
        found: Router = router
        return found
    raise ConfigurationError(f"router: give a name, or an object with route(message, nodes), not {router!r}")


def _group_key(cluster_name: str, node_id: str, endpoint: str) -> str:
    return f"{cluster_name}\n{node_id}\n{endpoint}"


def _discovery(options: ClusterOptions) -> Discovery:
    given = options.discovery
    if given is None:
        return _sqlite(meeting_folder() / f"{options.cluster_name}.sqlite3", options.cluster_name)
    if not isinstance(given, str):
        missing = [
            name for name in ("register", "deregister", "nodes", "close") if not callable(getattr(given, name, None))
        ]
        if missing:
            raise ConfigurationError(
                f"discovery: {given!r} has no method {missing[0]}(); see catga_sync.discovery.Discovery"
            )
        found: Discovery = given
        return found
    if given == "static":
        from catga_sync.discovery.static import StaticDiscovery

        return StaticDiscovery(options.peers or {})
    scheme = urlsplit(given).scheme
    if scheme == "memory":
        return _shared_memory(given, options.cluster_name)
    if scheme == "sqlite":
        path = unquote(given[len("sqlite:///") :]) if given.startswith("sqlite:///") else ""
        if not path:
            raise ConfigurationError(
                f"discovery: write sqlite:///relative/path or sqlite:////absolute/path, not {given!r}"
            )
        return _sqlite(Path(path), options.cluster_name)
    raise ConfigurationError(
        f"discovery: {_without_password(given)!r} is none of memory://, sqlite:///path, 'static', or an object"
    )


def _sqlite(path: Path, cluster_name: str) -> Discovery:
    from catga_sync.discovery.sqlite import SqliteDiscovery

    def is_alive(node: ClusterNode) -> bool | None:
        alive = any_process_of(meeting_folder(), _group_key(cluster_name, node.node_id, node.endpoint or ""))
        if alive is False and not nobody_listens(node.endpoint or ""):
            # Its workers have died, but somebody keeps the port for the next ones: gunicorn's master, say.
            return None
        return alive

    return SqliteDiscovery(path, cluster_name=cluster_name, is_alive=is_alive)


_memories: dict[tuple[str, str], Discovery] = {}


def _shared_memory(url: str, cluster_name: str) -> Discovery:
    """Return the store of this process for that URL: what ``memory://`` means is "the mediators of this process"."""
    from catga_sync.discovery.memory import MemoryDiscovery

    return _memories.setdefault((url, cluster_name), MemoryDiscovery())


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return parts._replace(netloc="***@" + parts.netloc.rsplit("@", 1)[1]).geturl()

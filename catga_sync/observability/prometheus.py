"""Prometheus: a hook that counts every outcome, and ``/metrics`` for Flask, WSGI and Django.

    from catga_sync.observability.prometheus import PrometheusHook, metrics_blueprint

    mediator.add_hook(PrometheusHook())
    app.register_blueprint(metrics_blueprint())

A server with several worker processes needs the variable ``PROMETHEUS_MULTIPROC_DIR``: an empty folder in which the
workers keep their values, set before Python starts. Any worker then responds with the sum over all of them. Without it,
each worker has values of its own, and a scrape gets those of the worker that it meets.
"""

from __future__ import annotations

import weakref
from collections import Counter as Tally
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from catga_sync.cluster.events import ClusterEvent, EventKind
from catga_sync.errors import ErrorCode
from catga_sync.hooks import AttemptDetails, HandleDetails, SendDetails, ServedDetails, Told
from catga_sync.nodes import NodeStatus
from catga_sync.observability._metrics import OTHER, Bounded, are_shared, metrics_of, write_page
from catga_sync.results import CatgaResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from django.http import HttpRequest, HttpResponse
    from flask import Blueprint
    from prometheus_client import CollectorRegistry

__all__ = ["PrometheusHook", "metrics_app", "metrics_blueprint", "metrics_view"]

#: Most values of a label: types and nodes, and codes of the application's own.
_MOST_NAMES, _MOST_CODES = 1_000, 50

#: What an attempt at another node has measured, in the metadata of its result.
_MEASURED = ("place_ms", "wire_ms", "backlog_ms", "sent_bytes", "received_bytes")
_measured = itemgetter(*_MEASURED)

#: The hooks of this process, which read the nodes when a page is asked for.
_hooks: weakref.WeakSet[PrometheusHook] = weakref.WeakSet()


class PrometheusHook:
    """
    Counts sends, attempts, handlers, exchanges and events for Prometheus. Thread-safe, and safe after a fork.

    Add it to each mediator: ``mediator.add_hook(hook)`` or ``create_cluster(local, hooks=[hook])``. Two hooks with one
    registry count in the same metrics.

    Args:
        registry:
            The ``prometheus_client.CollectorRegistry`` of the metrics. None means the default one of the process.

    Raises:
        ImportError: The package prometheus_client is missing; raised by the import of this module.

    .. versionadded:: 0.1
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._metrics = metrics = metrics_of(registry)
        self._sends, self._attempts = metrics.sends, metrics.attempts
        self._handled, self._served, self._waited = metrics.handled, metrics.served, metrics.queue_seconds.observe
        self._send_begins, self._send_ends = metrics.sends_in_flight.inc, metrics.sends_in_flight.dec
        self._handler_begins, self._handler_ends = metrics.handlers_in_flight.inc, metrics.handlers_in_flight.dec
        self._types = Bounded(_MOST_NAMES)
        self._nodes = Bounded(_MOST_NAMES)
        self._codes = Bounded(_MOST_CODES, "OK", "NONE")
        self._mediators: weakref.WeakSet[Any] = weakref.WeakSet()
        _hooks.add(self)

    def on_added(self, mediator: Any) -> None:
        """See ``Hook``: its nodes are counted when a page is asked for."""
        self._mediators.add(mediator)

    def on_send(self, details: SendDetails) -> Told:
        """See ``Hook``."""
        type_name = self._types[details.type_name]
        self._send_begins(1)
        began = perf_counter()

        def told(result: CatgaResult[Any]) -> None:
            elapsed = perf_counter() - began
            self._send_ends()
            code = "OK" if result.is_success else self._code(result)
            self._sends[type_name, code, result.delivery](elapsed)
            attempts = result._attempts  # as they are: of a local send they are not made yet, as there is one
            if type(attempts) is tuple and len(attempts) > 1:
                self._metrics.retries[type_name,].inc(len(attempts) - 1)

        return told

    def on_attempt(self, details: AttemptDetails) -> Told:
        """See ``Hook``."""
        type_name, _, node, way, _, _, _ = details
        type_name, node_id = self._types[type_name], node.node_id
        self._nodes[node_id]
        began = perf_counter()

        def told(result: CatgaResult[Any]) -> None:
            elapsed = perf_counter() - began
            label = self._nodes.get(node_id, OTHER)  # it may have left meanwhile
            code = "OK" if result.is_success else self._code(result)
            tell = self._attempts[type_name, label, way, code, result.delivery]
            if way == "local":  # it has waited for nothing, and no bytes travel
                tell(elapsed)
                return
            try:
                place, wire, backlog, sent, received = _measured(result.metadata)
            except KeyError:  # there was no response, or nothing was sent
                place, wire, backlog, sent, received = map(result.metadata.get, _MEASURED)
            tell((elapsed, place, wire, backlog, sent, received))

        return told

    def on_handle(self, details: HandleDetails) -> Told:
        """See ``Hook``."""
        type_name, _, received, queue_ms, _ = details
        type_name = self._types[type_name]
        if queue_ms is not None:
            self._waited(queue_ms / 1e3)
        self._handler_begins(1)

        def told(result: CatgaResult[Any]) -> None:
            self._handler_ends()
            code = "OK" if result.is_success else self._code(result)
            self._handled[type_name, code, "remote" if received else "local"](result.processing_time_ms)

        return told

    def on_served(self, details: ServedDetails) -> None:
        """See ``Hook``."""
        route, way, status, refusals, replayed, bytes_in, bytes_out, seconds = details
        self._served[route, way, status]((seconds, bytes_in, bytes_out))
        for reason in refusals:
            self._metrics.refusals[reason,].inc()
        if replayed:
            self._metrics.replayed.inc(replayed)

    def on_event(self, event: ClusterEvent) -> None:
        """See ``Hook``. What is known of a node is dropped when it has left, but for workers that share a folder."""
        metrics, node_id = self._metrics, event.node.node_id
        metrics.node_events[event.kind.name,].inc()
        if event.kind is EventKind.NODE_JOINED:
            # At 0, so that the first ejection is an increase to Prometheus.
            metrics.ejections[self._nodes[node_id],]
            metrics.heartbeats_missed[self._nodes[node_id],]
        elif event.kind is EventKind.NODE_FAULTED:
            metrics.ejections[self._nodes[node_id],].inc()
        elif event.kind is EventKind.NODE_SUSPECTED:
            metrics.heartbeats_missed[self._nodes[node_id],].inc()
        elif event.kind is EventKind.NODE_LEFT and not are_shared():
            label = self._nodes.drop(node_id)
            if label is not None:
                metrics.forget_node(label)

    def on_budget_exhausted(self) -> None:
        """See ``Hook``."""
        self._metrics.budget.inc()

    def refresh(self) -> None:
        """Set ``catga_nodes`` to what the mediators see now. The pages of this module do it; call it before others."""
        present = [mediator for mediator in list(self._mediators) if not mediator.closed]
        if not present:
            return
        # The same node is seen by each mediator of this process.
        seen = {node.node_id: node.status for mediator in present for node in mediator.nodes()}
        statuses = Tally(seen.values())
        for status in NodeStatus:
            self._metrics.nodes.labels(status.name).set(statuses[status])

    def _code(self, result: CatgaResult[Any]) -> str:
        """Return the label value for the code of a failure."""
        code = result.code
        if type(code) is ErrorCode:
            return code
        return "NONE" if code is None else self._codes[code]


def metrics_app(registry: CollectorRegistry | None = None) -> WSGIApplication:
    """
    Return a WSGI app that responds to ``GET`` with the metrics.

    Args:
        registry: As for ``PrometheusHook``. With ``PROMETHEUS_MULTIPROC_DIR`` the sum over all workers is given,
            whatever the registry.

    .. versionadded:: 0.1
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
            return []
        page, media_type = _page(registry, environ.get("HTTP_ACCEPT", ""))
        start_response("200 OK", [("Content-Type", media_type), ("Content-Length", str(len(page)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]

    return app


def metrics_blueprint(registry: CollectorRegistry | None = None, name: str = "catga_metrics") -> Blueprint:
    """
    Return a Flask blueprint with ``GET /metrics``.

    Args:
        registry: As for ``metrics_app``.
        name: The name of the blueprint.

    .. versionadded:: 0.1
    """
    from flask import Blueprint, Response, request

    blueprint = Blueprint(name, __name__)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        page, media_type = _page(registry, request.headers.get("Accept", ""))
        return Response(page, content_type=media_type)

    return blueprint


def metrics_view(request: HttpRequest) -> HttpResponse:
    """
    Respond to a request with the metrics: a Django view, for ``path("metrics", metrics_view)``.

    It shows the default registry, or the sum over all workers with ``PROMETHEUS_MULTIPROC_DIR``.

    .. versionadded:: 0.1
    """
    from django.http import HttpResponse, HttpResponseNotAllowed

    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    page, media_type = _page(None, request.headers.get("Accept", ""))
    return HttpResponse(page, content_type=media_type)


def _page(registry: CollectorRegistry | None, accept: str) -> tuple[bytes, str]:
    for hook in list(_hooks):
        hook.refresh()
    return write_page(registry, accept)

"""OpenTelemetry: spans for sends, attempts and handlers, one trace through all nodes.

    send shop.PlaceOrder             INTERNAL   a send, with all of its attempts
      shop.PlaceOrder                CLIENT     an attempt at a node; a call that fails over has several
        shop.PlaceOrder              SERVER     the handler, on that node
          send shop.TakeFromStock    INTERNAL   what the handler sends in turn
      handle shop.PlaceOrder         INTERNAL   the handler, where it runs in the process that sends

Names and attributes are those of the semantic conventions for RPC, version 1.45.0 (the first in which they are stable):
``rpc.system.name``, ``rpc.method``, ``rpc.status_code``, ``server.address``, ``server.port``, ``error.type``. What is
ours begins with ``catga.``. One thing is otherwise: there a client span has all attempts of a call in it. Ours has one,
since each goes to another node, and a backend that draws services pairs one client span with one server span.

Rules of this file:
1. No payload, no exception and no value of the user's is put into a span; an error text is that which the caller gets.
2. A span is current in the thread of its call while it lasts, and not longer. Those of a batch overlap, so that none of
   them is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from catga_sync import __version__
from catga_sync.context import CallContext
from catga_sync.hooks import AttemptDetails, HandleDetails, SendDetails, Told
from catga_sync.results import CatgaResult

try:
    from opentelemetry import context as contexts
    from opentelemetry import trace
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import Context
    from opentelemetry.propagators.composite import CompositePropagator
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Link, Span, SpanKind, StatusCode, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as exc:
    text = "traces need the opentelemetry-api package: pip install catga-sync[otel]"
    raise ImportError(text) from exc

__all__ = ["OpenTelemetryHook"]

#: https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/
_SCHEMA = "https://opentelemetry.io/schemas/1.45.0"
_SYSTEM = "catga"
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Entries of a result's metadata that become attributes ``catga.<name>``: where the time of a call went.
_TIMES = ("place_ms", "wire_ms", "backlog_ms")


class OpenTelemetryHook:
    """
    Makes spans of the calls of a mediator. Thread-safe.

        mediator.add_hook(OpenTelemetryHook())

    The spans of one call are one trace, on all nodes that have the hook; nodes without it pass the trace on. Where
    only the API of OpenTelemetry is set up, and no SDK, no span is recorded, and traces are passed on as without the
    hook.

    A received call is a child of the span that the caller's attempt has sent. Where the instrumentation of Flask,
    Django or WSGI has made a span for the POST, the handler's is a child of that one, and linked with the caller's; if
    it belongs to another trace, it is only linked.

    Args:
        tracer_provider:
            Makes the spans. None means the global one; it may be set later.

        propagator:
            Writes and reads what travels. ``traceparent``, ``tracestate`` and ``baggage`` are carried. None means W3C
            trace context and baggage, whatever the global propagator is.

    Raises:
        ImportError: ``opentelemetry-api`` is not installed.

    .. versionadded:: 0.1
    """

    def __init__(
        self, tracer_provider: TracerProvider | None = None, propagator: TextMapPropagator | None = None
    ) -> None:
        self._tracer = trace.get_tracer("catga_sync", __version__, tracer_provider, _SCHEMA)
        if propagator is None:
            propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
        self._propagator = propagator
        self._carries_baggage = "baggage" in propagator.fields
        #: The context of each item of a batch, by its request id, while it is sent: none of them is the current one.
        self._items: dict[str, Context] = {}

    def on_send(self, details: SendDetails) -> Told:
        """Begin the span of a send."""
        call = details.call
        context = self._context_of_send(call)
        attributes = {"catga.request_id": call.request_id, "catga.message_type": details.type_name}
        span = self._tracer.start_span(f"send {details.type_name}", context, SpanKind.INTERNAL, attributes)
        own = self._carry(span, context, details.carrier)
        token = None
        if details.in_batch:
            self._items[call.request_id] = own
        else:
            token = contexts.attach(own)

        def told(result: CatgaResult[Any]) -> None:
            if token is None:
                self._items.pop(call.request_id, None)
            else:
                contexts.detach(token)
            if span.is_recording():
                span.set_attribute("catga.attempts", len(result.attempts))
                if result.node_id is not None:
                    span.set_attribute("catga.node_id", result.node_id)
            self._end(span, result)

        return told

    def on_attempt(self, details: AttemptDetails) -> Told | None:
        """Begin the span of an attempt at another node; one at this node has that of its handler."""
        if details.way == "local":
            return None
        call, node = details.call, details.node
        context = self._context_of_part(call)
        attributes: dict[str, Any] = {
            "rpc.system.name": _SYSTEM,
            "rpc.method": details.type_name,
            "catga.request_id": call.request_id,
            "catga.node_id": node.node_id,
            "catga.way": details.way,
            **_address(node.endpoint),
        }
        links = () if details.leader is None else self._links(details.leader.carrier)
        span = self._tracer.start_span(details.type_name, context, SpanKind.CLIENT, attributes, links)
        own = self._carry(span, context, details.carrier)
        token = None if details.in_batch else contexts.attach(own)

        def told(result: CatgaResult[Any]) -> None:
            if token is not None:
                contexts.detach(token)
            self._end(span, result, rpc=True)

        return told

    def on_handle(self, details: HandleDetails) -> Told:
        """Begin the span of a handler, or of the subscribers of an event."""
        call = details.call
        attributes: dict[str, Any] = {"catga.request_id": call.request_id}
        if call.node_id is not None:
            attributes["catga.node_id"] = call.node_id
        if details.received:
            kind, name = SpanKind.SERVER, details.type_name
            attributes |= {"rpc.system.name": _SYSTEM, "rpc.method": details.type_name}
            if call.source_node_id is not None:
                attributes["catga.source_node_id"] = call.source_node_id
            if details.queue_ms is not None:
                attributes["catga.queue_ms"] = details.queue_ms
            context, links = self._context_of_received(call)
        else:
            kind, name = SpanKind.INTERNAL, f"handle {details.type_name}"
            attributes |= {"catga.message_type": details.type_name, "catga.way": "local"}
            context, links = self._context_of_part(call), ()
        span = self._tracer.start_span(name, context, kind, attributes, links)
        token = contexts.attach(self._carry(span, context, details.carrier))

        def told(result: CatgaResult[Any]) -> None:
            contexts.detach(token)
            self._end(span, result, rpc=details.received)

        return told

    def _context_of_send(self, call: CallContext) -> Context:
        """Return the context of a send: under the current span, else in the trace that its call came with."""
        context = contexts.get_current()
        if trace.get_current_span(context).get_span_context().is_valid or call.traceparent is None:
            return context
        return self._extracted(call, context)

    def _context_of_part(self, call: CallContext) -> Context:
        """Return the context of an attempt, or of a handler in the process that sends."""
        item = self._items.get(call.request_id)
        if item is not None:
            return item
        context = contexts.get_current()
        if trace.get_current_span(context).get_span_context().is_valid:
            return context
        # A publish or a broadcast outside any span: its parts have no parent in common but the trace of their call.
        return context if call.node_id is None and call.traceparent is None else self._extracted(call, context)

    def _context_of_received(self, call: CallContext) -> tuple[Context, tuple[Link, ...]]:
        """Return the context of a received call, and its links; see the class."""
        here = contexts.get_current()
        sent = self._extracted(call, here)
        current, caller = (trace.get_current_span(each).get_span_context() for each in (here, sent))
        if not current.is_valid or current.span_id == caller.span_id:
            return sent, ()
        if current.trace_id != caller.trace_id:
            return sent, (Link(current),)
        return trace.set_span_in_context(trace.get_current_span(here), sent), (Link(caller),)

    def _extracted(self, call: CallContext, context: Context) -> Context:
        """Return the context with the trace and the baggage of a call."""
        traceparent, tracestate = call.trace()
        carrier = {"traceparent": traceparent, "tracestate": tracestate, "baggage": call.baggage}
        return self._propagator.extract({name: value for name, value in carrier.items() if value is not None}, context)

    def _links(self, carrier: Mapping[str, str]) -> tuple[Link, ...]:
        """Return a link to the span in a carrier; none where there is no span in it."""
        there = self._propagator.extract(carrier, Context())
        found = trace.get_current_span(there).get_span_context()
        return (Link(found),) if found.is_valid else ()

    def _carry(self, span: Span, context: Context, carrier: dict[str, str]) -> Context:
        """Return the context with a span in it, and write into a carrier what is to travel."""
        own = trace.set_span_in_context(span, context)
        self._propagator.inject(carrier, own)
        if self._carries_baggage:
            carrier.setdefault("baggage", "")  # what the user has taken out of the context travels no further
        return own

    def _end(self, span: Span, result: CatgaResult[Any], *, rpc: bool = False) -> None:
        if span.is_recording():
            code = "OK" if result.is_success else "_OTHER" if result.code is None else _utf8(str(result.code))
            if rpc:
                span.set_attribute("rpc.status_code", code)
            span.set_attribute("catga.delivery", result.delivery.value)
            for name in _TIMES:
                value = result.metadata.get(name)
                if isinstance(value, (int, float)):
                    span.set_attribute(f"catga.{name}", value)
            if not result.is_success:
                span.set_attribute("error.type", code)
                span.set_status(StatusCode.ERROR, _utf8(f"{code}: {result.error}"))
        span.end()


def _utf8(text: str) -> str:
    """Return a text without half surrogate pairs: an exporter would fail on them, and on all spans of its batch."""
    return text.encode("utf-8", "replace").decode("utf-8")


@functools.lru_cache(maxsize=1024)
def _address(endpoint: str | None) -> Mapping[str, str | int]:
    """Return the attributes for the address of a node."""
    try:
        parts = urlsplit(endpoint or "")
        host, port = parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return {}
    if host is None:
        return {}
    return {"server.address": host} if port is None else {"server.address": host, "server.port": port}

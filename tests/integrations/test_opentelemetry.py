"""OpenTelemetry over real nodes: one trace through all of them, its parents, attributes, links and baggage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from catga_sync import BusinessError, ClusterMediator, Mediator
from catga_sync.context import current_call
from tests.conftest import require_module

require_module("opentelemetry.sdk")

from opentelemetry import baggage, context, trace  # noqa: E402 - optional
from opentelemetry.sdk.trace import ReadableSpan  # noqa: E402 - optional
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402 - optional
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: E402 - optional

from catga_sync.observability.opentelemetry import OpenTelemetryHook  # noqa: E402 - optional
from tests.integrations.traced import Ask, Happened, Order, Traced, Worlds, node, pure_client, short  # noqa: E402


class Seen:
    """What the handlers found around them, by node."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Any]] = {}
        self.spans: dict[str, list[Any]] = {}
        self.baggage: dict[str, list[Any]] = {}

    def note(self, name: str) -> None:
        self.calls.setdefault(name, []).append(current_call())
        self.spans.setdefault(name, []).append(trace.get_current_span().get_span_context())
        self.baggage.setdefault(name, []).append(dict(baggage.get_all()))


def asked(name: str, seen: Seen) -> Mediator:
    """Return the handlers of a node that answers ``Ask``, and is told of ``Happened``."""
    local = Mediator()

    @local.handler
    def ask(query: Ask) -> str:
        seen.note(name)
        if query.item == "refuse":
            raise BusinessError("none left", code="SOLD_OUT")
        if query.item == "crash":
            raise ValueError("a secret")
        return f"{query.item} from {name}"

    @local.subscriber
    def happened(event: Happened) -> None:
        seen.note(name)

    return local


class Cluster:
    """A client, b which passes orders on, and c1 and c2 which answer what b asks."""

    def __init__(self, worlds: Worlds, seen: Seen) -> None:
        self.worlds = worlds
        self.seen = seen

    def __getitem__(self, name: str) -> Traced:
        return self.worlds.nodes[name]

    @property
    def client(self) -> ClusterMediator:
        return self["client"].mediator

    def trace(self) -> list[ReadableSpan]:
        """Return the spans, which all belong to one trace, in the order in which they began."""
        spans = self.worlds.spans()
        assert len({span.context.trace_id for span in spans}) == 1, short(spans)
        return spans


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    worlds, seen = Worlds(), Seen()
    orders = Mediator()

    @orders.handler
    def order(request: Order) -> str:
        seen.note("b")
        return worlds.nodes["b"].mediator.send(Ask(request.item)).unwrap()

    with contextlib.ExitStack() as stack:
        stack.enter_context(node(worlds, "b", orders))
        stack.enter_context(node(worlds, "c1", asked("c1", seen)))
        stack.enter_context(node(worlds, "c2", asked("c2", seen)))
        stack.enter_context(pure_client(worlds, "client"))
        worlds.see_each_other()
        yield Cluster(worlds, seen)


def parents(spans: Sequence[ReadableSpan]) -> dict[str, str | None]:
    """Return the parent of each span, in the words of ``short``; each of them stands for one span."""
    names = {span.context.span_id: name for span, name in zip(spans, short(spans), strict=True)}
    assert len(set(names.values())) == len(spans), names
    return {names[span.context.span_id]: names[span.parent.span_id] if span.parent else None for span in spans}


def one(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = [span for span, given in zip(spans, short(spans), strict=True) if given == name]
    return found


def test_a_call_through_three_nodes_is_one_trace_in_order_with_the_attempt_that_failed_over(cluster: Cluster) -> None:
    cluster["c1"].stop()
    assert cluster.client.send(Order("tea")).unwrap() == "tea from c2"
    spans = cluster.trace()
    assert short(spans) == [
        "client INTERNAL send otel.Order",
        "client CLIENT otel.Order",
        "b SERVER otel.Order",
        "b INTERNAL send otel.Ask",
        "b CLIENT otel.Ask",
        "b CLIENT otel.Ask",
        "c2 SERVER otel.Ask",
    ]
    ids = [span.context.span_id for span in spans]
    assert [span.parent and span.parent.span_id for span in spans] == [
        None,
        ids[0],
        ids[1],
        ids[2],
        ids[3],
        ids[3],
        ids[5],
    ]
    failed, took_over = spans[4:6]
    assert failed.status.status_code is StatusCode.ERROR
    attributes = dict(failed.attributes or {})
    assert attributes.pop("catga.place_ms", 0.0) >= 0.0
    assert attributes == {
        "rpc.system.name": "catga",
        "rpc.method": "otel.Ask",
        "rpc.status_code": "UNAVAILABLE",
        "error.type": "UNAVAILABLE",
        "server.address": "127.0.0.1",
        "server.port": int((cluster["c1"].mediator.node.endpoint or "").rpartition(":")[2]),
        "catga.node_id": "c1",
        "catga.way": "post",
        "catga.delivery": "NOT_EXECUTED",
        "catga.request_id": (took_over.attributes or {})["catga.request_id"],
    }
    assert took_over.status.status_code is StatusCode.UNSET
    assert (took_over.attributes or {})["rpc.status_code"] == "OK"
    assert (spans[3].attributes or {})["catga.attempts"] == 2
    assert (spans[3].attributes or {})["catga.node_id"] == "c2"


def test_the_span_of_a_handler_is_current_while_it_runs_and_its_call_has_the_same_ids(cluster: Cluster) -> None:
    result = cluster.client.send(Order("tea"))
    spans = cluster.trace()
    for name, type_name in (("b", "otel.Order"), ("c1", "otel.Ask")):
        served = one(spans, f"{name} SERVER {type_name}")
        (current,), (call,) = cluster.seen.spans[name], cluster.seen.calls[name]
        assert (current.trace_id, current.span_id) == (served.context.trace_id, served.context.span_id)
        assert (int(call.trace_id, 16), int(call.span_id, 16)) == (served.context.trace_id, served.context.span_id)
        assert call.node_id == name
    attributes = one(spans, "b SERVER otel.Order").attributes or {}
    assert attributes["catga.request_id"] == result.request_id
    assert attributes["catga.source_node_id"] == "client"
    assert attributes["catga.node_id"] == "b"
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_send_within_a_span_of_the_user_is_its_child(cluster: Cluster) -> None:
    with cluster["client"].provider.get_tracer("tests").start_as_current_span("GET /orders"):
        cluster.client.send(Order("tea"))
        cluster.client.publish(Happened("tea"))
        cluster.client.broadcast(Ask("tea"))
    spans = cluster.trace()
    top = one(spans, "client INTERNAL GET /orders")
    beneath = [span for span in spans if span.parent is not None and span.parent.span_id == top.context.span_id]
    assert sorted(short(beneath)) == [
        "client CLIENT otel.Ask",
        "client CLIENT otel.Ask",
        "client CLIENT otel.Happened",
        "client CLIENT otel.Happened",
        "client INTERNAL send otel.Order",
    ]


def test_the_subscribers_of_an_event_are_in_one_trace_without_any_span_around(cluster: Cluster) -> None:
    assert sorted(cluster.client.publish(Happened("tea"))) == ["c1", "c2"]
    spans = cluster.trace()
    assert sorted(short(spans)) == [
        "c1 SERVER otel.Happened",
        "c2 SERVER otel.Happened",
        "client CLIENT otel.Happened",
        "client CLIENT otel.Happened",
    ]
    sent = {
        (span.attributes or {})["catga.node_id"]: span.context.span_id for span in spans if span.kind is SpanKind.CLIENT
    }
    for span in spans:
        if span.kind is SpanKind.SERVER:
            assert span.parent is not None
            assert span.parent.span_id == sent[span.resource.attributes["service.name"]]


def test_each_item_of_a_batch_has_its_own_spans_and_is_linked_with_the_first_of_its_exchange(cluster: Cluster) -> None:
    results = cluster.client.send_batch([Ask("a"), Ask("b"), Ask("c")])
    assert all(results)
    spans = cluster.trace()
    of = {result.request_id: number for number, result in enumerate(results)}
    kinds: dict[SpanKind, dict[int, ReadableSpan]] = {}
    for span in spans:
        kinds.setdefault(span.kind, {})[of[str((span.attributes or {})["catga.request_id"])]] = span
    layers = (SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.SERVER)
    assert {kind: sorted(each) for kind, each in kinds.items()} == {kind: [0, 1, 2] for kind in layers}
    first = kinds[SpanKind.CLIENT][0].context.span_id
    for number in range(3):
        sent, attempt, served = (kinds[kind][number] for kind in layers)
        assert attempt.parent is not None
        assert attempt.parent.span_id == sent.context.span_id
        assert served.parent is not None
        assert served.parent.span_id == attempt.context.span_id
        assert [link.context.span_id for link in attempt.links] == ([first] if number else [])


def test_a_batch_fails_over_item_by_item_in_its_trace(cluster: Cluster) -> None:
    cluster["c1"].stop()
    assert all(cluster.client.send_batch([Ask("a"), Ask("b")]))
    spans = cluster.trace()
    ends = [(span.attributes or {})["rpc.status_code"] for span in spans if span.kind is SpanKind.CLIENT]
    assert ends == ["UNAVAILABLE", "UNAVAILABLE", "OK", "OK"]


@pytest.mark.parametrize(
    ("item", "code", "text"), [("refuse", "SOLD_OUT", "none left"), ("crash", "UNKNOWN", "raised")]
)
def test_a_failure_is_the_status_of_its_spans_and_no_exception_is_in_them(
    cluster: Cluster, item: str, code: str, text: str
) -> None:
    assert not cluster.client.send(Ask(item))
    for span in cluster.trace():
        assert span.status.status_code is StatusCode.ERROR
        assert (span.status.description or "").startswith(f"{code}: ")
        assert text in (span.status.description or "")
        assert (span.attributes or {})["error.type"] == code
        assert "a secret" not in span.to_json()
        assert span.events == ()


def test_baggage_travels_through_every_node_and_what_is_taken_away_does_not(cluster: Cluster) -> None:
    token = context.attach(baggage.set_baggage("tenant", "Ä 7"))
    try:
        cluster.client.send(Order("tea"))
        cluster.client.publish(Happened("tea"))
        cluster.client.send_batch([Ask("a"), Ask("b")])
    finally:
        context.detach(token)
    found = [each for name in ("b", "c1", "c2") for each in cluster.seen.baggage[name]]
    assert found == [{"tenant": "Ä 7"}] * len(found)
    assert len(found) == 6
    assert {call.baggage for call in cluster.seen.calls["c1"]} == {"tenant=%C3%84+7"}


def test_a_send_from_a_local_handler_and_the_handler_itself_are_children_of_the_send(cluster: Cluster) -> None:
    c1 = cluster["c1"].mediator
    assert c1.send(Ask("tea")).unwrap() == "tea from c1"
    assert parents(cluster.trace()) == {
        "c1 INTERNAL send otel.Ask": None,
        "c1 INTERNAL handle otel.Ask": "c1 INTERNAL send otel.Ask",
    }


def test_the_items_of_a_batch_that_run_here_are_children_of_their_own_sends(cluster: Cluster) -> None:
    results = cluster["c1"].mediator.send_batch([Ask("a"), Ask("b")])
    spans = cluster.trace()
    of = {(span.name, (span.attributes or {})["catga.request_id"]): span for span in spans}
    for result in results:
        sent, handled = (of[f"{word} otel.Ask", result.request_id] for word in ("send", "handle"))
        assert handled.parent is not None
        assert handled.parent.span_id == sent.context.span_id
    assert len(spans) == 4


def test_the_subscribers_here_are_in_the_trace_of_those_elsewhere(cluster: Cluster) -> None:
    assert sorted(cluster["c1"].mediator.publish(Happened("tea"))) == ["c1", "c2"]
    assert sorted(short(cluster.trace())) == [
        "c1 CLIENT otel.Happened",
        "c1 INTERNAL handle otel.Happened",
        "c2 SERVER otel.Happened",
    ]


def test_a_local_mediator_has_spans_too(cluster: Cluster) -> None:
    traced, local = cluster["client"], asked("local", Seen())
    local.add_hook(OpenTelemetryHook(traced.provider))
    with traced.provider.get_tracer("tests").start_as_current_span("page"):
        assert local.send(Ask("tea")).is_success
    assert parents(cluster.trace()) == {
        "client INTERNAL page": None,
        "client INTERNAL send otel.Ask": "client INTERNAL page",
        "client INTERNAL handle otel.Ask": "client INTERNAL send otel.Ask",
    }


def test_without_an_sdk_traces_are_carried_on_as_without_the_hook(cluster: Cluster) -> None:
    plain = Worlds(cluster.worlds.cluster_name)
    with pure_client(plain, "plain") as client:
        client.mediator._hooks.send.clear()
        client.mediator._hooks.attempt.clear()
        client.mediator.add_hook(OpenTelemetryHook(trace.NoOpTracerProvider()))
        result = client.mediator.send(Ask("tea"))
    assert client.spans == ()
    (served,) = cluster["c1"].spans
    assert served.context.trace_id == int(result.request_id, 16)
    assert served.parent is not None
    assert served.parent.span_id == int(result.request_id[16:], 16)


def instrumented(trusting: bool) -> Any:
    """Return what instrumentation of WSGI puts around an app: a span for each POST, in the trace that came or not."""

    def around(app: Any, made: Traced) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            came = {"traceparent": environ.get("HTTP_TRACEPARENT", "")}
            there = TraceContextTextMapPropagator().extract(came, context.Context()) if trusting else context.Context()
            tracer = made.provider.get_tracer("wsgi")
            with tracer.start_as_current_span(environ["REQUEST_METHOD"], there, SpanKind.SERVER):
                return app(environ, start_response)

        return serve

    return around


@pytest.mark.parametrize("trusting", [True, False], ids=["of the same trace", "of another trace"])
def test_a_span_that_instrumentation_has_made_for_the_post_is_the_parent_if_it_is_of_the_trace(trusting: bool) -> None:
    worlds = Worlds()
    with node(worlds, "c1", asked("c1", Seen()), instrumented(trusting)), pure_client(worlds, "client") as client:
        worlds.see_each_other()
        assert all(client.mediator.send_batch([Ask("a"), Ask("b")]))
        (post,) = [span for span in worlds.nodes["c1"].spans if span.name == "POST"]
        served = [span for span in worlds.nodes["c1"].spans if span.name == "otel.Ask"]
        attempts = [span.context.span_id for span in client.spans if span.kind is SpanKind.CLIENT]
    links = [[link.context.span_id for link in span.links] for span in served]
    above = [span.parent and span.parent.span_id for span in served]
    if trusting:
        assert above == [post.context.span_id] * 2
        assert links == [[attempts[0]], [attempts[1]]]
    else:
        assert above == attempts
        assert links == [[post.context.span_id]] * 2


def test_a_failing_propagator_reaches_no_call(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        fields = frozenset({"traceparent"})

        def inject(self, *args: object, **named: object) -> None:
            raise RuntimeError("no")

    cluster.client.add_hook(OpenTelemetryHook(trace.NoOpTracerProvider(), Broken()))  # type: ignore[arg-type]
    result = cluster.client.send(Ask("tea"))
    assert result.unwrap() == "tea from c1"
    assert "OpenTelemetryHook.on_send failed" in caplog.text
    assert not trace.get_current_span().get_span_context().is_valid

"""The hook for Prometheus: what it counts, how it names it, and that no label value is without a bound."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterNode, Delivery, ErrorCode, Event, Mediator, Query, create_cluster
from catga_sync.cluster.events import ClusterEvent, EventKind
from catga_sync.context import CallContext
from catga_sync.hooks import HandleDetails, ServedDetails
from tests.conftest import require_module
from tests.processes import run
from tests.unit.cluster.fakes import FakeInvoker
from tests.unit.serving import three_ways

require_module("prometheus_client")

from prometheus_client import CollectorRegistry, Histogram, generate_latest  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from catga_sync.observability._metrics import OTHER, Bounded, Metrics  # noqa: E402
from catga_sync.observability._values import BUCKETS  # noqa: E402
from catga_sync.observability.prometheus import PrometheusHook, metrics_app, metrics_blueprint  # noqa: E402


@dataclass(frozen=True)
class Ask(Query[int]):
    number: int


@dataclass(frozen=True)
class Asked(Event):
    pass


@dataclass(frozen=True)
class Price:
    cents: int


@dataclass(frozen=True)
class Look(Query[list[Price]]):
    """A query whose response may be no list, or a list of something else."""

    what: str


ASK, LOOK = (f"{__name__}.{cls.__name__}" for cls in (Ask, Look))


class Counted:
    """A hook with a registry of its own, and what that has."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.hook = PrometheusHook(self.registry)

    def __getitem__(self, name: str) -> dict[tuple[str, ...], float]:
        """Return label values, in the order of the names of the labels -> value."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(generate_latest(self.registry).decode())
            for sample in family.samples
            if sample.name == name and sample.value
        }


@pytest.fixture
def counted() -> Counted:
    return Counted()


def over(hook: PrometheusHook, *, local: Mediator | None = None, **answers: Any) -> Any:
    peers = {name: {"url": f"http://{name}:1", "handles": [ASK]} for name in answers}
    return create_cluster(
        local or Mediator(),
        node_id="caller",
        discovery="static",
        peers=peers,
        invoker=FakeInvoker(**answers),
        retry_delay=0.0,
        insecure=True,
        hooks=[hook],
    )


def failing(code: Any, delivery: Delivery = Delivery.EXECUTED) -> Callable[[Any], CatgaResult[Any]]:
    return lambda _: CatgaResult.failure("no", code, delivery=delivery)


@pytest.mark.parametrize(
    ("answer", "code", "delivery"),
    [
        (1, "OK", "EXECUTED"),
        (failing("SOLD_OUT"), "SOLD_OUT", "EXECUTED"),
        (failing(None), "NONE", "EXECUTED"),
        (failing("OK"), "other", "EXECUTED"),
        (failing(ErrorCode.NOT_FOUND), "NOT_FOUND", "EXECUTED"),
        (failing(ErrorCode.DEADLINE_EXCEEDED, Delivery.UNKNOWN), "DEADLINE_EXCEEDED", "UNKNOWN"),
        (failing(ErrorCode.PERMISSION_DENIED, Delivery.NOT_EXECUTED), "PERMISSION_DENIED", "NOT_EXECUTED"),
        (failing("\ud800" + "x" * 999), "?" + "x" * 127, "EXECUTED"),
    ],
)
def test_each_outcome_of_a_send_is_counted_once(answer: Any, code: str, delivery: str, counted: Counted):
    with over(counted.hook, a=answer) as mediator:
        mediator.send(Ask(1))
    assert counted["catga_sends_total"] == {(code, delivery, ASK): 1}
    assert counted["catga_attempts_total"] == {(code, delivery, "a", ASK, "post"): 1}
    assert counted["catga_send_seconds_count"] == {(ASK,): 1}
    assert counted["catga_attempt_seconds_count"] == {(ASK, "post"): 1}
    assert counted["catga_place_seconds_count"] == {("post",): 1}
    assert counted["catga_sends_in_flight"] == {}
    assert counted["catga_retries_total"] == {}


def test_what_an_invoker_has_measured_is_counted_as_far_as_it_is_a_number(counted: Counted):
    odd = {"place_ms": 9.0, "wire_ms": "soon", "backlog_ms": 10**400, "sent_bytes": 20, "received_bytes": [10]}
    answers = [CatgaResult.success(1, metadata={**odd, "wire_ms": 2.0, "backlog_ms": 0.0, "received_bytes": 10})]
    answers += [CatgaResult.success(1, metadata=odd), CatgaResult.success(1, metadata={"wire_ms": 4.0})]
    with over(counted.hook, a=lambda _: answers.pop(0)) as mediator:
        for _ in range(3):
            mediator.send(Ask(1)).unwrap()
    assert counted["catga_attempts_total"] == {("OK", "EXECUTED", "a", ASK, "post"): 3}
    assert counted["catga_place_seconds_count"] == {("post",): 3}
    assert counted["catga_wire_seconds_count"] == {("post",): 2}
    assert counted["catga_wire_seconds_sum"] == {("post",): 0.006}
    assert counted["catga_backlog_seconds_count"] == {("post",): 1}
    assert counted["catga_bytes_total"] == {("in", "client"): 10, ("out", "client"): 40}


def test_a_handler_that_runs_has_waited(counted: Counted):
    told = counted.hook.on_handle(HandleDetails("x", CallContext("r-1"), True, 4_000.0, {}))
    assert counted["catga_queue_seconds_sum"] == {(): 4.0}
    told(CatgaResult.success(1))
    assert counted["catga_queue_seconds_count"] == {(): 1}
    assert counted["catga_handled_total"] == {("OK", "remote", "x"): 1}


def test_further_attempts_are_retries(counted: Counted):
    answers = [failing(ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)(None), CatgaResult.success(5)]
    with over(counted.hook, a=lambda _: answers.pop(0), b=lambda _: answers.pop(0)) as mediator:
        mediator.send(Ask(1))
    assert counted["catga_retries_total"] == {(ASK,): 1}
    assert sum(counted["catga_attempts_total"].values()) == 2
    assert counted["catga_sends_total"] == {("OK", "EXECUTED", ASK): 1}


def test_what_runs_at_once_is_in_flight(counted: Counted):
    seen = []
    local = Mediator()

    def handle(request: Ask) -> int:
        seen.append((counted["catga_sends_in_flight"], counted["catga_handlers_in_flight"]))
        return request.number

    local.register(Ask, handle)
    with over(counted.hook, local=local, a=1) as mediator:
        mediator.send(Ask(1))
    assert seen == [({(): 1}, {(): 1})]
    assert counted["catga_handlers_in_flight"] == {}
    assert counted["catga_handled_total"] == {("OK", "local", ASK): 1}
    assert counted["catga_attempts_total"] == {("OK", "EXECUTED", "caller", ASK, "local"): 1}
    # A local call has waited for no slot, and no wire.
    assert counted["catga_place_seconds_count"] == {}


def test_the_time_of_a_handler_and_of_subscribers_is_that_of_their_result(counted: Counted):
    local = Mediator()
    local.register(Ask, lambda request: request.number)
    local.subscribe(Asked, lambda event: None)
    with over(counted.hook, local=local) as mediator:
        asked = mediator.local.send(Ask(1))
        told = mediator.publish(Asked())["caller"]
    assert (asked.node_id, told.node_id) == (None, "caller")
    seconds = counted["catga_handler_seconds_sum"]
    assert seconds == {
        (ASK,): asked.processing_time_ms / 1e3,
        (f"{__name__}.Asked",): told.processing_time_ms / 1e3,
    }
    assert min(seconds.values()) > 0.0


@pytest.mark.parametrize(
    ("response", "code"),
    [([Price(1)], "OK"), (Price(1), "INTERNAL"), (["1"], "INTERNAL"), ([Price("1")], "INTERNAL")],  # type: ignore[arg-type]
    ids=["that fits", "of another class", "with a wrong item", "with a wrong field"],
)
def test_a_response_is_counted_as_its_caller_gets_it_whoever_calls(response: Any, code: str, counted: Counted):
    local = Mediator()
    local.register(Look, lambda request: response)
    local.add_hook(counted.hook)
    with three_ways(local) as ways:
        for mediator in ways.values():
            assert mediator.send(Look("a")).code == (None if code == "OK" else code)
            assert mediator.send_batch([Look("a")])[0].code == (None if code == "OK" else code)
    # Two are sent by the mediator itself and two by its node; two come from each of two other nodes.
    assert counted["catga_handled_total"] == {(code, "local", LOOK): 4, (code, "remote", LOOK): 4}
    assert counted["catga_handler_seconds_count"] == {(LOOK,): 8}


def test_an_exchange_is_counted_with_its_refusals(counted: Counted):
    counted.hook.on_served(ServedDetails("batch", "post", 200, ("expired", "expired", "unreadable"), 2, 10, 30, 0.1))
    assert counted["catga_served_total"] == {("batch", "200", "post"): 1}
    assert counted["catga_refusals_total"] == {("expired",): 2, ("unreadable",): 1}
    assert counted["catga_replayed_total"] == {(): 2}
    assert counted["catga_bytes_total"] == {("in", "server"): 10, ("out", "server"): 30}
    assert counted["catga_served_seconds_count"] == {("batch",): 1}


def test_what_is_counted_of_a_node_begins_with_0_when_it_joins(counted: Counted):
    counted.hook.on_event(ClusterEvent(EventKind.NODE_JOINED, ClusterNode("new", "http://new:1")))
    page = generate_latest(counted.registry).decode()
    for name in ("catga_ejections_total", "catga_heartbeats_missed_total"):
        assert f'{name}{{node="new"}} 0.0' in page


def test_events_are_counted_and_a_node_that_has_left_is_forgotten(counted: Counted):
    left, stays = ClusterNode("left", "http://left:1"), ClusterNode("stays", "http://stays:1")
    with over(counted.hook, left=1) as mediator:
        mediator.send(Ask(1))
        for kind in (EventKind.NODE_FAULTED, EventKind.NODE_SUSPECTED):
            counted.hook.on_event(ClusterEvent(kind, left))
            counted.hook.on_event(ClusterEvent(kind, stays))
        assert counted["catga_ejections_total"] == {("left",): 1, ("stays",): 1}
        counted.hook.on_event(ClusterEvent(EventKind.NODE_LEFT, left))
        assert counted["catga_attempts_total"] == {}
        assert counted["catga_ejections_total"] == {("stays",): 1}
        assert counted["catga_heartbeats_missed_total"] == {("stays",): 1}
        mediator.send(Ask(1))  # one was under way, or the node is back
    assert sum(counted["catga_attempts_total"].values()) == 1
    # The node of this cluster has joined, and the others above.
    assert counted["catga_node_events_total"] == {
        ("NODE_FAULTED",): 2,
        ("NODE_JOINED",): 1,
        ("NODE_LEFT",): 1,
        ("NODE_SUSPECTED",): 2,
    }


def test_a_used_up_budget_is_counted(counted: Counted):
    no = failing(ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    with over(counted.hook, a=no, b=no) as mediator:
        results = [mediator.send(Ask(1)) for _ in range(80)]
    (exhausted,) = counted["catga_retry_budget_exhausted_total"].values()
    short = sum(len(result.attempts) < 3 for result in results)
    assert exhausted == short > 0
    assert sum(counted["catga_retries_total"].values()) == sum(len(result.attempts) - 1 for result in results)


def test_times_are_in_the_buckets_in_which_prometheus_client_has_them():
    own, theirs = CollectorRegistry(), CollectorRegistry()
    metrics = Metrics(own)
    histogram = Histogram("catga_send_seconds", "", ["type"], registry=theirs, buckets=BUCKETS)
    for seconds in (-1.0, 0.0, *BUCKETS, *(end * 1.0001 for end in BUCKETS), 1e9):
        metrics.sends["a", "OK", "EXECUTED"](seconds)
        histogram.labels("a").observe(seconds)
    assert generate_latest(theirs).decode().count("catga_send_seconds_bucket") == len(BUCKETS) + 1
    for sample in (sample for family in theirs.collect() for sample in family.samples):
        if not sample.name.endswith("_created"):
            assert own.get_sample_value(sample.name, sample.labels) == sample.value, sample


def total(page: str, name: str) -> float:
    families = text_string_to_metric_families(page)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def test_no_count_of_many_threads_is_lost():
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    start = threading.Barrier(8)

    def count() -> None:
        start.wait()
        for number in range(2_000):
            metrics.sends_in_flight.inc(1)
            metrics.sends["t", "OK", str(number % 7)](0.3)
            metrics.sends_in_flight.dec()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        # Of one moment: an outcome is in both metrics or in none.
        page = generate_latest(registry).decode()
        assert total(page, "catga_sends_total") == total(page, "catga_send_seconds_count")
    for thread in threads:
        thread.join()
    samples = {(each.name, *each.labels.values()): each.value for it in registry.collect() for each in it.samples}
    assert sum(value for (name, *_), value in samples.items() if name == "catga_sends_total") == 16_000
    assert samples["catga_send_seconds_count", "t"] == samples["catga_send_seconds_bucket", "t", "0.5"] == 16_000
    assert samples["catga_send_seconds_bucket", "t", "0.25"] == samples["catga_sends_in_flight",] == 0


def test_texts_beyond_the_bound_are_other():
    bounded = Bounded(2, "OK")
    assert [bounded[text] for text in ("OK", "a", "b", "c", "a", "b")] == ["other", "a", "b", "other", "a", "b"]
    bounded.drop("a")
    bounded.drop("a")
    assert [bounded[text] for text in ("c", "d")] == ["c", "other"]


def test_codes_of_the_application_have_a_bound(counted: Counted):
    numbers = iter(range(1_000))
    with over(counted.hook, a=lambda _: CatgaResult.failure("no", f"CODE_{next(numbers)}")) as mediator:
        for _ in range(60):
            mediator.send(Ask(1))
    found = counted["catga_sends_total"]
    assert len(found) == 51
    assert found["other", "EXECUTED", ASK] == 10


def test_two_hooks_of_one_registry_count_together(counted: Counted):
    again = PrometheusHook(counted.registry)
    with over(counted.hook, a=1) as first, over(again, a=1) as second:
        first.send(Ask(1))
        second.send(Ask(1))
    assert counted["catga_sends_total"] == {("OK", "EXECUTED", ASK): 2}


def test_no_label_has_an_id_of_a_request(counted: Counted):
    with over(counted.hook, a=1) as mediator:
        ids = [mediator.send(Ask(1)).request_id for _ in range(3)]
    page = generate_latest(counted.registry).decode()
    assert not [request_id for request_id in ids if request_id in page]


# -- pages -------------------------------------------------------------------------------------------------------------


def get(app: Any, **environ: str) -> tuple[str, dict[str, str], bytes]:
    said: list[Any] = []
    body = b"".join(
        app({"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", **environ}, lambda *given: said.extend(given))
    )
    return said[0], dict(said[1]), body


def test_the_page_has_the_nodes_as_they_are_now(counted: Counted):
    with over(counted.hook, a=1, b=1) as mediator:
        mediator.send(Ask(1))
        status, headers, page = get(metrics_app(counted.registry))
        assert status == "200 OK"
        assert headers["Content-Type"].startswith("text/plain")
        assert int(headers["Content-Length"]) == len(page)
        assert b'catga_nodes{status="ONLINE"} 2.0' in page


def test_a_mediator_that_is_gone_is_not_kept(counted: Counted):
    with over(counted.hook, a=1) as mediator:
        there = weakref.ref(mediator)
    del mediator
    gc.collect()
    assert there() is None
    assert get(metrics_app(counted.registry))[0] == "200 OK"


def test_the_client_chooses_the_format(counted: Counted):
    _, headers, page = get(metrics_app(counted.registry), HTTP_ACCEPT="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


def test_other_methods_are_refused(counted: Counted):
    status, headers, page = get(metrics_app(counted.registry), REQUEST_METHOD="POST")
    assert (status, headers["Allow"], page) == ("405 Method Not Allowed", "GET, HEAD", b"")
    status, headers, page = get(metrics_app(counted.registry), REQUEST_METHOD="HEAD")
    assert (status, page) == ("200 OK", b"")
    assert int(headers["Content-Length"]) > 0


def test_flask_serves_the_same_page(counted: Counted):
    from flask import Flask

    app = Flask(__name__)
    app.register_blueprint(metrics_blueprint(counted.registry))
    with over(counted.hook, a=1) as mediator:
        mediator.send(Ask(1))
        response = app.test_client().get("/metrics")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=")
    assert b"catga_sends_total{" in response.data


_DJANGO = """
from django.conf import settings

settings.configure(ALLOWED_HOSTS=["testserver"])
from django.test import RequestFactory

from catga_sync.observability.prometheus import PrometheusHook, metrics_view

PrometheusHook()
page = metrics_view(RequestFactory().get("/metrics"))
print(page.status_code, page["Content-Type"].split(";")[0], b"catga_sends_in_flight 0.0" in page.content)
print(metrics_view(RequestFactory().post("/metrics")).status_code)
"""


def test_django_serves_the_default_registry():
    require_module("django")
    # In a process of its own: where Django is set up, each call gets what Django puts around a request.
    done = run("-W", "error", "-c", _DJANGO)
    assert done.stdout.split() == ["200", "text/plain", "True", "405"], done.stderr


def test_the_gauges_of_an_ended_worker_are_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    require_module("gunicorn")
    from catga_sync.integrations.gunicorn import child_exit

    names = [f"{kind}_{pid}.db" for pid in (7, 8) for kind in ("counter", "histogram", "gauge_livesum")]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    child_exit(None, SimpleNamespace(pid=7))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    child_exit(None, SimpleNamespace(pid=7))
    names.remove("gauge_livesum_7.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_node_that_left_during_an_attempt_has_no_label_of_its_own_any_more() -> None:
    bounded = Bounded(1)
    assert (bounded["a"], bounded.get("a"), bounded["b"]) == ("a", "a", "other")
    assert (bounded.drop("b"), bounded.drop("a")) == (None, "a")
    assert bounded.get("a", OTHER) == OTHER


def test_the_times_of_attempts_outlive_the_labels_of_a_node_that_leaves() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for _ in range(5):
        metrics.attempts["t", "n1", "post", "OK", "EXECUTED"]((0.5, 1.0, 2.0, 0.0, 20, 10))
    metrics.forget_node("n1")
    page = generate_latest(registry).decode()
    assert (total(page, "catga_attempts_total"), total(page, "catga_attempt_seconds_count")) == (0, 5)


_FORKS = """
import os
import signal
from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from catga_sync.observability._metrics import Metrics

registry = CollectorRegistry()
metrics = Metrics(registry)
values = metrics.retries._metric._values

def count(amounts, per=1.0):
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        metrics.sends["t", "OK", "EXECUTED"](0.3)
        print(registry.get_sample_value("catga_send_seconds_sum", {"type": "t"}), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)

with values.lock:
    values.settle_locked(SimpleNamespace(noted=[1.0], count=count))
"""


def test_a_child_counts_though_its_parent_was_counting_when_it_forked():
    done = run("-W", "error", "-c", _FORKS)
    assert done.stdout.split() == ["0.3"], done.stderr


def test_a_signal_handler_may_count_and_read_a_page_while_its_thread_counts():
    registry = CollectorRegistry()
    sends = Metrics(registry).sends["t", "OK", "EXECUTED"]

    class Interrupted(float):
        """Seconds that are interrupted while they are added to others."""

        def __radd__(self, other: float) -> float:
            for _ in range(200):
                sends(0.25)
            generate_latest(registry)
            return other + float(self)

    sends(Interrupted(0.25))
    generate_latest(registry)
    page = generate_latest(registry).decode()
    assert total(page, "catga_sends_total") == total(page, "catga_send_seconds_count") == 201
    assert total(page, "catga_send_seconds_sum") == 201 * 0.25

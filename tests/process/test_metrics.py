"""What ``/metrics`` of a node with four workers says after thousands of calls: exactly what its callers counted."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode, Mediator, create_cluster
from catga_sync.cluster.trust import trust_of
from catga_sync.context import CallContext, new_request_id
from catga_sync.hooks import AttemptDetails, Told
from catga_sync.transport.request_headers import write_headers
from catga_sync.wire.envelope import RequestEnvelope
from catga_sync.wire.routes import BATCH_PATH, INVOKE_PATH
from tests.conftest import require_module
from tests.process.messages import Ask, Do, Fail
from tests.process.metered_messages import Unfit, Wait
from tests.process.nodes import node, wait_for
from tests.processes import Process, until

require_module("gunicorn")
require_module("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from catga_sync.observability.prometheus import PrometheusHook  # noqa: E402

pytestmark = pytest.mark.process

SECRET = "a secret that is long enough for it"
THREADS = 4

Samples = dict[tuple[str, tuple[str, ...]], float]


@dataclass
class Ledger:
    """What the callers have counted. Thread-safe."""

    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    handled: Counter[tuple[str, str]] = field(default_factory=Counter)
    sends: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    attempts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    retries: int = 0
    replayed: int = 0
    bytes_in: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, route: str, status: int, sent: int) -> None:
        with self.lock:
            self.served[route, str(status)] += 1
            self.bytes_in += sent


class Caller:
    """Calls the node in every way, through a mediator and by hand, and keeps the ledger."""

    def __init__(self, mediator: ClusterMediator, server: Process, ledger: Ledger) -> None:
        self.mediator = mediator
        self.server = server
        self.ledger = ledger
        self.session = requests.Session()
        self.incarnation = next(each.incarnation for each in mediator.nodes() if each.node_id == "node")

    # -- by hand -------------------------------------------------------------------------------------------------------

    def signed(
        self, path: str, body: bytes, seconds: float = 30.0, *, incarnation: str | None = None
    ) -> dict[str, str]:
        headers = write_headers(CallContext(new_request_id()), seconds)
        if seconds <= 0:
            headers["Catga-Timeout-Ms"] = "0"
        signing = trust_of(self.mediator.options).signing()
        assert signing is not None
        signing.sign("POST", path, "node", incarnation or self.incarnation, headers, body)
        return headers

    def post(
        self, route: str, body: bytes, sign: Callable[[], dict[str, str]], *, reads_body: bool = True
    ) -> requests.Response:
        url = f"{self.server.url}{INVOKE_PATH if route == 'invoke' else BATCH_PATH}"
        while True:
            response = self.session.post(url, data=body, headers=sign(), timeout=30)
            self.ledger.note(route, response.status_code, len(body) if reads_body else 0)
            if response.status_code != 503:
                return response
            self.refused(busy_store(response.json()["errorMessage"]))

    def refused(self, reason: str) -> None:
        with self.ledger.lock:
            self.ledger.refusals[reason] += 1

    def ran(self, type_name: str, code: str) -> None:
        with self.ledger.lock:
            self.ledger.handled[type_name, code] += 1

    def invoke(self, type_name: str, payload: Any, *, seconds: float = 30.0, request_id: str | None = None) -> None:
        body = envelope(type_name, payload, request_id)
        self.post("invoke", body, lambda: self.signed(INVOKE_PATH, body, seconds))

    def unknown_type(self) -> None:
        self.invoke("tests.Nothing", {"text": "x"})
        self.refused("unknown_type")

    def no_handler(self) -> None:
        self.invoke("tests.Orphan", {"text": "x"})
        self.refused("no_handler")

    def wrong_payload(self) -> None:
        self.invoke("tests.Do", {"words": 7})
        self.refused("wrong_payload")

    def expired(self) -> None:
        self.invoke("tests.Do", {"text": "x"}, seconds=0.0)
        self.refused("expired")

    def bad_signature(self) -> None:
        body = envelope("tests.Do", {"text": "x"})
        self.post("invoke", body + b" ", lambda: self.signed(INVOKE_PATH, body))
        self.refused("unauthenticated")

    def unsigned(self) -> None:
        body = envelope("tests.Do", {"text": "x"})
        self.session.close()
        self.post("invoke", body, lambda: {"Content-Type": "application/json"}, reads_body=False)
        self.session.close()
        self.refused("unauthenticated")

    def unreadable(self) -> None:
        body = b"[]"
        self.post("invoke", body, lambda: self.signed(INVOKE_PATH, body))
        self.refused("unreadable")

    def too_long(self) -> None:
        body = envelope("tests.Do", {"text": "x" * 70_000})
        self.session.close()
        self.post("invoke", body, lambda: self.signed(INVOKE_PATH, body), reads_body=False)
        self.session.close()
        self.refused("too_long")

    def wrong_response_type(self) -> None:
        self.invoke("tests.Tell", {})
        self.refused("wrong_response_type")

    def not_allowed(self) -> None:
        self.invoke("tests.Private", {"text": "x"})
        self.refused("not_allowed")

    def other_run(self) -> None:
        body = envelope("tests.Do", {"text": "x"})
        self.post("invoke", body, lambda: self.signed(INVOKE_PATH, body, incarnation="0" * 32))
        self.refused("other_run")

    def media_type(self) -> None:
        body = envelope("tests.Do", {"text": "x"})
        self.session.close()
        headers = {**self.signed(INVOKE_PATH, body), "Content-Type": "text/plain"}
        self.post("invoke", body, lambda: headers, reads_body=False)
        self.session.close()
        self.refused("media_type")

    def other_payload(self) -> None:
        request_id = new_request_id()
        for text in ("one", "another"):
            self.invoke("tests.Do", {"text": text}, request_id=request_id)
        self.ran("tests.Do", "OK")
        self.refused("other_payload")

    def replays(self) -> None:
        request_id = new_request_id()
        for _ in range(3):
            self.invoke("tests.Do", {"text": "once"}, request_id=request_id)
        self.ran("tests.Do", "OK")
        with self.ledger.lock:
            self.ledger.replayed += 2

    def batch_with_refusals(self) -> None:
        request_id = new_request_id()
        items = [
            envelope("tests.Ask", {"text": "x"}, request_id),
            envelope("tests.Nothing", {"text": "x"}),
            envelope("tests.Do", {"words": 7}),
            envelope("tests.Fail", {"how": "code"}),
            envelope("tests.Ask", {"text": "x"}, request_id),
        ]
        body = b'{"requests":[%b]}' % b",".join(items)
        response = self.post("batch", body, lambda: self.signed(BATCH_PATH, body))
        assert response.status_code == 200
        self.refused("unknown_type")
        self.refused("wrong_payload")
        self.ran("tests.Ask", "OK")
        self.ran("tests.Fail", "NOT_FOUND")
        with self.ledger.lock:
            self.ledger.replayed += 1

    def cut_off(self) -> None:
        body = envelope("tests.Do", {"text": "x"})
        head = [f"POST {INVOKE_PATH} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in self.signed(INVOKE_PATH, body).items()]
        with socket.create_connection(("127.0.0.1", int(self.server.url.rsplit(":", 1)[1]))) as sock:
            sock.settimeout(30)
            sock.sendall("\r\n".join([*head, "", ""]).encode() + body[: len(body) // 2])
            sock.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: sock.recv(65_536), b""))
        assert received.startswith(b"HTTP/1.1 400"), received
        self.ledger.note("invoke", 400, 0)
        self.refused("unreadable")

    # -- through the mediator ------------------------------------------------------------------------------------------

    def sent(self, type_name: str, result: CatgaResult[Any], code: str) -> None:
        assert result.metadata.keys() >= {"place_ms", "wire_ms", "backlog_ms", "sent_bytes", "received_bytes"}
        assert ("OK" if result.is_success else str(result.code)) == code
        self.ran(type_name, code)
        with self.ledger.lock:
            self.ledger.sends[type_name, code, result.delivery.name] += 1
            self.ledger.retries += len(result.attempts) - 1
            for each in result.attempts:
                self.ledger.attempts[type_name, str(each.code or "OK"), each.delivery.name] += 1

    def exchanged(self, route: str, result: CatgaResult[Any]) -> None:
        """Note the exchanges of a call, or of a batch: all but the last were refused as a whole."""
        for each in result.attempts[:-1]:
            assert each.delivery is Delivery.NOT_EXECUTED
            self.ledger.note(route, 503, 0)
            self.refused(busy_store(each.error or ""))
        self.ledger.note(route, 200, 0)

    def send(self, request: Any, type_name: str, code: str) -> None:
        result = self.mediator.send(request)
        self.sent(type_name, result, code)
        self.exchanged("invoke", result)

    def batch(self) -> None:
        expected = [("tests.Ask", "OK"), ("tests.Fail", "CLOSED"), ("tests.Do", "OK")]
        results = self.mediator.send_batch([Ask("a"), Fail("raise"), Do("b")])
        for (type_name, code), result in zip(expected, results, strict=True):
            self.sent(type_name, result, code)
        self.exchanged("batch", results[0])

    @property
    def kinds(self) -> list[Callable[[], None]]:
        return [
            self.unknown_type,
            self.no_handler,
            self.wrong_payload,
            self.expired,
            self.bad_signature,
            self.unsigned,
            self.unreadable,
            self.too_long,
            self.wrong_response_type,
            self.not_allowed,
            self.other_run,
            self.media_type,
            self.other_payload,
            self.replays,
            self.batch_with_refusals,
            self.cut_off,
            self.batch,
            lambda: self.send(Ask("x"), "tests.Ask", "OK"),
            lambda: self.send(Do("x"), "tests.Do", "OK"),
            lambda: self.send(Fail("code"), "tests.Fail", "NOT_FOUND"),
            lambda: self.send(Fail("raise"), "tests.Fail", "CLOSED"),
            lambda: self.send(Fail("crash"), "tests.Fail", "UNKNOWN"),
            lambda: self.send(Unfit(), "tests.Unfit", "INTERNAL"),
        ]


def busy_store(text: str) -> str:
    """Return the reason why a node refused a call for now, as SQLite may be too slow on a busy machine."""
    return "store_down" if "idempotency" in text else "cannot_verify"


class Bytes:
    """A hook that adds up what attempts have sent and received."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent = self.received = 0

    def on_attempt(self, _: AttemptDetails) -> Told:
        def told(result: CatgaResult[Any]) -> None:
            with self.lock:
                self.sent += result.metadata["sent_bytes"]
                self.received += result.metadata["received_bytes"]

        return told


def envelope(type_name: str, payload: Any, request_id: str | None = None) -> bytes:
    data = json.dumps(payload).encode()
    names = {"tests.Orphan": "str", "tests.Wait": "none"}
    made = RequestEnvelope(
        type_name, names.get(type_name, "tests.Answer"), data, request_id or new_request_id(), "web", time.time()
    )
    return made.encode()


def samples_of(text: str) -> Samples:
    """Read a page as Prometheus would; label values in the order of their names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(samples: Samples, name: str) -> dict[tuple[str, ...], float]:
    return {labels: value for (each, labels), value in samples.items() if each == name and value}


@pytest.fixture
def metered(tmp_path: Path) -> Iterator[tuple[Process, ClusterMediator, Bytes, CollectorRegistry]]:
    values = tmp_path / "values"
    values.mkdir()
    cluster = f"metrics-{tmp_path.name}"
    options = ("--workers", "4", "--threads", "32", "-c", "python:catga_sync.integrations.gunicorn")
    environment = {
        "SECRET": SECRET,
        "DISCOVERY": f"sqlite:///{tmp_path}/nodes.sqlite3",
        "IDEMPOTENCY": f"sqlite:///{tmp_path}/ids.sqlite3",
        "PROMETHEUS_MULTIPROC_DIR": str(values),
    }
    registry = CollectorRegistry()
    through = Bytes()
    with (
        node("node", cluster, *options, app="tests.process.metered:app", **environment) as server,
        create_cluster(
            Mediator(),
            node_id="web",
            cluster_name=cluster,
            discovery=f"sqlite:///{tmp_path}/nodes.sqlite3",
            secret=SECRET,
            max_body_bytes=64 * 1024,
            hooks=[PrometheusHook(registry), through],
            environ={},
        ) as mediator,
    ):
        mediator.start()
        # A call that is signed for no run is refused by a worker that has begun after it was signed.
        wait_for(mediator, "node")
        yield server, mediator, through, registry


@pytest.mark.parametrize("calls", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_the_counters_of_four_workers_are_what_the_callers_have_counted(calls: int, metered: Any, tmp_path: Path):
    server, mediator, through, registry = metered
    ledger = Ledger()

    def scrape() -> Samples:
        response = requests.get(f"{server.url}/metrics", timeout=30)
        assert response.status_code == 200
        return samples_of(response.text)

    failures: list[BaseException] = []

    def work(number: int) -> None:
        caller, rng = Caller(mediator, server, ledger), random.Random(number)
        kinds = caller.kinds
        try:
            for each in range(calls // THREADS):
                # Each kind is sure to come, and then any.
                (kinds[each] if each < len(kinds) else rng.choice(kinds))()
        except BaseException as exc:
            failures.append(exc)
        finally:
            caller.session.close()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures

    # A call whose caller does not wait for it, and is gone.
    caller, started, ends = Caller(mediator, server, ledger), tmp_path / "started", tmp_path / "ends"
    body = envelope("tests.Wait", {"started": str(started), "go": str(ends)})
    head = [f"POST {INVOKE_PATH} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in caller.signed(INVOKE_PATH, body).items()]
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as sock:
        sock.sendall("\r\n".join([*head, "", ""]).encode() + body)
        until(started.exists, "the handler has begun")
        assert of(scrape(), "catga_handlers_in_flight") == {(): 1.0}
    caller.session.close()
    ends.touch()
    caller.ran("tests.Wait", "OK")
    until(lambda: ("tests.Wait",) in {key[2:] for key in of(scrape(), "catga_handled_total")}, "it is counted")
    until(lambda: sum(of(scrape(), "catga_handlers_in_flight").values()) == 0, "nothing runs")
    ledger.served["invoke", "499"] += 1
    ledger.bytes_in += len(body)

    # A call whose time is up while it runs.
    began, go = tmp_path / "began", tmp_path / "go"
    result = mediator.send(Wait(str(began), str(go)), timeout=4.0)
    assert began.exists()
    assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.UNKNOWN)
    go.touch()
    caller.ran("tests.Wait", "OK")
    ledger.served["invoke", "499"] += 1
    ledger.sends["tests.Wait", "DEADLINE_EXCEEDED", "UNKNOWN"] += 1
    ledger.attempts["tests.Wait", "DEADLINE_EXCEEDED", "UNKNOWN"] += 1
    until(lambda: of(scrape(), "catga_handled_total")["OK", "remote", "tests.Wait"] == 2, "it is counted")

    def served() -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for (route, status, _), value in of(scrape(), "catga_served_total").items():  # by POST and over streams
            if route in ("invoke", "batch"):
                found[route, status] += int(value)
        return found

    until(lambda: sum(served().values()) == ledger.served.total(), "each response is counted")
    samples = scrape()
    assert served() == ledger.served
    # The node's own probes ask for its description, and may be refused for now, or give up, as well.
    exchanges = of(samples, "catga_served_total")
    described = {status: value for (route, status, _), value in exchanges.items() if route == "node"}
    assert described.keys() <= {"200", "499", "503"}
    refusals = ledger.refusals + Counter({"cannot_verify": int(described.get("503", 0))})
    assert {reason: value for (reason,), value in of(samples, "catga_refusals_total").items()} == refusals
    assert of(samples, "catga_handled_total") == {
        (code, "remote", type_name): value for (type_name, code), value in ledger.handled.items()
    }
    assert of(samples, "catga_replayed_total") == {(): ledger.replayed}
    # A histogram counts what its counter counts.
    handled: Counter[tuple[str, ...]] = Counter()
    for (type_name, _), value in ledger.handled.items():
        handled[type_name,] += value
    assert of(samples, "catga_handler_seconds_count") == handled
    assert of(samples, "catga_bytes_total")["in", "server"] == ledger.bytes_in + through.sent
    assert of(samples, "catga_nodes") == {("ONLINE",): 1.0}

    # The same at the caller, which is one process.
    ours = samples_of(generate_latest(registry).decode())
    assert of(ours, "catga_sends_total") == {
        (code, delivery, type_name): value for (type_name, code, delivery), value in ledger.sends.items()
    }
    attempts: Counter[tuple[str, str, str]] = Counter()
    for (code, delivery, _, type_name, way), value in of(ours, "catga_attempts_total").items():
        assert way in ("post", "stream")
        attempts[type_name, code, delivery] += int(value)
    assert attempts == ledger.attempts
    assert sum(of(ours, "catga_place_seconds_count").values()) == ledger.attempts.total()
    # What got no response has no time on the wire.
    assert sum(of(ours, "catga_wire_seconds_count").values()) == ledger.attempts.total() - 1
    assert of(ours, "catga_bytes_total") == {("out", "client"): through.sent, ("in", "client"): through.received}
    assert sum(of(ours, "catga_sends_in_flight").values()) == 0
    assert sum(of(ours, "catga_retries_total").values()) == ledger.retries

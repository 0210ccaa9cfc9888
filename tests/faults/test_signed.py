"""A cluster with a secret, over gunicorn nodes: everything works that works without, and nothing else."""

from __future__ import annotations

import json
import time
import uuid

import pytest
import requests

from catga_sync.transport.http.probe import HttpProbe
from catga_sync.transport.signing import Signing
from catga_sync.wire.envelope import RequestEnvelope
from catga_sync.wire.signatures import KeyRing
from tests.conftest import require_module
from tests.faults import ledger
from tests.faults.messages import Ask, Do, Happened
from tests.faults.nodes import Node, Nodes
from tests.processes import group_is_gone, until

require_module("gunicorn")

pytestmark = pytest.mark.process

OLD = "the old key of the fault tests with 32 bytes or more"
NEW = "the new key of the fault tests with 32 bytes or more"
WRONG = "a key that nobody has agreed upon of 32 bytes"


def raw(
    nodes: Nodes, node: Node, secret: str | None, text: str = "raw", audience: str | None = None, run: str = ""
) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request as they go over the wire."""
    payload = f'{{"text":"{text}","seconds":0}}'.encode("ascii")
    envelope = RequestEnvelope("faults.Do", "faults.Done", payload, uuid.uuid4().hex, "raw", time.time())
    body = envelope.encode()
    headers = {
        "Content-Type": "application/json",
        "Catga-Request-Id": envelope.request_id,
        "Catga-Timeout-Ms": "20000",
    }
    if secret is not None:
        path = "/catga/cluster/invoke"
        Signing(KeyRing(secret), nodes.cluster_name).sign("POST", path, audience or node.name, run, headers, body)
    return body, headers


def run_of(nodes: Nodes, node: Node, secret: str) -> str:
    """Return the incarnation of a node, as soon as it has one."""
    signing = Signing(KeyRing(secret), nodes.cluster_name)

    def told() -> str | None:
        said = HttpProbe(signing=signing).ask(node.name, node.endpoint, 5.0).description.get("incarnation")
        return said if isinstance(said, str) and said else None

    return until(told, f"{node.name} has joined")


def post(node: Node, body: bytes, headers: dict[str, str]) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{node.endpoint}/catga/cluster/invoke", data=body, headers=headers, timeout=20.0)


def test_everything_works_between_nodes_with_a_secret(nodes: Nodes) -> None:
    a, b = nodes.start("a", "b", HANDLES="Ask,Do,Happened", CATGA_SECRET=NEW)
    with nodes.client(secret=NEW) as client:
        nodes.see(client, "a", "b")
        assert client.send(Do("send")).is_success
        assert [each.is_success for each in client.send_batch([Ask(f"batch-{n}") for n in range(10)])] == [True] * 10
        told = client.publish(Happened("published"))
        assert {name: each.is_success for name, each in told.items()} == {"a": True, "b": True}
        assert {name for name, each in client.broadcast(Ask("broadcast")).items() if each} == {"a", "b"}
        # Described and drained over the wire, by somebody who knows no more than the address.
        with nodes.client(secret=NEW, discovery="static", peers={"a": a.endpoint}) as stranger:
            until(lambda: stranger.nodes()[0].handles or None, "it describes itself")
            assert stranger.send(Do("static")).is_success
        group = b.process.pid
        headers = {"Content-Type": "application/json"}
        Signing(KeyRing(NEW), nodes.cluster_name).sign("POST", "/catga/cluster/drain", "b", "", headers, b"")
        answer = requests.post(f"{b.endpoint}/catga/cluster/drain", headers=headers, timeout=20.0)
        assert answer.status_code == 200
        until(lambda: {each.node_id: each.status.name for each in client.nodes()}["b"] == "DRAINING", "it is draining")
        assert {client.send(Do(f"after-{n}")).node_id for n in range(10)} == {"a"}
        assert not group_is_gone(group)
    runs = [run.text for run in ledger.executions(nodes.ran)]
    assert sorted(runs.count(text) for text in ("send", "published", "broadcast", "static")) == [1, 1, 2, 2]


def test_whoever_is_not_let_in_learns_nothing(nodes: Nodes) -> None:
    (node,) = nodes.start("a", CATGA_SECRET=NEW)
    run = run_of(nodes, node, NEW)
    body, headers = raw(nodes, node, NEW, run=run)
    forged = [
        raw(nodes, node, None),
        raw(nodes, node, WRONG, run=run),
        raw(nodes, node, NEW, audience="b", run=run),
        (body.replace(b"requestId", b"RequestId"), headers),
        (body, {**headers, "Catga-Timeout-Ms": "6000"}),
        (body, {**headers, "Catga-Chain": "web=0"}),
        (body, {**headers, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}),
        (body, {**headers, "Catga-Signature": "x"}),
    ]
    answers = [post(node, *each) for each in forged]
    assert {each.status_code for each in answers} == {401}
    assert {each.headers["Catga-Executed"] for each in answers} == {"0"}
    said = [{**each.json(), "requestId": "", "processingTimeMs": 0} for each in answers]
    assert said == [said[0]] * len(said)
    assert ledger.executions(nodes.ran) == []
    assert post(node, body, headers).status_code == 200
    # To a caller with another secret the same holds for the answers: it believes none.
    with nodes.client(secret=WRONG) as client:
        nodes.see(client, "a")
        result = client.send(Do("wrong"))
        assert (result.code.name, result.delivery.name) == ("UNAUTHENTICATED", "UNKNOWN")
    with nodes.client() as client:
        nodes.see(client, "a")
        assert client.send(Do("unsigned")).code.name == "UNAUTHENTICATED"
    assert [run.text for run in ledger.executions(nodes.ran)] == ["raw"]


@pytest.mark.slow
def test_what_was_let_in_once_is_refused_by_every_worker(nodes: Nodes) -> None:
    (node,) = nodes.start("a", options=("-w", "4"), CATGA_SECRET=NEW)
    body, headers = raw(nodes, node, NEW, "once", run=run_of(nodes, node, NEW))
    assert post(node, body, headers).status_code == 200
    # A connection of its own each, so that they are spread over the workers.
    assert {post(node, body, headers).status_code for _ in range(60)} == {401}
    assert [run.text for run in ledger.executions(nodes.ran)] == ["once"]


@pytest.mark.slow
def test_a_secret_is_replaced_without_a_failed_call(nodes: Nodes) -> None:
    a, b = nodes.start("a", "b", CATGA_SECRET=OLD)
    served = []

    def ask(secret: object) -> None:
        with nodes.client(secret=secret) as client:
            nodes.see(client, "a", "b")
            asked: set[str | None] = set()

            def both() -> bool:
                results = [client.send(Do(uuid.uuid4().hex)) for _ in range(6)]
                assert [each for each in results if not each] == []
                asked.update(each.node_id for each in results)
                served.extend(results)
                return asked == {"a", "b"}

            # One whose heartbeats are late, as on a busy machine, is left alone for a moment.
            until(both, "both serve")

    ask(OLD)
    # Step by step: first everybody accepts the new key, then signs with it, then the old one goes.
    for node, secrets in ((a, [OLD, NEW]), (b, [OLD, NEW]), (a, [NEW, OLD]), (b, [NEW, OLD])):
        node.stop()
        node.start(CATGA_SECRET=json.dumps(secrets))
        ask([OLD, NEW])
    ask([NEW, OLD])
    ask(NEW)
    assert len(ledger.executions(nodes.ran)) == len(served)

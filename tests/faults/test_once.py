"""A request id runs once, over the workers of a node and over the nodes of a cluster."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from catga_sync.cluster.local_key import LocalKeys
from catga_sync.transport.http.probe import HttpProbe
from catga_sync.transport.signing import MISDIRECTED, Signing
from catga_sync.wire.envelope import RequestEnvelope
from tests.conftest import require_module
from tests.faults import ledger
from tests.faults.load import Load
from tests.faults.nodes import Node, Nodes, redis_server
from tests.processes import until

require_module("gunicorn")

pytestmark = pytest.mark.process


def envelope(text: str, seconds: float = 0.0, request_id: str | None = None) -> bytes:
    payload = f'{{"text":"{text}","seconds":{seconds}}}'.encode("ascii")
    made = RequestEnvelope("faults.Do", "faults.Done", payload, request_id or uuid.uuid4().hex, "raw", time.time())
    return made.encode()


def post(nodes: Nodes, node: Node, body: bytes) -> requests.Response:
    """Send as somebody would who knows nothing but the wire and the key."""
    with requests.Session() as session:
        session.trust_env = False
        signing = Signing(LocalKeys(), nodes.cluster_name)

        def response() -> requests.Response | None:
            said = HttpProbe(signing=signing).ask(node.name, node.endpoint, 5.0).description
            headers = {"Content-Type": "application/json"}
            signing.sign("POST", "/catga/cluster/invoke", node.name, said.get("incarnation") or "", headers, body)
            found = session.post(f"{node.endpoint}/catga/cluster/invoke", data=body, headers=headers, timeout=20.0)
            # A worker that does not know the run of its node yet has not run it, and wants it signed anew.
            return None if found.status_code == MISDIRECTED else found

        return until(response, f"a worker of {node.name} that has joined")


def assert_ran_once(nodes: Nodes, *texts: str) -> None:
    assert sorted(run.text for run in ledger.executions(nodes.ran)) == sorted(texts)


def test_a_repeated_id_gets_the_first_answer(nodes: Nodes) -> None:
    (node,) = nodes.start("a", options=("-w", "1"))
    body = envelope("one")
    first, second = post(nodes, node, body), post(nodes, node, body)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["payloadData"] == second.json()["payloadData"]
    assert (first.headers.get("Catga-Replayed"), second.headers.get("Catga-Replayed")) == (None, "1")
    assert second.headers["Catga-Executed"] == "1"
    assert_ran_once(nodes, "one")


def test_an_id_runs_once_over_all_workers_of_a_node(nodes: Nodes) -> None:
    store = nodes.folder / "ids.sqlite3"
    (node,) = nodes.start("a", options=("-w", "4"), CATGA_IDEMPOTENCY=f"sqlite:///{store}")
    with ThreadPoolExecutor(5) as pool:
        for n in range(8):
            body, start = envelope(f"call-{n}", 0.05), threading.Barrier(5)

            def one(_: int, body: bytes = body, start: threading.Barrier = start) -> requests.Response:
                start.wait()
                return post(nodes, node, body)

            answers = list(pool.map(one, range(5)))
            assert {each.status_code for each in answers} == {200}
            assert len({each.json()["payloadData"] for each in answers}) == 1
            assert sorted(each.headers.get("Catga-Replayed", "0") for each in answers) == ["0", *["1"] * 4]
    assert_ran_once(nodes, *(f"call-{n}" for n in range(8)))


@pytest.mark.slow
@pytest.mark.redis
def test_with_a_shared_store_plain_requests_survive_a_killed_node(tmp_path: Path) -> None:
    with redis_server() as server, Nodes(tmp_path, CATGA_IDEMPOTENCY=server.url) as nodes:
        _, b, _ = nodes.start("a", "b", "c")
        with nodes.client() as client:
            nodes.see(client, "a", "b", "c")
            assert client.send(_do("first")).metadata["idempotency"] == "shared"
            with Load(client, nodes.told, callers=24, queries=0.0, seconds=0.01, timeout=20.0) as load:
                until(load.answered(200), "calls are answered")
                killed = b.kill()
                until(load.answered(200, after=killed), "calls are answered without it")
        ran = [run for run in ledger.executions(nodes.ran) if run.text != "first"]
    assert ledger.check(ran, load.told) == []
    # What was inside a handler there may have run; nobody can tell, so it is not run again, and its caller is told so.
    for each in load.failed:
        assert (each.delivery, each.code) == ("UNKNOWN", "ABORTED"), each
        assert each.attempts[0][0] == "b", each
    assert len(load.failed) <= 6
    # Anything else was sent again, and ran once.
    again = [each for each in load.told if len(each.attempts) > 1 and each.success]
    assert {len([run for run in ran if run.text == each.text]) for each in again} <= {1}


def _do(text: str) -> object:
    from tests.faults.messages import Do

    return Do(text)


@pytest.mark.slow
def test_stores_that_are_not_the_same_are_not_taken_for_shared(nodes: Nodes) -> None:
    """Two nodes that remember ids in a file each cannot know what the other one has run."""
    nodes.start("a", CATGA_IDEMPOTENCY=f"sqlite:///{nodes.folder / 'a.sqlite3'}")
    nodes.start("b", CATGA_IDEMPOTENCY=f"sqlite:///{nodes.folder / 'b.sqlite3'}")
    with nodes.client() as client:
        nodes.see(client, "a", "b")
        assert "idempotency" not in client.send(_do("first")).metadata

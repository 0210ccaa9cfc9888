"""Apps that compress their responses leave those to other nodes as they are: each is compressed once at most."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import requests

from catga_sync import ClusterMediator, Mediator, create_cluster
from tests.conftest import require_module
from tests.contracts.receiver import envelope
from tests.process.messages import Answer, Ask, Fail
from tests.process.nodes import node
from tests.processes import Process, until

for needed in ("gunicorn", "flask_compress", "django"):
    require_module(needed)

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("compressing-apps")]

LONG = "tea and biscuits " * 500
SECRET = "a secret of these tests, long enough"
APPS = {
    "flask-compress": {"app": "tests.apps.compressing:app"},
    "django": {"app": "tests.apps.compressing_django:app"},
}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """``node.test`` is a machine by its name, and this one by its address."""
    look_up = socket.getaddrinfo

    def here(name: Any, *rest: Any, **more: Any) -> Any:
        return look_up("127.0.0.1" if name == "node.test" else name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


@pytest.fixture(scope="module", params=APPS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(
    scope="module",
    params=[pytest.param(SECRET, id="signed"), pytest.param(None, id="unsigned", marks=pytest.mark.slow)],
)
def trust(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"insecure": True} if request.param is None else {"secret": request.param}


@pytest.fixture(scope="module")
def server(kind: str, trust: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("compressing")
    env = {"SECRET": trust["secret"]} if "secret" in trust else {"INSECURE": "1", "HOST": "node.test"}
    private = {"CATGA_RUNTIME_DIR": str(folder / "private"), "DISCOVERY": f"sqlite:///{folder / 'nodes'}"}
    with node("n1", "compressing", **APPS[kind], **env, **private) as process:
        yield process


@pytest.fixture
def client_of(server: Process, trust: dict[str, Any]) -> Callable[..., AbstractContextManager[ClusterMediator]]:
    def make(host: str, **options: Any) -> AbstractContextManager[ClusterMediator]:
        peers = {"n1": f"http://{host}:{server.port}"}
        return create_cluster(Mediator(), node_id="client", cluster_name="compressing", peers=peers, **trust, **options)

    return make


@pytest.mark.parametrize("stream", ["auto", "off"])
@pytest.mark.parametrize("host", ["node.test", "127.0.0.1"])
def test_calls_of_other_nodes_are_compressed_once_or_not_at_all(
    client_of: Callable[..., AbstractContextManager[ClusterMediator]], host: str, stream: str
) -> None:
    with client_of(host, stream=stream) as client:
        until(lambda: [each.handles is not None for each in client.nodes()] == [True], "the node describes itself")
        for text in ("x", "tea " * 150, LONG):  # shorter than any threshold, between them, longer
            result = client.send(Ask(text))
            assert result.unwrap().text == text
        if stream == "off":
            is_short = result.metadata["received_bytes"] < len(LONG) / 4
            assert is_short == (host == "node.test")
        assert client.send(Fail("raise")).code == "CLOSED"
        answers: list[Answer] = [each.unwrap() for each in client.send_batch([Ask(LONG), Ask("x"), Ask(LONG)])]
        assert [answer.text for answer in answers] == [LONG, "x", LONG]


def test_the_app_compresses_its_own_pages(server: Process) -> None:
    with requests.Session() as session:
        session.trust_env = False
        page = session.get(f"{server.url}/page", headers={"Accept-Encoding": "gzip"}, timeout=20)
    assert (page.headers["Content-Encoding"], page.text) == ("gzip", LONG)


@pytest.mark.parametrize("asked", ["gzip", "gzip, deflate, br, zstd", "identity"])
def test_a_program_that_asks_as_curl_does_gets_one_coding(server: Process, trust: dict[str, Any], asked: str) -> None:
    body = json.dumps(envelope("tests.Ask", {"text": LONG}, responseTypeName="tests.Answer"))
    with requests.Session() as session:
        session.trust_env = False
        headers = {"Accept-Encoding": asked, "Content-Type": "application/json"}
        response = session.post(f"{server.url}/catga/cluster/invoke", data=body, headers=headers, timeout=20)
    coding = response.headers.get("Content-Encoding")
    if "secret" in trust:  # a refusal is short
        assert (response.status_code, response.json()["isSuccess"], coding) == (401, False, None)
    else:
        assert response.json()["isSuccess"]
        assert coding in ((None,) if asked == "identity" else ("gzip", "br"))

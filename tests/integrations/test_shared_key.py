"""Without a secret, the nodes of one user on one machine let each other in and nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from catga_sync import ClusterMediator, Mediator, create_cluster
from catga_sync._runtime_dir import RUNTIME_DIR
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.wire.routes import INVOKE_PATH, NODE_PATH
from tests.contracts.receiver import GetUser, User, invocation
from tests.integrations.test_unsigned_peers import DotNet, serve
from tests.process.messages import Do
from tests.process.nodes import node
from tests.processes import free_port, until
from tests.unit.serving import serving


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private folder of this user."""
    monkeypatch.setenv(RUNTIME_DIR, str(tmp_path / "private"))
    return tmp_path / "private"


@pytest.fixture
def around() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def ran() -> list[GetUser]:
    return []


def served(around: ExitStack, ran: list[GetUser], **options: Any) -> str:
    """Serve a node and return its URL."""
    local, port = Mediator(), free_port()

    def get_user(request: GetUser) -> User:
        ran.append(request)
        return User(request.user_id, "Ada")

    local.register(GetUser, get_user)
    url = f"http://127.0.0.1:{port}"
    made = create_cluster(local, node_id="node-1", endpoint=url, discovery="memory://", **options)
    around.enter_context(serving(made, port))
    around.enter_context(made)
    return url


def client_of(around: ExitStack, url: str, **options: Any) -> ClusterMediator:
    return around.enter_context(create_cluster(Mediator(), node_id="client", peers={"node-1": url}, **options))


def test_a_peer_of_the_same_user_is_served_and_no_nonce_is_kept(
    around: ExitStack, ran: list[GetUser], folder: Path
) -> None:
    client = client_of(around, served(around, ran))
    assert client.send(GetUser("7")).unwrap() == User("7", "Ada")
    until(lambda: [each.handles is not None for each in client.nodes()] == [True], "its description is believed")
    assert (folder / "local.key").exists()
    assert list(folder.glob("*.nonces*")) == []


def test_a_call_without_the_key_is_refused_unexecuted_with_the_cure(around: ExitStack, ran: list[GetUser]) -> None:
    url, call = served(around, ran), invocation()
    headers = {"Content-Type": "application/json"}
    response = requests.post(url + INVOKE_PATH, data=call.body, headers=headers, timeout=20)
    assert (response.status_code, response.headers["Catga-Executed"], ran) == (401, "0", [])
    assert "secret= on both sides" in response.json()["errorMessage"]
    assert "insecure=True" in response.json()["errorMessage"]


@pytest.mark.parametrize("options", [{}, {"secret": "s" * 32}], ids=["shared key", "secret"])
def test_whoever_has_no_key_is_told_the_status_alone(
    around: ExitStack, ran: list[GetUser], options: dict[str, Any]
) -> None:
    url = served(around, ran, **options)
    response = requests.get(url + NODE_PATH, timeout=20)
    assert (response.status_code, response.json()) == (200, {"status": "ONLINE"})
    forged = requests.get(url + NODE_PATH, headers={"Catga-Signature": "v1 key=0"}, timeout=20)
    assert forged.status_code == 401


@pytest.mark.parametrize("options", [{"secret": "s" * 32}, {"insecure": True}], ids=["secret", "insecure"])
def test_where_a_secret_is_given_or_none_is_wanted_no_key_is_made(
    around: ExitStack, ran: list[GetUser], folder: Path, options: dict[str, Any]
) -> None:
    client = client_of(around, served(around, ran, **options), **options)
    assert client.send(GetUser("7")).unwrap() == User("7", "Ada")
    assert not (folder / "local.key").exists()


def test_a_node_without_any_key_ignores_signatures_and_is_believed_while_it_has_not_described_itself(
    around: ExitStack, ran: list[GetUser]
) -> None:
    client = client_of(around, served(around, ran, insecure=True))
    assert client.send(GetUser("7")).unwrap() == User("7", "Ada")


@pytest.mark.parametrize(("host", "signed"), [("127.0.0.1", True), ("localhost", True), ("elsewhere.test", False)])
def test_only_peers_on_loopback_are_signed_to_and_may_do_without(
    around: ExitStack, monkeypatch: pytest.MonkeyPatch, host: str, signed: bool
) -> None:
    look_up = socket.getaddrinfo

    def here(name: str, *rest: Any, **more: Any) -> Any:
        """A name that is none of loopback leads to the peer all the same."""
        return look_up("127.0.0.1" if name == host else name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    peer = DotNet()
    port = serve(around, peer).rpartition(":")[2]
    client = client_of(around, f"http://{host}:{port}")
    assert client.send(GetUser("7")).unwrap() == User("7", "Ada")
    assert ["Catga-Signature" in headers for headers in peer.ran] == [signed]


def test_a_declared_peer_that_cannot_sign_gets_no_signature(around: ExitStack) -> None:
    peer = DotNet()
    client = around.enter_context(
        create_cluster(Mediator(), node_id="client", peers={"node-1": {"url": serve(around, peer), "signed": False}})
    )
    assert client.send(GetUser("7")).unwrap() == User("7", "Ada")
    assert ["Catga-Signature" in headers for headers in peer.ran] == [False]


def test_a_described_peer_is_believed_only_with_a_signature(around: ExitStack) -> None:
    peer = DotNet()
    peers = {"node-1": {"url": serve(around, peer), "handles": ["users.Get"]}}
    client = around.enter_context(create_cluster(Mediator(), node_id="client", peers=peers))
    result = client.send(GetUser("7"))
    assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.UNKNOWN)
    assert "secret= on both sides" in str(result.error)


@pytest.mark.process
def test_a_node_of_another_user_refuses_and_the_error_names_the_cure(tmp_path: Path) -> None:
    other = {"CATGA_RUNTIME_DIR": str(tmp_path / "other"), "DISCOVERY": f"sqlite:///{tmp_path / 'nodes'}"}
    with (
        node("node-1", "default", **other) as there,
        create_cluster(Mediator(), node_id="client", peers={"node-1": there.url}) as client,
    ):
        result = client.send(Do("x"))
    assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED)
    assert "secret= on both sides" in str(result.error)
    assert "insecure=True" in str(result.error)

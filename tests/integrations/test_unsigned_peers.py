"""Where a secret is in use, a peer that cannot sign is not called unless it was declared to be one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from werkzeug import Request, Response
from werkzeug.serving import make_server

from catga_sync import ClusterMediator, Mediator, create_cluster
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.nodes import UNSIGNED
from catga_sync.options import ClusterOptions
from catga_sync.transport import proof
from catga_sync.wire.routes import INVOKE_PATH, NODE_PATH
from tests.contracts.receiver import GetUser, User
from tests.processes import free_port, until

SECRET = "s" * 32
USER = "eyJ1c2VySWQiOiAiNyIsICJuYW1lIjogIkFkYSJ9"


class DotNet:
    """A peer that runs what it is sent and signs nothing; it answers GET of its description as it was told."""

    def __init__(self, description: Response | None = None) -> None:
        self.ran: list[dict[str, str]] = []
        self.described = 0
        self._description = description

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        if request.path == NODE_PATH:
            self.described += 1
            answer = self._description or Response("", 404)
        else:
            assert request.path == INVOKE_PATH
            self.ran.append(dict(request.headers))
            asked = json.loads(request.get_data())
            answer = Response(
                json.dumps({"requestId": asked["requestId"], "isSuccess": True, "payloadData": USER}),
                content_type="application/json",
            )
        return answer(environ, start_response)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy peer is not a silent one."""
    monkeypatch.setattr("catga_sync.cluster.peers._TIMEOUT", 20.0)
    monkeypatch.setattr(proof, "_TIMEOUT", 20.0)


@pytest.fixture
def around() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serve(around: ExitStack, app: Any, port: int = 0) -> str:
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    around.callback(server.server_close)
    around.callback(thread.join)
    around.callback(server.shutdown)
    return f"http://127.0.0.1:{server.server_port}"


def own_node(around: ExitStack, secret: str | None, **options: Any) -> str:
    local, port = Mediator(), free_port()
    local.register(GetUser, lambda request: User(request.user_id, "Ada"))
    given = {"endpoint": f"http://127.0.0.1:{port}", "secret": secret, "discovery": "memory://", **options}
    made = create_cluster(local, ClusterOptions(node_id="node-2", **given))
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(made))
    url = serve(around, app, port)
    around.enter_context(made)
    return url


def client(around: ExitStack, peers: Any, **options: Any) -> ClusterMediator:
    given = {"node_id": "client", "peers": peers, "secret": SECRET, **options}
    return around.enter_context(create_cluster(Mediator(), ClusterOptions(**given)))


DESCRIPTIONS = {
    "no such route": None,
    "an unsigned description": Response(json.dumps({"handles": ["users.Get"]}), content_type="application/json"),
    "a login wall": Response("", 302, {"Location": "/login"}),
    "a wrong secret": Response("{}", 401),
    "another page": Response("<html>"),
}


@pytest.mark.parametrize("described", DESCRIPTIONS)
@pytest.mark.parametrize("declared", ["an endpoint alone", "a mapping"])
def test_a_peer_that_has_shown_no_signature_is_not_called_and_the_error_says_how_to_declare_it(
    around: ExitStack, described: str, declared: str
) -> None:
    peer = DotNet(DESCRIPTIONS[described])
    url = serve(around, peer)
    mediator = client(around, {"dotnet-1": url if declared == "an endpoint alone" else {"url": url}})
    result = mediator.send(GetUser("7"))
    assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED)
    assert f'declare it: peers={{"dotnet-1": {{"url": "{url}", "signed": False}}}}' in (result.error or "")
    assert ("are secret and cluster_name the same" in (result.error or "")) == (described == "a wrong secret")
    assert peer.ran == []


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_peer_that_cannot_describe_itself_for_the_moment_is_unavailable(around: ExitStack, status: int) -> None:
    peer = DotNet(Response("", status))
    mediator = client(around, {"dotnet-1": serve(around, peer)}, max_retries=0)
    result = mediator.send(GetUser("7"))
    assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    assert f"does not describe itself (HTTP status {status})" in (result.error or "")
    assert peer.ran == []


def test_the_items_of_a_batch_and_a_broadcast_are_not_sent_to_such_a_peer_either(around: ExitStack) -> None:
    peer = DotNet()
    mediator = client(around, {"dotnet-1": serve(around, peer)})
    results = [*mediator.send_batch([GetUser("7"), GetUser("8")]), *mediator.broadcast(GetUser("9")).values()]
    assert [(each.code, each.delivery) for each in results] == [
        (ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED)
    ] * 3  # fmt: skip
    assert peer.ran == []


@pytest.mark.parametrize("handles", [None, ["users.Get"]])
def test_a_peer_that_is_declared_unsigned_is_called_unsigned_and_believed(
    around: ExitStack, handles: list[str] | None
) -> None:
    peer = DotNet()
    known = {"url": serve(around, peer), "signed": False}
    mediator = client(around, {"dotnet-1": known if handles is None else {**known, "handles": handles}})
    result = mediator.send(GetUser("7"))
    assert result.unwrap() == User("7", "Ada")
    (headers,) = peer.ran
    assert not [name for name in headers if "signature" in name.lower()]


def test_what_a_peer_is_declared_to_handle_is_all_that_it_is_asked_for(around: ExitStack) -> None:
    peer = DotNet()
    declared = {"url": serve(around, peer), "signed": False, "handles": ["users.Other"]}
    result = client(around, {"dotnet-1": declared}).send(GetUser("7"))
    assert (result.code, result.delivery) == (ErrorCode.UNIMPLEMENTED, Delivery.NOT_EXECUTED)
    assert (peer.ran, peer.described) == ([], 0)


def test_the_declaration_of_one_peer_says_nothing_of_another(around: ExitStack) -> None:
    declared, other = DotNet(), DotNet()
    peers = {"a": {"url": serve(around, declared), "signed": False}, "b": serve(around, other)}
    mediator = client(around, peers, router="round-robin")
    results = [mediator.send(GetUser("7")) for _ in range(4)]
    assert all(results)
    tried = {(attempt.node_id, attempt.code) for each in results for attempt in each.attempts}
    assert tried == {("a", None), ("b", ErrorCode.UNAUTHENTICATED)}
    assert (len(declared.ran), other.ran) == (4, [])


def test_without_a_secret_a_peer_that_describes_nothing_is_called(around: ExitStack) -> None:
    peer = DotNet()
    assert client(around, {"dotnet-1": serve(around, peer)}, secret=None).send(GetUser("7")).is_success


@pytest.mark.parametrize("declared", [{}, {"signed": True}, {"signed": True, "handles": ["users.Get"]}])
def test_a_node_of_our_own_is_called_at_once_though_nothing_is_known_of_it_yet(
    around: ExitStack, declared: dict[str, Any]
) -> None:
    assert client(around, {"node-2": {"url": own_node(around, SECRET), **declared}}).send(GetUser("7")).is_success


def test_a_node_that_comes_up_after_a_call_has_failed_is_called_by_the_next(around: ExitStack) -> None:
    port = free_port()
    mediator = client(around, {"node-2": f"http://127.0.0.1:{port}"}, enable_failover=False)
    gone = mediator.send(GetUser("7"))
    assert (gone.code, gone.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
    assert "cannot be reached" in (gone.error or "")
    local = Mediator()
    local.register(GetUser, lambda request: User(request.user_id, "Ada"))
    options = ClusterOptions(
        node_id="node-2", endpoint=f"http://127.0.0.1:{port}", secret=SECRET, discovery="memory://"
    )
    made = create_cluster(local, options)
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(made))
    serve(around, app, port)
    around.enter_context(made)
    assert mediator.send(GetUser("7")).is_success


def test_a_node_of_our_own_with_another_secret_is_not_sent_the_call(around: ExitStack) -> None:
    result = client(around, {"node-2": own_node(around, "t" * 32)}).send(GetUser("7"))
    assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED)
    assert "are secret and cluster_name the same there, and both clocks right?" in (result.error or "")


def found_in_the_store(around: ExitStack, store: str, **options: Any) -> ClusterMediator:
    """Return a caller that knows from a store what ``node-2`` handles."""
    caller = client(around, None, discovery=store, **options)
    until(lambda: [each for each in caller.nodes() if each.handles] or None, "node-2 is visible")
    return caller


def test_a_node_that_tells_in_the_store_that_it_does_not_sign_is_believed_where_there_is_no_secret(
    around: ExitStack, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'nodes.sqlite3'}"
    own_node(around, None, insecure=True, discovery=store)
    caller = found_in_the_store(around, store, secret=None)
    assert caller.send(GetUser("7")).unwrap() == User("7", "Ada")
    assert [each.unwrap() for each in caller.send_batch([GetUser("7")] * 2)] == [User("7", "Ada")] * 2
    assert caller.broadcast(GetUser("7"))["node-2"].unwrap() == User("7", "Ada")


def test_what_a_store_says_of_signing_counts_for_nothing_where_there_is_a_secret(
    around: ExitStack, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'nodes.sqlite3'}"
    own_node(around, None, insecure=True, discovery=store)
    result = found_in_the_store(around, store).send(GetUser("7"))
    assert result.code is ErrorCode.UNAUTHENTICATED


def test_a_node_with_the_key_of_this_machine_is_not_told_of_as_one_without(around: ExitStack, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'nodes.sqlite3'}"
    own_node(around, None, discovery=store)
    caller = found_in_the_store(around, store, secret=None)
    assert [UNSIGNED in each.features for each in caller.nodes()] == [False]
    assert caller.send(GetUser("7")).is_success


@pytest.mark.parametrize("secret", [SECRET, None], ids=["a secret", "the key of this machine"])
def test_a_caller_of_another_cluster_is_told_to_look_at_cluster_name(
    around: ExitStack, secret: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    url = own_node(around, secret, cluster_name="theirs")
    mediator = client(around, {"node-2": url}, secret=secret, cluster_name="mine")
    result = mediator.send(GetUser("7"))
    assert result.code is ErrorCode.UNAUTHENTICATED
    assert "cluster_name" in (result.error or "")
    mediator.start()
    told = until(
        lambda: [line for line in caplog.messages if "does not describe itself: " in line] or None, "the log says why"
    )
    assert "cluster_name" in told[0]
    # A call that is not signed at all is told the same as one for another cluster.
    texts = {
        requests.post(url + INVOKE_PATH, json={}, headers=headers).json()["errorMessage"]
        for headers in ({}, {"Catga-Signature": "nonsense"})
    }
    assert len(texts) == 1
    assert "cluster_name" in texts.pop()

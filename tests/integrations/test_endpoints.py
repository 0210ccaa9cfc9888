"""An endpoint that does not lead to its node, and an id that another record holds: both are named, with the cure."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from catga_sync import Mediator, create_cluster
from catga_sync.cluster import peer_descriptions
from catga_sync.discovery import Discovery, MemoryDiscovery, create_discovery
from catga_sync.nodes import ClusterNode, NodeRecord
from tests.conftest import require_module, require_service
from tests.integrations.visible import Ask, app_of, node, reason_of, warn_soon
from tests.processes import free_port, until
from tests.unit.serving import serving_app

OURS, OTHER = "the secret of this cluster, which is long", "the secret of another cluster, just as long"


@pytest.fixture(autouse=True)
def _little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    warn_soon(monkeypatch)


# -- an endpoint that is not ours --------------------------------------------------------------------------------------


def test_a_port_at_which_nothing_listens_is_told_with_the_one_at_which_the_process_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong, port = free_port(), free_port()
    with node(f"http://127.0.0.1:{wrong}") as mediator, serving_app(app_of(mediator), port):
        line = reason_of(mediator, caplog)
    assert f"GET http://127.0.0.1:{wrong}/catga/cluster/node: Connection refused; nothing listens there, and" in line
    # What else listens in this process belongs to other tests.
    said = line.partition("this process listens on ")[2].partition(": give the endpoint at which this app is served")
    assert f"127.0.0.1:{port}" in said[0].split(" and "), line
    assert said[1], line


@dataclass(frozen=True)
class Neighbour:
    """The node that answers at our endpoint, and what is said of it."""

    theirs: dict[str, Any]
    ours: dict[str, Any]
    found: str
    cure: str


@pytest.mark.parametrize(
    "case",
    [
        Neighbour({}, {}, "HTTP status 401 from node node-7 (", "give this one an endpoint of its own"),
        Neighbour(
            {"insecure": True},
            {"insecure": True},
            "HTTP status 200 from node node-7; ",
            "that node listens there: give this one the endpoint",
        ),
        Neighbour(
            {"secret": OTHER},
            {"secret": OURS},
            "HTTP status 401 from node node-7 (",
            "the same secret (CATGA_SECRET)",
        ),
        Neighbour(
            {"insecure": True},
            {"secret": OURS},
            "HTTP status 200 from node node-7; ",
            "that node does not sign with this",
        ),
        pytest.param(
            Neighbour({"secret": OTHER}, {}, "HTTP status 401 from node node-7 (", "the same secret (CATGA_SECRET)"),
            marks=pytest.mark.slow,
        ),
        Neighbour(
            {"secret": OURS},
            {"secret": OURS},
            "HTTP status 401 from node node-7 (",
            "another secret, cluster_name, id or clock",
        ),
    ],
    ids=["plain", "insecure", "other secret", "no secret", "secret there", "same secret"],
)
def test_another_node_at_the_endpoint_is_named(case: Neighbour, caplog: pytest.LogCaptureFixture) -> None:
    port, own = free_port(), free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with (
        node(endpoint, "node-7", **case.theirs) as other,
        serving_app(app_of(other), port),
        node(endpoint, **case.ours) as mediator,
        serving_app(app_of(mediator), own),
    ):
        line = reason_of(mediator, caplog)
    assert f"GET {endpoint}/catga/cluster/node: {case.found}" in line
    assert case.cure in line


#: A server of another process on ``::1``: arguments are the port, the status and the body of every answer.
_ELSEWHERE = """
import http.server, socket, sys
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2]))
        self.end_headers()
        self.wfile.write(sys.argv[3].encode())
Server(("::1", int(sys.argv[1])), Handler).serve_forever()
"""


def _answers_on_ipv6(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("::1", port), timeout=1):
        return True
    return False


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.process
@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        ("404", "nothing", "HTTP status 404"),
        pytest.param("200", "<h1>Air</h1>", "HTTP status 200 and no description of a node", marks=pytest.mark.slow),
        pytest.param("200", '{"nodeId": "node-7"}', "HTTP status 200 from node node-7", marks=pytest.mark.slow),
    ],
)
def test_a_name_that_leads_to_another_server_of_this_machine_is_told_apart(
    status: str, body: str, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    require_service(_has_ipv6(), "this machine has no ::1")
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", _ELSEWHERE, str(port), status, body], stderr=subprocess.DEVNULL) as it:
        try:
            until(lambda: _answers_on_ipv6(port), "the other server listens")
            with node(f"http://localhost:{port}") as mediator, serving_app(app_of(mediator), port):
                line = reason_of(mediator, caplog)
        finally:
            it.kill()
    assert (
        f"GET http://localhost:{port}/catga/cluster/node: {found} at [::1]:{port}; another server responds there under "
        f"the name in the endpoint, and this process listens on 127.0.0.1:{port}: give "
        f"endpoint='http://127.0.0.1:{port}', or end the other server"
    ) in line


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls() -> tuple[Any, Any]:
    trustme = require_module("trustme")
    authority = trustme.CA()

    def context(*names: str) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(made)
        return made

    return authority, context


def test_a_certificate_that_is_not_trusted_is_named(tls: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with (
        node(f"https://127.0.0.1:{port}") as mediator,
        serving_app(app_of(mediator), port, tls=tls[1]("127.0.0.1")),
    ):
        line = reason_of(mediator, caplog)
    assert f"GET https://127.0.0.1:{port}/catga/cluster/node: certificate verify failed: " in line
    assert "give verify='/path/to/ca.pem'" in line


def test_a_certificate_for_another_host_is_named(tls: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with (
        tls[0].cert_pem.tempfile() as bundle,
        node(f"https://127.0.0.1:{port}", verify=bundle) as mediator,
        serving_app(app_of(mediator), port, tls=tls[1]("example.com")),
    ):
        line = reason_of(mediator, caplog)
    assert "certificate verify failed: IP address mismatch" in line
    assert "an endpoint with the host it names" in line


def test_a_scheme_that_the_server_does_not_speak_is_named(
    tls: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    port, second = free_port(), free_port()
    with (
        node(f"https://127.0.0.1:{port}") as mediator,
        serving_app(app_of(mediator), port),
    ):
        line = reason_of(mediator, caplog)
    assert "speaks no TLS; write http:// in the endpoint" in line
    caplog.clear()
    with (
        node(f"http://127.0.0.1:{second}") as mediator,
        serving_app(app_of(mediator), second, tls=tls[1]("127.0.0.1")),
    ):
        line = reason_of(mediator, caplog)
    assert "over TLS, which requires https:// in the endpoint" in line


def test_a_host_name_that_is_not_found_is_named(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with node(f"http://no-such-host.invalid:{port}", insecure=True) as mediator, serving_app(app_of(mediator), port):
        line = reason_of(mediator, caplog)
    assert f"GET http://no-such-host.invalid:{port}/catga/cluster/node: the host name is not found: " in line


# -- an id that is held by a record ------------------------------------------------------------------------------------


def store_of(kind: str, folder: Path) -> Discovery:
    if kind == "memory":
        return MemoryDiscovery()
    return create_discovery(f"sqlite:///{folder}/nodes.sqlite3")


def left_behind(store: Discovery, endpoint: str) -> None:
    """Write what a node leaves behind that was killed."""
    store.register(NodeRecord(ClusterNode("node-1", endpoint, incarnation="f" * 32), 7), 600.0)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize(
    ("before", "after"), [("localhost", "127.0.0.1"), ("127.0.0.1", "localhost"), ("LocalHost", "localhost.")]
)
def test_a_killed_node_is_succeeded_at_once_under_another_spelling_of_its_endpoint(
    before: str, after: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    store = store_of(kind, tmp_path)
    left_behind(store, f"http://{before}:{port}")
    with (
        node(f"http://{after}:{port}", discovery=store, insecure=True) as mediator,
        serving_app(app_of(mediator), port),
    ):
        until(lambda: any(each.node.incarnation == mediator.node.incarnation for each in store.nodes()), "it is listed")
        assert [each.node.endpoint for each in store.nodes()] == [f"http://{after}:{port}"]
        assert mediator.trouble is None
    assert "is taken" not in caplog.text


def test_an_id_that_another_living_node_has_stays_with_that_node(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryDiscovery()
    first, second = free_port(), free_port()
    with (
        node(f"http://127.0.0.1:{first}", discovery=store) as holder,
        serving_app(app_of(holder), first),
    ):
        until(lambda: store.nodes() or None, "the first one is listed")
        with node(f"http://127.0.0.1:{second}", discovery=store) as mediator, serving_app(app_of(mediator), second):
            until(lambda: "is taken by" in (mediator.trouble or ""), "the second one knows why it is not")
            line = f"node_id: 'node-1' is taken by the node at http://127.0.0.1:{first}; give every node"
            until(lambda: line in caplog.text, "the warning, once the cause has held for a while")
            assert [each.node.endpoint for each in store.nodes()] == [f"http://127.0.0.1:{first}"]


# -- a peer of which only the address is known -------------------------------------------------------------------------


def peer_line(caplog: pytest.LogCaptureFixture) -> str:
    def told() -> list[str] | None:
        lines = [each.getMessage() for each in caplog.records]
        return [line for line in lines if "does not describe itself" in line] or None

    (line,) = until(told, "a warning that tells why the peer does not describe itself")
    return line


@pytest.mark.parametrize(
    ("secrets", "found"),
    [
        (({"secret": OTHER}, {"secret": OURS}), "HTTP status 401 from node node-7 ("),
        (
            ({"insecure": True}, {"secret": OURS}),
            "HTTP status 200 from node node-7; that node does not sign with this cluster's",
        ),
        (({"secret": OTHER}, {}), "HTTP status 401 from node node-7 ("),
        (
            ({}, {"insecure": True}),
            "HTTP status 200 and no description of a node (callers without its key get only its status",
        ),
    ],
    ids=["other secret", "no secret", "secret there", "insecure here"],
)
def test_a_peer_that_refuses_this_node_is_named(
    secrets: tuple[dict[str, Any], dict[str, Any]], found: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        node(url, "node-7", **secrets[0]) as peer,
        serving_app(app_of(peer), port),
        create_cluster(Mediator(), node_id="client", peers={"node-7": url}, **secrets[1]) as client,
    ):
        client.nodes()
        line = peer_line(caplog)
        assert line in "\n".join(
            f"node node-7 does not describe itself: {text.partition(': ')[2]}"
            for text in client.explain(Ask()).troubles
        )
    assert line.startswith(f"node node-7 does not describe itself: GET {url}/catga/cluster/node: {found}")


def test_a_peer_without_the_route_is_named_and_used_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        serving_app(Flask("other"), port),
        create_cluster(Mediator(), node_id="client", peers={"dotnet-1": url}) as client,
    ):
        client.nodes()
        line = peer_line(caplog)
        assert [each.node_id for each in client.explain(Ask()).candidates] == ["dotnet-1"]
    assert "HTTP status 404; that is right for a node without this route (a .NET node); else register" in line


@pytest.mark.slow
def test_a_peer_with_a_certificate_that_is_not_trusted_is_named(
    tls: tuple[Any, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_descriptions, "INTERVAL", 0.2)
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    with (
        serving_app(Flask("other"), port, tls=tls[1]("127.0.0.1")),
        create_cluster(Mediator(), node_id="client", peers={"node-7": url}) as client,
    ):
        client.nodes()
        line = peer_line(caplog)
    assert "certificate verify failed: unable to get local issuer certificate; give verify='/path/to/ca.pem'" in line

"""A proxy that compresses and decompresses by itself leaves the signed bodies of nodes as they are."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import requests

from catga_sync import Mediator, create_cluster
from catga_sync.wire.compression import codings
from tests.conftest import require_module
from tests.external.proxies import proxy, require_proxies
from tests.process.messages import Ask
from tests.process.nodes import node
from tests.processes import until

require_module("gunicorn")
require_proxies()

pytestmark = pytest.mark.process

#: As it stands in many configurations; nginx compresses from 20 bytes on.
GZIP = "gzip on; gzip_types application/json; gzip_proxied any; client_body_buffer_size 64k;"
SECRET = "k" * 32


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """``node.test`` is a machine by its name, and this one by its address."""
    look_up = socket.getaddrinfo

    def here(name: Any, *rest: Any, **more: Any) -> Any:
        return look_up("127.0.0.1" if name == "node.test" else name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)


@pytest.mark.parametrize("compression", ["auto", pytest.param("off", marks=pytest.mark.slow)])
def test_signed_responses_pass_a_proxy_that_compresses(compression: str, tmp_path: Path) -> None:
    private = {"CATGA_RUNTIME_DIR": str(tmp_path / "private"), "DISCOVERY": f"sqlite:///{tmp_path / 'nodes'}"}
    with (
        node("n1", "proxied", SECRET=SECRET, **private) as server,
        proxy("nginx", server, tmp_path, GZIP) as before,
        create_cluster(
            Mediator(),
            node_id="client",
            cluster_name="proxied",
            peers={"n1": f"http://node.test:{before.port}"},
            secret=SECRET,
            compression=compression,
        ) as client,
    ):
        until(lambda: [each.handles is not None for each in client.nodes()] == [True], "the node describes itself")
        for text in ("x", "tea " * 150, "tea " * 2500):
            assert client.send(Ask(text)).unwrap().text == text
        # A caller that accepts gzip shows that this proxy would have compressed all of them.
        with requests.Session() as session:
            session.trust_env = False
            seen = session.get(f"{before.url}/catga/cluster/node", timeout=20)
        assert seen.headers["Content-Encoding"] == "gzip"
    lines = [line.split() for line in (tmp_path / "codings").read_text().splitlines()]
    calls = [tuple(line[1:]) for line in lines if line[0].endswith("/invoke")]
    best = codings()[0] if compression == "auto" else "-"
    assert calls == [("-", "-"), ("-", "-"), (best, best)]

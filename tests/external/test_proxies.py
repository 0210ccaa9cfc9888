"""What a stranger gets from a node behind a reverse proxy on the same machine that shows nothing of itself."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path

import pytest
import requests

from tests.conftest import require_module
from tests.external.proxies import PROXIES, proxy, require_proxies
from tests.process.nodes import node
from tests.processes import Process

require_module("gunicorn")
require_proxies()

pytestmark = pytest.mark.process


def unsigned_call(server: Process) -> tuple[int, str | None, bool]:
    """Send a call as a stranger would, under the name of this machine; return status, ``Catga-Executed``, success."""
    envelope = {
        "requestTypeName": "tests.Do",
        "responseTypeName": "tests.Answer",
        "payloadData": base64.b64encode(b'{"text":"x"}').decode(),
        "requestId": uuid.uuid4().hex,
        "timestamp": "2026-01-31T12:00:00Z",
    }
    with requests.Session() as session:
        session.trust_env = False
        response = session.post(
            f"{server.url}/catga/cluster/invoke",
            data=json.dumps(envelope),
            headers={"Host": "localhost", "Content-Type": "application/json"},
            timeout=20.0,
        )
    return response.status_code, response.headers.get("Catga-Executed"), response.json()["isSuccess"]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "nginx" else pytest.mark.slow) for kind in PROXIES]
)
@pytest.mark.parametrize(
    "secret", [pytest.param("k" * 32, id="with a secret", marks=pytest.mark.slow), pytest.param(None, id="without")]
)
def test_a_stranger_behind_a_proxy_on_the_same_machine_runs_no_handler(
    kind: str, secret: str | None, tmp_path: Path
) -> None:
    environment = {"CATGA_RUNTIME_DIR": str(tmp_path / "private"), "DISCOVERY": f"sqlite:///{tmp_path / 'nodes'}"}
    if secret is not None:
        environment["SECRET"] = secret
    with node("n1", "proxied", **environment) as server, proxy(kind, server, tmp_path) as before:
        assert unsigned_call(before) == (401, "0", False)

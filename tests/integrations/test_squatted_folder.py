"""Another user makes this user's folder first, with a store that leads to an endpoint of his: no call goes there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import require_service

ATTACKER = 65534

#: As that user: the folder of root, with a record of a node at the attacker's endpoint.
SQUAT = """
import encodings.ascii, os, sys, json
from pathlib import Path
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.nodes import ClusterNode, NodeRecord
folder, endpoint, kind, owner = Path(sys.argv[1]), sys.argv[2], sys.argv[3], os.getuid()
os.setgid(65534)
os.setuid(65534)
os.umask(0)
place = folder
if kind == "link":
    place = folder.with_name("attacker")
    folder.symlink_to(place)
place.mkdir()
place.chmod({"open": 0o777}.get(kind, 0o755))
node = ClusterNode("thief", endpoint, handles=["shop.Ask"], incarnation="i" * 32)
SqliteDiscovery(place / "default.sqlite3").register(NodeRecord(node, 1), 3600.0)
(place / "default.sqlite3").chmod(0o666)
"""

#: The victim, as a client or as a node that serves.
VICTIM = """
import json, logging, os, sys, threading
from dataclasses import dataclass
from werkzeug.serving import make_server
from catga_sync import Mediator, Query, create_cluster, message
from catga_sync.integrations.wsgi import ClusterMiddleware

logging.basicConfig(stream=sys.stderr)

@message(name="shop.Ask")
@dataclass(frozen=True)
class Ask(Query[str]):
    text: str

endpoint = None
if sys.argv[1] == "node":
    server = make_server("127.0.0.1", 0, None, threaded=True)
    endpoint = f"http://127.0.0.1:{server.server_port}"
secret = os.environ.get("CATGA_SECRET")
mediator = create_cluster(Mediator(), node_id="victim", endpoint=endpoint, secret=secret, environ={})
if endpoint is not None:
    server.app = ClusterMiddleware(lambda environ, start: [b""], mediator)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    waited = threading.Event()
    while mediator._presence.trouble is None and not mediator.nodes():
        waited.wait(0.02)
result = mediator.send(Ask("the number of a card"), timeout=20)
trouble = None if endpoint is None else mediator._presence.trouble
print(json.dumps([result.error, [each.node_id for each in mediator.nodes()], trouble]))
mediator.close()
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder for temporary files of all users; pytest's own is for one."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def thief() -> Iterator[tuple[str, list[str]]]:
    """The attacker's server: its endpoint, and the requests that it has got."""
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.requestline)
            self.send_error(503)

        do_GET = do_POST  # noqa: N815 - the name of http.server

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def run(script: str, shared: Path, *arguments: str, **variables: str) -> tuple[str, str]:
    """Return what a script writes to its output, and to its log."""
    done = processes.run("-c", script, *arguments, env={"TMPDIR": str(shared), **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


# Each kind of folder and each victim once; "make soak" tries all combinations.
@pytest.mark.parametrize(
    ("victim", "kind"),
    [
        ("client", "closed to others"),
        pytest.param("client", "open", marks=pytest.mark.slow),
        pytest.param("client", "link", marks=pytest.mark.slow),
        pytest.param("node", "closed to others", marks=pytest.mark.slow),
        ("node", "open"),
        pytest.param("node", "link", marks=pytest.mark.slow),
    ],
)
def test_no_call_goes_where_the_store_of_another_user_leads(
    shared: Path, thief: tuple[str, list[str]], kind: str, victim: str
) -> None:
    require_service(os.getuid() == 0, "needs root, to be two users")
    endpoint, got = thief
    folder = shared / f"catga-sync-{os.getuid()}"
    run(SQUAT, shared, str(folder), endpoint, kind)
    error, nodes, trouble = json.loads(run(VICTIM, shared, victim)[0])
    wanted = f"CATGA_RUNTIME_DIR: {folder} is not private: other users can write to it, or it is a link or no folder; "
    assert (got, nodes) == ([], [])
    assert wanted in error
    if victim == "node":
        assert wanted in trouble


@pytest.mark.parametrize(
    "secret", [pytest.param("", id="unsigned", marks=pytest.mark.slow), pytest.param("s" * 32, id="signed")]
)
def test_a_node_that_has_no_place_to_write_to_says_so_when_it_begins_to_serve(shared: Path, secret: str) -> None:
    (shared / "file").touch()
    variables = {"CATGA_SECRET": secret} if secret else {}
    out, log = run(VICTIM, shared, "node", CATGA_RUNTIME_DIR=str(shared / "file" / "run"), **variables)
    wanted = "run cannot be made (Not a directory); set it to a folder that can be written to"
    assert f"CATGA_RUNTIME_DIR: {shared}/file/{wanted}" in log
    assert json.loads(out)[2] is not None

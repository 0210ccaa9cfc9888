"""The folder where processes meet is chosen by the process that needs it, when it does, as the user that it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catga_sync import ClusterOptions, Mediator, Query, create_cluster
from catga_sync._runtime_dir import meeting_folder
from catga_sync.cluster.worker_group import WorkerGroup
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.receiver.replay import SqliteNonces
from tests.conftest import require_service
from tests.processes import clean_environment

NOBODY = 65534


@dataclass(frozen=True)
class Ask(Query[str]):
    """Asks anything."""


@pytest.fixture
def no_folder(default_folder: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave no place for temporary files, as in a container whose file system is read-only."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])


@pytest.mark.usefixtures("no_folder")
@pytest.mark.parametrize(
    "options",
    [
        {"secret": "s" * 32, "discovery": "memory://"},
        {"secret": "s" * 32},
        {"endpoint": "http://127.0.0.1:1", "discovery": "memory://"},
        {"endpoint": "http://127.0.0.1:1", "secret": "s" * 32},
    ],
    ids=["client", "client with the default store", "node", "node with the default store"],
)
def test_making_a_mediator_needs_no_folder(options: dict[str, Any]) -> None:
    create_cluster(Mediator(), node_id="a", **options).close()


@pytest.mark.usefixtures("no_folder")
def test_a_client_with_a_store_elsewhere_needs_no_folder_at_all() -> None:
    local = Mediator()
    with create_cluster(local, node_id="a", secret="s" * 32, discovery="memory://") as client:
        client.register(Ask, lambda request: "here")
        assert client.send(Ask()).value == "here"
        assert client.nodes() == ()


@pytest.mark.usefixtures("no_folder")
def test_a_process_without_a_folder_serves_alone(caplog: pytest.LogCaptureFixture) -> None:
    group = WorkerGroup(meeting_folder, "node")
    assert len(group.join()) == 32
    assert group.lead() is True
    assert group.leave() is True
    assert caplog.records[0].getMessage().startswith("CATGA_RUNTIME_DIR: the lock files cannot be used")


def test_the_variable_names_the_folder_and_is_read_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    group = WorkerGroup(meeting_folder, "node")
    nonces = SqliteNonces(lambda: meeting_folder() / "some.nonces")
    nodes = SqliteDiscovery(lambda: meeting_folder() / "default.sqlite3")
    monkeypatch.setenv("CATGA_RUNTIME_DIR", str(tmp_path / "run"))
    group.join()
    assert nonces.add("a", 60.0)
    assert nodes.nodes() == []
    assert nodes.path == tmp_path / "run" / "default.sqlite3"
    assert {path.suffix for path in (tmp_path / "run").iterdir()} >= {".members", ".busy", ".nonces"}
    group.leave()
    nonces.close()


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_it_lies_with_the_temporary_files(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("CATGA_RUNTIME_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("CATGA_RUNTIME_DIR", value)
    assert meeting_folder() == Path(tempfile.gettempdir()) / f"catga-sync-{os.getuid()}"


def test_the_variable_is_no_option_and_no_misspelt_one() -> None:
    assert ClusterOptions.from_env({"CATGA_NODE_ID": "a", "CATGA_RUNTIME_DIR": "/run/x"}).node_id == "a"


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder for temporary files of all users; pytest's own is for one."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


#: Makes a node as root, as a server does with --preload, and serves as another user.
SCRIPT = """
import encodings.ascii  # now: the interpreter may lie where only root can read
import os, sys
from catga_sync import Mediator, create_cluster

def serve():
    made = create_cluster(
        Mediator(), node_id="a", endpoint="http://127.0.0.1:1", secret="s" * 32, environ={}
    )
    discovery = made._membership._discovery
    def use():
        made._local_node._group.join()
        made.receiver._guard._nonces.add("a", 60.0)
        discovery.nodes()
        return discovery.shared.path.parent
    return use

use = serve()
if sys.argv[1] == "served before":
    print(use())
if os.fork() == 0:
    os.setgid(65534)
    os.setuid(65534)
    print(use(), flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("before", ["nothing", "served before"])
def test_a_process_that_becomes_another_user_meets_the_processes_of_that_user(shared: Path, before: str) -> None:
    require_service(os.getuid() == 0, "needs root, to become another user")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, before],
        env=clean_environment({"TMPDIR": str(shared)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = shared / f"catga-sync-{NOBODY}"
    assert done.stdout.splitlines()[-1] == str(folder), done.stderr
    assert {path.suffix for path in folder.iterdir()} >= {".members", ".busy", ".nonces"}
    assert {path.stat().st_uid for path in [folder, *folder.iterdir()]} == {NOBODY}

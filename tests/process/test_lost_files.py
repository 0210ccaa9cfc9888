"""``catga-sync drain`` on real nodes whose files were cleaned away: it waits for what runs, and the node stays one."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require_module
from tests.process.operators import Cluster, Held
from tests.processes import until

require_module("gunicorn")

pytestmark = pytest.mark.process


@dataclass(frozen=True)
class Cleaned(Cluster):
    """A cluster whose lock files are in a folder of its own."""

    @property
    def run_folder(self) -> Path:
        return self.file.parent / "run"

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "CATGA_RUNTIME_DIR": str(self.run_folder)}

    def incarnations(self) -> list[str]:
        return [each["incarnation"] for each in json.loads(self.run_process("nodes", "--json")[1])["nodes"]]


def remove_files(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def remove_folder(folder: Path) -> None:
    def removed() -> bool:
        with contextlib.suppress(OSError):  # a node has made a file meanwhile
            shutil.rmtree(folder)
            return True
        return False

    until(removed, "the folder is removed")


@pytest.mark.slow
@pytest.mark.parametrize("clean", [pytest.param(remove_files, id="files"), pytest.param(remove_folder, id="folder")])
def test_a_drain_waits_for_what_runs_though_the_lock_files_were_removed(tmp_path: Path, clean: object) -> None:
    cluster = Cleaned(tmp_path / "nodes.sqlite3")
    assert callable(clean)
    with cluster.node("n1", "-w", "3"):
        cluster.wait_for("n1")
        until(lambda: len(list(cluster.run_folder.iterdir())) >= 3, "the lock files are there")
        held = Held(cluster, tmp_path / "held")
        before = cluster.incarnations()
        clean(cluster.run_folder)
        draining = cluster.start("drain", "n1", "--timeout", "60")
        until(lambda: len(list(cluster.run_folder.glob("*.busy"))) == 1, "the lock files are back")
        # Every worker takes its turn: the call of one of them is all that the drain can be waiting for.
        cluster.run_process("nodes")
        assert draining.poll() is None
        assert cluster.incarnations() == before
        assert held.finish()[0] == 0
        out, err = draining.communicate(timeout=60)
        assert (draining.returncode, "drained" in out + err or "idle" in out + err) == (0, True), (out, err)

"""What the tests of the command line share: nodes to look at, and the command, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from catga_sync import ClusterOptions, NodeStatus
from catga_sync.cli.client import OperatorClient
from catga_sync.cli.main import main
from tests.processes import Process, clean_environment, free_port, running, until

ROOT = Path(__file__).parents[2]
HOOKS = ("-c", "python:catga_sync.integrations.gunicorn")


@dataclass(frozen=True)
class Cluster:
    """One cluster in a file of its own."""

    file: Path
    secret: str | None = None

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    @property
    def place(self) -> str:
        """Where the nodes are, in the words of the command."""
        return f"the SQLite file {self.file} (cluster_name 'ops')"

    @property
    def environment(self) -> dict[str, str]:
        given = {"CATGA_DISCOVERY": self.url, "CATGA_CLUSTER_NAME": "ops"}
        return given if self.secret is None else {**given, "CATGA_SECRET": self.secret}

    @contextlib.contextmanager
    def node(self, name: str, *options: str, port: int | None = None) -> Iterator[Process]:
        port = free_port() if port is None else port
        command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-k", "gthread", "--threads", "8"]
        env = {**self.environment, "CATGA_NODE_ID": name, "CATGA_ENDPOINT": f"http://127.0.0.1:{port}"}
        with running([*command, *options, "tests.process.operated:app"], port=port, cwd=ROOT, env=env) as process:
            yield process

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "catga_sync", *arguments],
            cwd=ROOT,
            env=clean_environment(self.environment if env is None else env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run the command in this process, which costs no interpreter; return exit code, stdout and stderr."""
        environment = clean_environment(self.environment if env is None else env)
        given = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(sys, "stdin", given),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(arguments)
        return code, out.getvalue(), err.getvalue()

    def run_process(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run the command as a process of its own; return exit code, stdout and stderr."""
        with self.start(*arguments) as process:
            out, err = process.communicate(stdin, timeout=90)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def json(self, *arguments: str) -> Any:
        """Run the command with ``--json``; return what it printed."""
        _, out, err = self.run(*arguments, "--json")
        assert out, err
        return json.loads(out)

    def operator(self) -> OperatorClient:
        """Return what the command looks with, for tests that look more often than a process should be started."""
        return OperatorClient(ClusterOptions(discovery=self.url, cluster_name="ops", secret=self.secret))

    def wait_for(self, *names: str) -> None:
        """Wait until exactly these nodes are in the cluster, and online."""

        with self.operator() as operator:

            def there() -> bool:
                seen = [each.node for each in operator.nodes()]
                return [node.node_id for node in seen if node.status is NodeStatus.ONLINE] == sorted(names)

            until(there, f"exactly {names} are visible")


class Held:
    """A call that runs until it is let go."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        # A process of its own: no connection of anybody else's is in the way.
        self._process = cluster.start("call", "ops.Hold", f'{{"folder": "{folder}"}}', "--timeout", "120")
        until((folder / "started").exists, "the handler has started")

    def finish(self) -> tuple[int, str]:
        (self._folder / "go").touch()
        out, err = self._process.communicate(timeout=60)
        return self._process.returncode, out + err

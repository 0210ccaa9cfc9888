"""``catga-sync serve MODULE:MEDIATOR``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catga_sync.cli.main import main
from tests import processes
from tests.conftest import require_module

require_module("grpc")

from dataclasses import dataclass  # noqa: E402

from catga_sync import Delivery, Request  # noqa: E402
from tests.grpc_calls.nodes import calling, sent_to_nobody  # noqa: E402

APP = """
    from dataclasses import dataclass
    from catga_sync import Mediator, Request, create_cluster, message

    @message(name="served.Wait")
    @dataclass(frozen=True)
    class Wait(Request[str]):
        path: str

    local = Mediator()

    @local.handler
    def wait(request: Wait) -> str:
        with open(request.path) as end:
            return end.read()

    options = {{"insecure": True, "discovery": "memory://"}}
    mediator = create_cluster(local, node_id="users", endpoint="grpc://127.0.0.1:{port}", **options)
    over_http = create_cluster(local, node_id="users", endpoint="http://127.0.0.1:1", **options)

    def app(environ, start_response):
        return []

    number = 7
"""


@dataclass(frozen=True)
class Wait(Request[str]):
    path: str


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    (folder / "served_app.py").write_text(textwrap.dedent(APP.format(port=port)))
    command = [sys.executable, "-m", "catga_sync", "serve", "served_app:mediator", "--timeout", "20"]
    environment = processes.clean_environment()
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            assert server.stderr.readline() == f"node users is served over gRPC on port {port}\n"
            yield server
        finally:
            server.kill()


@pytest.mark.slow
@pytest.mark.process
def test_it_serves_until_sigterm_and_loses_no_call(tmp_path: Path) -> None:
    port = processes.free_port()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with serving(tmp_path, port) as server, calling(f"grpc://127.0.0.1:{port}", insecure=True) as caller:
        caller.registry.register(Wait, name="served.Wait")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(caller.send, Wait(str(pipe)))
            with pipe.open("w") as end:  # returns when the handler has opened it, too
                server.send_signal(signal.SIGTERM)
                end.write("done")
            assert running.result(30).unwrap() == "done"
        assert server.wait(30) == 0
        assert sent_to_nobody(caller, Wait(str(pipe))).delivery is Delivery.NOT_EXECUTED


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "when"),
    [
        pytest.param(signal.SIGTERM, "as the app is loaded", marks=pytest.mark.slow),
        (signal.SIGTERM, "as the server starts"),
        pytest.param(signal.SIGINT, "as the app is loaded", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "as the server starts", marks=pytest.mark.slow),
    ],
)
def test_a_signal_during_the_start_is_a_clean_stop(number: signal.Signals, when: str, tmp_path: Path) -> None:
    app = textwrap.dedent(APP.format(port=processes.free_port()))
    signalled = f"os.kill(os.getpid(), {int(number)})"
    if when == "as the app is loaded":
        app = f"import os\n{signalled}\n{app}"
    else:
        app += textwrap.dedent(f"""
            import os
            attach = mediator.attach

            def attach_and_signal(**options):
                attach(**options)
                {signalled}

            mediator.attach = attach_and_signal
        """)
    app += "\nclose = mediator.close\nmediator.close = lambda: (print('closed'), close())\n"
    (tmp_path / "served_app.py").write_text(app)
    command = [sys.executable, "-m", "catga_sync", "serve", "served_app:mediator", "--timeout", "5"]
    environment = processes.clean_environment()
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "closed\n"), ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("served_app:over_http", "endpoint='grpc://host:port'"),
        ("served_app:local", "give what create_cluster() returns"),
        ("served_app:app", "gunicorn served_app:app"),
        ("served_app:number", "is no mediator but int"),
        ("served_app:missing", "cannot be loaded"),
        ("served_app", "give MODULE:MEDIATOR"),
    ],
)
def test_what_cannot_be_served_is_an_error_that_says_what_serves_it(
    target: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "served_app.py").write_text(textwrap.dedent(APP.format(port=1)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "served_app", raising=False)
    try:
        assert main(["serve", target]) == 2
        assert text in capsys.readouterr().err
    finally:
        sys.modules.pop("served_app", None)

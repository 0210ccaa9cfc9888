"""What the hooks of gunicorn tell a node of its server, whatever the worker class is written as."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from catga_sync._server_info import ServerInfo
from tests.conftest import require_module

require_module("gunicorn")

from gunicorn.config import Config  # noqa: E402
from gunicorn.workers.gthread import ThreadWorker  # noqa: E402
from gunicorn.workers.sync import SyncWorker  # noqa: E402

from catga_sync.integrations import gunicorn as hooks  # noqa: E402


class OwnThreads(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A worker of the user's own."""


@pytest.mark.parametrize(
    ("kind", "threads", "keep_alive", "timeout"),
    [
        ("sync", 1, 0.0, 20.0),
        ("gunicorn.workers.sync.SyncWorker", 1, 0.0, 20.0),
        (SyncWorker, 1, 0.0, 20.0),
        ("gthread", 4, 7.0, None),
        ("gunicorn.workers.gthread.ThreadWorker", 4, 7.0, None),
        (OwnThreads, 4, 7.0, None),
    ],
    ids=str,
)
def test_a_node_knows_its_threads_and_how_long_connections_live(
    kind: object,
    threads: int,
    keep_alive: float,
    timeout: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[ServerInfo] = []
    monkeypatch.setattr(hooks, "tell_server_info", told.append)
    monkeypatch.setattr(hooks, "_watch_sigterm", lambda: None)
    monkeypatch.setattr(hooks, "_heartbeat", heartbeat := [])
    settings = Config()
    for name, value in {"worker_class": kind, "keepalive": 7, "timeout": 20}.items():
        settings.set(name, value)
    if threads > 1:
        settings.set("threads", threads)
    with (tmp_path / "beat").open("w") as file:
        hooks.post_worker_init(SimpleNamespace(cfg=settings, tmp=file))
    os.close(heartbeat.pop())
    (info,) = told
    assert (info.threads, info.keep_alive, info.timeout) == (threads, keep_alive, timeout)
    assert info.lends_socket == (kind == "gthread")

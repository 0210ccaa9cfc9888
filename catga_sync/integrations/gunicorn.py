"""gunicorn: server hooks that tell the node what its server is, and bring it up and down with its workers.

In a ``gunicorn.conf.py``:

    from catga_sync.integrations.gunicorn import *

or on the command line:

    gunicorn -c python:catga_sync.integrations.gunicorn users:app

Nothing needs them; with them a node knows its threads, so that it can refuse what it has no thread for, and how long
its server keeps idle connections, so that callers keep theirs no longer.
"""

from __future__ import annotations

from typing import Any

from catga_sync._server_info import ServerInfo, tell_server_info

__all__ = ["post_worker_init"]


def post_worker_init(worker: Any) -> None:
    """Called by gunicorn in each worker, after the app is loaded and before the first request."""
    settings = worker.cfg
    threaded = settings.worker_class_str == "gthread"
    tell_server_info(
        ServerInfo(
            threads=settings.threads if threaded else 1,
            workers=settings.workers,
            # The sync worker closes every connection.
            keep_alive=float(settings.keepalive) if threaded else 0.0,
        )
    )

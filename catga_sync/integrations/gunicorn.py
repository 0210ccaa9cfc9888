"""gunicorn: a server hook that records the server's settings for the node.

In a ``gunicorn.conf.py``:

    from catga_sync.integrations.gunicorn import *

or on the command line:

    gunicorn -c python:catga_sync.integrations.gunicorn users:app

The hook is optional. With it a node knows the number of its threads, so that it can refuse calls for which there is no
thread, and how long its server keeps idle connections, so that callers keep theirs no longer.
"""

from __future__ import annotations

from typing import Any

from catga_sync._server_info import ServerInfo, tell_server_info

__all__ = ["post_worker_init"]


def post_worker_init(worker: Any) -> None:
    """Record the settings. gunicorn calls this in each worker after loading the app and before the first request."""
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

"""gunicorn: server hooks that record the server's settings for the node, and tidy up after a worker.

In a ``gunicorn.conf.py``:

    from catga_sync.integrations.gunicorn import *

or on the command line:

    gunicorn -c python:catga_sync.integrations.gunicorn users:app

The hooks are optional. With them a node knows the number of its threads, so that it can refuse calls for which there is
no thread, and how long its server keeps idle connections, so that callers keep theirs no longer.
"""

from __future__ import annotations

import os
from typing import Any

from catga_sync._server_info import ServerInfo, tell_server_info

__all__ = ["child_exit", "post_worker_init"]


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


def child_exit(server: Any, worker: Any) -> None:
    """Take the gauges of an ended worker out of the metrics. gunicorn calls this in its main process."""
    # The variable is that of prometheus_client, and no option.
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):  # noqa: TID251
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]

"""gunicorn: server hooks that tell the node the server's settings, end streams with their worker, and tidy up after it.

In a ``gunicorn.conf.py``:

    from catga_sync.integrations.gunicorn import *

or on the command line:

    gunicorn -c python:catga_sync.integrations.gunicorn users:app

The hooks are optional. With them a node knows the number of its threads, so that it can refuse calls for which there is
no thread, and how long its server keeps idle connections, so that callers keep theirs no longer. Calls of streams count
towards ``max_requests``. Streams take no more calls from SIGTERM on, or from the last of ``max_requests`` on, and a
worker waits for those that run, within ``graceful_timeout``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from typing import Any

from catga_sync._server_info import ServerInfo, tell_server_info
from catga_sync.receiver.streams import end_all, wait_all

__all__ = ["child_exit", "post_worker_init", "worker_exit"]

#: Seconds of the graceful timeout that are left for what comes after the streams.
_REST = 1.0

#: Seconds between two signs of life, as in gunicorn's worker.
_BEAT = 1.0

#: The monotonic time from which on the worker ends: that of the first SIGTERM, or of the last of ``max_requests``.
_ending: list[float] = []
#: The descriptor of the file whose time tells gunicorn's main process that the worker lives.
_heartbeat: list[int] = []


def post_worker_init(worker: Any) -> None:
    """Record the settings. gunicorn calls this in each worker after loading the app and before the first request."""
    settings = worker.cfg
    # Of a class of the user's own nothing is known beyond what it inherits.
    kinds = {f"{each.__module__}.{each.__qualname__}" for each in settings.worker_class.__mro__}
    sync = "gunicorn.workers.sync.SyncWorker" in kinds
    threaded = "gunicorn.workers.gthread.ThreadWorker" in kinds
    lends_socket = settings.worker_class_str == "gthread" and not settings.is_ssl
    tell_server_info(
        ServerInfo(
            # gevent's worker has a limit of connections instead.
            threads=1 if sync else settings.threads if threaded else None,
            workers=settings.workers,
            # The sync worker closes every connection.
            keep_alive=0.0 if sync else float(settings.keepalive),
            # Other workers tell that they live from a thread that serves nothing.
            timeout=float(settings.timeout) if sync and settings.timeout else None,
            lends_socket=lends_socket,
            count_call=partial(_count, worker),
        )
    )
    _ending.clear()
    # gunicorn closes its own before it calls worker_exit.
    _heartbeat[:] = [os.dup(worker.tmp.fileno())]
    if lends_socket:  # elsewhere there are no streams, and gevent's handler of a signal may start no thread
        _watch_sigterm()


def worker_exit(server: Any, worker: Any) -> None:
    """End the streams, and wait for the calls that run. gunicorn calls this at the end of each worker."""
    if worker.pid != os.getpid():
        return  # the main process has found that a worker is gone
    _beat()
    end_all("the worker ends")
    began = _ending[0] if _ending else time.monotonic()
    until = began + worker.cfg.graceful_timeout - _REST
    while not wait_all(min(_BEAT, until - time.monotonic())) and time.monotonic() < until:
        _beat()


def child_exit(server: Any, worker: Any) -> None:
    """Take the gauges of an ended worker out of the metrics. gunicorn calls this in its main process."""
    # The variable is that of prometheus_client, and no option.
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):  # noqa: TID251
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _count(worker: Any) -> None:
    worker.nr += 1
    if worker.nr >= worker.max_requests:
        if worker.alive:
            worker.log.info("Autorestarting worker after current request.")
            worker.alive = False
        _begin_ending()


def _beat() -> None:
    """Do what gunicorn's ``WorkerTmp.notify`` does: without it a worker is killed after ``timeout`` seconds."""
    now = time.monotonic()
    for each in _heartbeat:
        os.utime(each, (now, now))


def _begin_ending() -> None:
    if not _ending:
        _ending.append(time.monotonic())
        # In a thread: what a signal has interrupted may hold a lock that is needed.
        threading.Thread(target=end_all, args=("the worker ends",), name="catga-streams-end", daemon=True).start()


def _watch_sigterm() -> None:
    """Have the streams end as soon as gunicorn ends its worker, and not behind the requests that it still serves."""
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        return

    def on_sigterm(number: int, frame: Any) -> None:
        _begin_ending()
        before(number, frame)

    signal.signal(signal.SIGTERM, on_sigterm)

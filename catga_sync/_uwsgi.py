"""What uWSGI tells the process in which an app is loaded, and does to it: it forks in C, and may run no Python threads.

See ``docs/servers.md``. Outside uWSGI there is no module ``uwsgi``, and nothing of this is so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["after_fork", "is_here", "is_to_fork", "keep_alive", "processes", "stops_threads", "threads"]


def is_here() -> bool:
    """Return whether this process is one of uWSGI's."""
    return hasattr(sys.modules.get("uwsgi"), "worker_id")


def is_to_fork() -> bool:
    """Return whether this process loads the app for workers that are forked from it later, in C."""
    return is_here() and _uwsgi().worker_id() == 0


def stops_threads() -> bool:
    """Return whether Python threads stand still here between two requests."""
    # uwsgi.has_threads tells what it was compiled with.
    return is_here() and not {"enable-threads", "threads"} & _options().keys()


def after_fork(function: Callable[[], object]) -> None:
    """Have ``function`` called in each worker as it starts, after what others have asked for."""
    before = getattr(_uwsgi(), "post_fork_hook", None)

    def hook() -> None:
        if before is not None:
            before()
        function()

    _uwsgi().post_fork_hook = hook


def threads() -> int:
    """Return the requests that one process runs at once."""
    return int(_uwsgi().cores)


def processes() -> int:
    """Return how many processes serve."""
    return int(_uwsgi().numproc)


def keep_alive() -> float | None:
    """Return the seconds for which an idle connection is kept; None where another server has the connections."""
    options = _options()
    # It answers as one that keeps connections (HTTP/1.1, no "Connection: close"), and closes them.
    return 0.0 if {"http", "http-socket", "https"} & options.keys() and "http-keepalive" not in options else None


def _uwsgi() -> Any:
    return sys.modules["uwsgi"]


def _options() -> Mapping[str, Any]:
    found: Mapping[str, Any] = _uwsgi().opt
    return found

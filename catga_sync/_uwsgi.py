"""uWSGI, as far as it differs from other servers: it forks in C, and may run no Python threads.

See ``docs/servers.md``. Outside uWSGI there is no module ``uwsgi``, and ``is_here`` returns False.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["after_fork", "is_here", "is_to_fork", "keep_alive", "processes", "stops_threads", "threads"]


def is_here() -> bool:
    """Return whether this process belongs to uWSGI."""
    return hasattr(sys.modules.get("uwsgi"), "worker_id")


def is_to_fork() -> bool:
    """Return whether this process loads the app for workers that are forked from it later, in C."""
    return is_here() and _uwsgi().worker_id() == 0


def stops_threads() -> bool:
    """Return whether Python threads run only during requests in this process."""
    # uwsgi.has_threads depends on how uWSGI was compiled.
    return is_here() and not {"enable-threads", "threads"} & _options().keys()


def after_fork(function: Callable[[], object]) -> None:
    """Have ``function`` called in each worker as it starts, after hooks that were set before."""
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
    """Return the number of worker processes."""
    return int(_uwsgi().numproc)


def keep_alive() -> float | None:
    """Return the seconds that an idle connection is kept open; None where another server keeps the connections."""
    options = _options()
    # Its responses are those of a server that keeps connections (HTTP/1.1, no "Connection: close"), yet it closes them.
    return 0.0 if {"http", "http-socket", "https"} & options.keys() and "http-keepalive" not in options else None


def _uwsgi() -> Any:
    return sys.modules["uwsgi"]


def _options() -> Mapping[str, Any]:
    found: Mapping[str, Any] = _uwsgi().opt
    return found

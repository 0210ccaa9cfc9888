"""What is known of the web server around this process.

A WSGI app cannot see how many threads its server has, or how long it keeps idle connections. A server hook can, and
says it here: see ``catga_sync.integrations.gunicorn``; uWSGI tells by itself. What an app does see, with each request,
is whether it is ever called by several threads at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from catga_sync import _uwsgi

__all__ = ["ServerInfo", "notice_server", "server_info", "tell_server_info"]


@dataclass(frozen=True)
class ServerInfo:
    """Facts of the server. Immutable; None means that it is not known."""

    #: Requests that one worker process runs at once.
    threads: int | None = None
    #: Worker processes.
    workers: int | None = None
    #: Seconds for which an idle connection is kept open; 0 when none is kept.
    keep_alive: float | None = None
    #: Whether the server calls the app in several threads at once.
    multithread: bool | None = None

    @property
    def one_thread(self) -> bool:
        """Whether a worker is known to have one thread."""
        return self.threads == 1 or self.multithread is False


_told = [ServerInfo()]
_noticed: list[bool] = []


def tell_server_info(info: ServerInfo) -> None:
    """Say what the server of this process is. Called once, by a server hook."""
    _told[0] = info


def notice_server(environ: Mapping[str, Any]) -> None:
    """Take note of what a WSGI environment tells; test clients, which are no servers, name no software."""
    if not _noticed and "SERVER_SOFTWARE" in environ:
        _noticed.append(True)
        _told[0] = replace(_told[0], multithread=bool(environ.get("wsgi.multithread", True)))


def server_info() -> ServerInfo:
    """Return what was told, or what uWSGI tells, or an info that knows nothing."""
    if _told[0] == ServerInfo() and _uwsgi.is_here():
        return ServerInfo(_uwsgi.threads(), _uwsgi.processes(), _uwsgi.keep_alive())
    return _told[0]

"""What the web server around this process has told about itself, for whoever can use it.

A WSGI app cannot see how many threads its server has, or how long it keeps idle connections; a server hook can, and
says it here: see ``catga_sync.integrations.gunicorn``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ServerInfo", "server_info", "tell_server_info"]


@dataclass(frozen=True)
class ServerInfo:
    """Facts of the server. Immutable; None means that it is not known."""

    #: Requests that one worker process runs at once.
    threads: int | None = None
    #: Worker processes.
    workers: int | None = None
    #: Seconds for which an idle connection is kept open; 0 when none is kept.
    keep_alive: float | None = None


_told = [ServerInfo()]


def tell_server_info(info: ServerInfo) -> None:
    """Say what the server of this process is. Called once, by a server hook."""
    _told[0] = info


def server_info() -> ServerInfo:
    """Return what was told, or an info that knows nothing."""
    return _told[0]

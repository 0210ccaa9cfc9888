"""Facts about the web server of this process.

A WSGI app cannot see how many threads its server has, or how long it keeps idle connections. A server hook can, and
records it here: see ``catga_sync.integrations.gunicorn``; uWSGI has functions for it. The environment of each request
tells the app whether the server calls it in several threads.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from catga_sync import _uwsgi

__all__ = ["ServerInfo", "lent_socket", "notice_server", "server_info", "tell_server_info"]


@dataclass(frozen=True)
class ServerInfo:
    """Facts about the server. Immutable; None means unknown."""

    #: Requests that one worker process runs at once.
    threads: int | None = None
    #: Worker processes.
    workers: int | None = None
    #: Seconds for which an idle connection is kept open; 0 when none is kept.
    keep_alive: float | None = None
    #: Seconds after which the server ends a worker whose request still runs; None where it does not, too.
    timeout: float | None = None
    #: Whether the server calls the app in several threads at once.
    multithread: bool | None = None
    #: Whether the server lends the app the socket of a request, in a thread of its own: then there may be streams.
    lends_socket: bool = False
    #: Counts a call of a stream, for a server that ends a worker after so many requests; None: it counts none.
    count_call: Callable[[], None] | None = None

    @property
    def one_thread(self) -> bool:
        """Whether a worker is known to have one thread."""
        return self.threads == 1 or self.multithread is False


_NOTHING = ServerInfo()
_info = [_NOTHING]
_noticed: list[bool] = []


def tell_server_info(info: ServerInfo) -> None:
    """Record facts about the server of this process. Called once, by a server hook."""
    _info[0] = info


def notice_server(environ: Mapping[str, Any]) -> None:
    """Record the facts in a WSGI environment. Environments of test clients, which name no software, are ignored."""
    if not _noticed and "SERVER_SOFTWARE" in environ:
        _noticed.append(True)
        _info[0] = replace(
            _info[0],
            multithread=bool(environ.get("wsgi.multithread", True)),
            lends_socket=_info[0].lends_socket or lent_socket(environ) is not None,
        )


def lent_socket(environ: Mapping[str, Any]) -> socket.socket | None:
    """
    Return the socket of a request if a stream may take it over; None otherwise.

    That of gunicorn's threaded worker may be taken. Not that of gevent (a class of its own), which has no threads, and
    no connection over TLS, whose bytes are not those of the socket.
    """
    sock = environ.get("gunicorn.socket")
    if type(sock) is not socket.socket or socket.socket.__module__ != "socket":
        return None
    return sock if environ.get("wsgi.multithread") and environ.get("wsgi.url_scheme") == "http" else None


def server_info() -> ServerInfo:
    """Return the recorded facts, or those of uWSGI, or an object without any."""
    if "uwsgi" in sys.modules and _info[0] == _NOTHING and _uwsgi.is_here():
        return ServerInfo(_uwsgi.threads(), _uwsgi.processes(), _uwsgi.keep_alive())
    return _info[0]

"""An HTTP server in this process that lends its sockets, as gunicorn's threaded worker does: so there are streams."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Lending", "serving"]


class Lending(BaseHTTPRequestHandler):
    """Serves an app as gunicorn's threaded worker does: it keeps connections, and lends them."""

    protocol_version = "HTTP/1.1"
    app: Any
    lends = True
    #: What became of the sockets that were lent, when the app had responded: whether they were still connected.
    connected: list[bool]
    #: The sockets of all connections.
    sockets: list[socket.socket]

    def setup(self) -> None:
        super().setup()
        self.sockets.append(self.connection)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        environ: dict[str, Any] = {
            "SERVER_SOFTWARE": "gunicorn/0",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": self.path,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.version": (1, 0),
        }
        if self.lends:
            environ["gunicorn.socket"] = self.connection
        environ.update({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()})
        said: list[tuple[str, list[tuple[str, str]]]] = []
        came = self.app(environ, lambda status, headers, exc_info=None: said.append((status, headers)))
        content = b"".join(came)
        with contextlib.suppress(AttributeError):
            came.close()
        self.connected.append(_is_connected(self.connection))
        lines = [f"HTTP/1.1 {said[0][0]}", *(f"{name}: {value}" for name, value in said[0][1]), "", ""]
        try:
            self.connection.sendall("\r\n".join(lines).encode() + content)
        except OSError:
            self.close_connection = True

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def serving(app: Any, port: int, **changes: object) -> Iterator[type[Lending]]:
    """Serve an app until the block is left; the connections that were not taken over end with it."""
    handler = type("Handler", (Lending,), {"app": staticmethod(app), "connected": [], "sockets": [], **changes})
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield handler
        finally:
            server.shutdown()
            thread.join()
            for sock in handler.sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

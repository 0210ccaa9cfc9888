"""The receiver in front of any WSGI app, and the translation between WSGI and the receiver's requests and responses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

from catga_sync._server_info import lent_socket, notice_server, server_info
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError
from catga_sync.integrations._cutoff import CutOff, shut_reading
from catga_sync.integrations._hangup import hung_up
from catga_sync.integrations._takeover import take_over
from catga_sync.receiver.receiver import RawRequest, RawResponse, Receiver
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH, STREAM_PATH

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = [
    "ROUTES", "BodyFirst", "ClusterMiddleware", "Written",
    "begin_stream", "check_mediator", "end_writing", "headers_of", "raw_request", "read_first", "request_of",
]  # fmt: skip

#: The paths of the receiver.
ROUTES = frozenset({BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH, STREAM_PATH})

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

#: The key of the WSGI environment for the request whose body was read first.
_READ_REQUEST = "catga_sync.request"


def _max_slow_bodies() -> int:
    threads = server_info().threads
    return 4 if threads is None else max(1, threads // 2)


_cut_off = CutOff(_max_slow_bodies)


@lru_cache(maxsize=256)  # every request has the same few
def _header_name(key: str) -> str:
    """Return the name of the header that has this key in a WSGI environment, in lower case; "" if none has it."""
    return key[5:].replace("_", "-").lower() if key.startswith("HTTP_") else ""


def raw_request(environ: WSGIEnvironment) -> RawRequest:
    """Return the request of a WSGI environment; its body is not read yet."""
    headers = {name: value for key, value in environ.items() if (name := _header_name(key))}
    for key, name in (("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")):
        if environ.get(key):
            headers[name] = environ[key]
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
    if method in ("GET", "HEAD"):
        # There is no body. wsgiref adds text/plain where the caller has sent, and signed, no media type.
        headers.pop("content-type", None)
    stream = environ["wsgi.input"]
    sock = _socket_of(environ)
    connection = None if sock is None else _Connection(sock)
    return RawRequest(
        method=method,
        path=path,
        headers=headers,
        # read1 returns what has come; read waits for a full piece.
        read=getattr(stream, "read1", stream.read),
        content_length=headers.get("content-length"),
        terminated=bool(environ.get("wsgi.input_terminated")),
        remote_address=environ.get("REMOTE_ADDR"),
        protocol=environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
        end_at=None if connection is None else connection.end_at,
        cut=None if connection is None else connection.cut,
        hung_up=None if connection is None else connection.hung_up,
        arrived=time.monotonic(),
        takes_over=path == STREAM_PATH and lent_socket(environ) is not None,
    )


class _Connection:
    """The connection of one request, and whether its reading side was shut here."""

    __slots__ = ("_is_shut", "_sock")

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._is_shut = False

    def end_at(self, at: float) -> Callable[[], bool]:
        """End the reading of the body at that monotonic time; see ``CutOff.reading``."""
        cancel = _cut_off.reading(at, self._sock)

        def call_off() -> bool:
            self._is_shut = cancel()
            return self._is_shut

        return call_off

    def cut(self) -> None:
        """End the reading of the body now."""
        shut_reading(self._sock)

    def hung_up(self) -> bool:
        """Return whether the caller has closed its side; False where that can no longer be seen."""
        # After a shutdown of ours the kernel reports an end of the stream, which is not the caller's.
        return not self._is_shut and hung_up(self._sock)


def _socket_of(environ: WSGIEnvironment) -> Any:
    """Return the socket that the server exposes; None without one, or where it carries other requests (HTTP/2)."""
    if not environ.get("SERVER_PROTOCOL", "HTTP/1.1").startswith("HTTP/1."):
        return None
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")


def end_writing(environ: WSGIEnvironment, seconds: float) -> Callable[[], object]:
    """Limit the seconds for writing the response; return a function to call once it is written."""
    sock = _socket_of(environ)
    return (lambda: None) if sock is None else _cut_off.writing(time.monotonic() + seconds, sock)


def check_mediator(mediator: object) -> None:
    """Raise ``ConfigurationError`` unless it is a cluster mediator: a local one has no receiver."""
    if not isinstance(mediator, ClusterMediator):
        raise ConfigurationError(f"mediator: give what create_cluster() returns, not {type(mediator).__name__}")


class BodyFirst:
    """
    A WSGI app that reads the bodies of the cluster's requests before the app behind it and its hooks see them.

    Thread-safe. The app finds the body in ``wsgi.input`` as always, and ``request_of`` finds the request.
    """

    def __init__(self, app: WSGIApplication, receiver: Receiver) -> None:
        self._app = app
        self._receiver = receiver

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        notice_server(environ)
        if environ.get("PATH_INFO") in ROUTES:
            read_first(environ, self._receiver)
        return self._app(environ, start_response)


def read_first(environ: WSGIEnvironment, receiver: Receiver) -> None:
    """Read the body of a request for the cluster, and leave it in the environment for whoever reads it next."""
    raw, body = receiver.read_body(raw_request(environ))
    environ[_READ_REQUEST] = raw
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)


def request_of(environ: WSGIEnvironment) -> RawRequest:
    """Return the request that ``read_first`` has read, or else one whose body is still to be read."""
    read_already: RawRequest | None = environ.get(_READ_REQUEST)
    return raw_request(environ) if read_already is None else read_already


class ClusterMiddleware:
    """
    A WSGI app that serves the cluster's routes and passes other requests on. Thread-safe.

        application = ClusterMiddleware(application, mediator)

    Args:
        app: The app behind it.
        mediator: The mediator of this server's node.
        under_test: Returns whether the app is being tested; called repeatedly. None: unknown.

    Raises:
        ConfigurationError: ``mediator`` was not made by ``create_cluster``.

    .. versionadded:: 0.1
    """

    def __init__(
        self, app: WSGIApplication, mediator: ClusterMediator, *, under_test: Callable[[], bool] | None = None
    ) -> None:
        if not callable(app):
            raise TypeError(f"app: give a WSGI application, not {type(app).__name__}")
        check_mediator(mediator)
        self._app = app
        self._receiver = mediator.receiver
        mediator.attach(under_test)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        notice_server(environ)
        if environ.get("PATH_INFO") not in ROUTES:
            return self._app(environ, start_response)
        response = self._receiver.handle(raw_request(environ))
        if response.stream is not None:
            return begin_stream(response, environ, start_response, self._receiver)
        return send_response(response, environ, start_response)


def begin_stream(
    response: RawResponse, environ: WSGIEnvironment, start_response: Callable[..., Any], receiver: Receiver
) -> Iterable[bytes]:
    """Take the connection over for a stream; what is returned reaches nobody."""
    take_over(environ, response, receiver)
    start_response("101 Switching Protocols", [])
    return []


def send_response(
    response: RawResponse, environ: WSGIEnvironment, start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Send a response as WSGI does."""
    start_response(_STATUS_LINES[response.status], headers_of(response))
    return Written(response.body, environ, end_writing(environ, response.seconds))


def headers_of(response: RawResponse) -> list[tuple[str, str]]:
    """Return the headers of a response, its length among them."""
    return [*response.headers.items(), ("Content-Length", str(len(response.body)))]


class Written:
    """A body as a server iterates over it, and the function that it calls at the end of writing. Not thread-safe."""

    def __init__(self, body: bytes, environ: WSGIEnvironment, close: Callable[[], object]) -> None:
        self._parts = () if environ["REQUEST_METHOD"] == "HEAD" else (body,)
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)

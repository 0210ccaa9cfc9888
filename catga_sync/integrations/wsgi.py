"""The receiver in front of any WSGI app, and the translation between WSGI and the receiver's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.receiver import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH, RawReply, RawRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ROUTES", "ClusterMiddleware", "raw_request"]

#: Paths that the receiver answers.
ROUTES = frozenset({BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH})


def raw_request(environ: WSGIEnvironment) -> RawRequest:
    """Return the request of a WSGI environment; its body is not read yet."""
    headers = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    for key, name in (("CONTENT_TYPE", "content-type"), ("CONTENT_LENGTH", "content-length")):
        if environ.get(key):
            headers[name] = environ[key]
    return RawRequest(
        method=environ["REQUEST_METHOD"],
        path=environ.get("PATH_INFO", ""),
        headers=headers,
        read=environ["wsgi.input"].read,
        content_length=headers.get("content-length"),
        terminated=bool(environ.get("wsgi.input_terminated")),
        remote_address=environ.get("REMOTE_ADDR"),
        protocol=environ.get("SERVER_PROTOCOL", "HTTP/1.1"),
    )


class ClusterMiddleware:
    """
    A WSGI app that answers the cluster's own routes and passes everything else on. Thread-safe.

        application = ClusterMiddleware(application, mediator)

    Args:
        app: The app behind it.
        mediator: The node that this server is.

    .. versionadded:: 0.1
    """

    def __init__(self, app: WSGIApplication, mediator: ClusterMediator) -> None:
        if not callable(app):
            raise TypeError(f"app: give a WSGI application, not {app!r}")
        self._app = app
        self._receiver = mediator.receiver
        mediator.attach()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ.get("PATH_INFO") not in ROUTES:
            return self._app(environ, start_response)
        return send_reply(self._receiver.handle(raw_request(environ)), environ, start_response)


def send_reply(reply: RawReply, environ: WSGIEnvironment, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Send a reply the WSGI way."""
    status = f"{reply.status} {HTTPStatus(reply.status).phrase}"
    start_response(status, [*reply.headers.items(), ("Content-Length", str(len(reply.body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]

"""What is done before Django sees a request: the process is known to serve, and the cluster's bodies are read."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from django.conf import settings

from catga_sync._server_info import notice_server
from catga_sync.integrations.django import node
from catga_sync.integrations.wsgi import ROUTES, read_first

__all__ = ["before_request"]


def before_request(*, environ: dict[str, Any] | None = None, **_: Any) -> None:
    """
    Receive Django's ``request_started``, which is sent before the middleware runs.

    A middleware may read the body of a request, and Django refuses one beyond ``DATA_UPLOAD_MAX_MEMORY_SIZE``; the
    limit of the cluster's requests is ``max_body_bytes``.
    """
    if not environ:  # ASGI, or a call that came another way
        return
    notice_server(environ)
    if "SERVER_SOFTWARE" in environ:  # a test client names no software
        node.serve()
    if environ.get("PATH_INFO") not in ROUTES:
        return
    read_first(environ, node.mediator.receiver)
    # The receiver has compressed the response if the caller can read that; GZipMiddleware would change what is signed.
    environ.pop("HTTP_ACCEPT_ENCODING", None)
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is not None and int(environ["CONTENT_LENGTH"]) > limit:
        environ["wsgi.input"] = BytesIO()
        environ["CONTENT_LENGTH"] = "0"

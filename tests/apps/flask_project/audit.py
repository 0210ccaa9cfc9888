"""What apps do to a request before or after the view of another's blueprint: one of these for each request.

The header ``X-Reader`` names it. ``X-Read`` of the answer says how many bytes of the body it has seen.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Request, Response, g, request

__all__ = ["AFTER", "BEFORE", "MIDDLEWARE", "init_audit"]


def _json(given: Request) -> bytes:
    return b"" if given.get_json(silent=True) is None else given.get_data()


def _form(given: Request) -> bytes:
    return b"".join(value.encode() for value in given.form.values())


#: Readers in ``before_request``.
BEFORE: dict[str, Callable[[Request], bytes]] = {
    "data": lambda given: given.get_data(),
    "data-uncached": lambda given: given.get_data(cache=False),
    "data-parsed": lambda given: given.get_data(parse_form_data=True),
    "json": _json,
    "stream": lambda given: given.stream.read(),
    "part-of-the-stream": lambda given: given.stream.read(10),
    "form": _form,
}
#: Readers in ``after_request``.
AFTER: dict[str, Callable[[Request], bytes]] = {
    "data-after": lambda given: given.get_data(),
    "json-after": _json,
}
#: Readers in WSGI middleware, which put back what they have read.
MIDDLEWARE = ("middleware",)


class BodyLog:
    """WSGI middleware that reads a body and puts it back, as loggers of bodies do."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ.get("HTTP_X_READER") in MIDDLEWARE:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            environ["audit.read"] = len(body)
        return self._app(environ, start_response)


def init_audit(app: Flask) -> None:
    """Audit all requests of an app."""
    app.wsgi_app = BodyLog(app.wsgi_app)  # type: ignore[method-assign]  # Flask's documents say so

    @app.before_request
    def before() -> None:
        read = BEFORE.get(request.headers.get("X-Reader", ""))
        g.read = request.environ.get("audit.read", 0) if read is None else len(read(request))

    @app.after_request
    def after(response: Response) -> Response:
        read = AFTER.get(request.headers.get("X-Reader", ""))
        count = g.get("read", 0) if read is None else len(read(request))
        response.headers["X-Read"] = str(count)
        return response

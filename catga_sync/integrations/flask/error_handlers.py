"""Error pages for failed calls: what ``unwrap`` raises in a view becomes an HTTP error of the app."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import flask.globals
from flask import Flask, current_app
from werkzeug.exceptions import HTTPException, InternalServerError, default_exceptions

from catga_sync.errors import BusinessError, CallError
from catga_sync.results import CatgaResult

__all__ = ["register_error_handlers"]

#: Since 3.2 Flask's own methods have the context as an argument.
_TAKES_CONTEXT = "ctx" in inspect.signature(Flask.handle_http_exception).parameters


def register_error_handlers(app: Flask) -> None:
    """
    Have an app respond to a failed call with an HTTP error, where a view does not handle what ``unwrap`` raises.

    The status is ``http_status`` of the result. Where a handler refuses the request, which raises a ``BusinessError``,
    a page below 500 has its text; every other text stays inside, since it may name nodes or stores. The app's own error
    handlers for the status or for ``HTTPException`` make the page. A status from 500 on is logged, as Flask logs an
    error that nobody handles.

    Args:
        app: The app, with ``CatgaCluster`` or the blueprint.

    .. versionadded:: 0.1
    """
    app.register_error_handler(CallError, _respond)


def _respond(error: CallError) -> Any:
    result = error.result
    if not isinstance(result, CatgaResult):  # raised by the view itself
        result = CatgaResult.failure(str(error), error.code)
    status = result.http_status
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    context = (flask.globals.app_ctx._get_current_object(),) if _TAKES_CONTEXT else ()  # type: ignore[attr-defined]
    if status >= 500:
        app.log_exception(*context, sys.exc_info())
    text = result.error if isinstance(error, BusinessError) and status < 500 else None
    return app.handle_http_exception(*context, _http_error(status, text, error))


def _http_error(status: int, text: str | None, error: CallError) -> HTTPException:
    if status == InternalServerError.code:
        return InternalServerError(text, original_exception=error)
    made = default_exceptions.get(status, HTTPException)(text)
    made.code = status
    return made

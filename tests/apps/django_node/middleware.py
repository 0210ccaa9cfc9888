"""Middleware: one that reads the body of every request, as logs and agents do, and one that knows no user."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from django.http import HttpRequest, HttpResponse

Next = Callable[[HttpRequest], HttpResponse]


def read_body(get_response: Next) -> Next:
    """Read it before the view."""

    def middleware(request: HttpRequest) -> HttpResponse:
        len(request.body)
        return get_response(request)

    return middleware


def nobody(get_response: Next) -> Next:
    """Have nobody logged in, without the database of django.contrib.auth."""

    def middleware(request: Any) -> HttpResponse:
        request.user = SimpleNamespace(is_authenticated=False)
        return get_response(request)

    return middleware

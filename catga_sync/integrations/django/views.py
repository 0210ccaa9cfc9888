"""The view of the cluster's routes: calls of other nodes, inside the life of a request of Django."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from catga_sync.integrations.django.node import mediator
from catga_sync.integrations.django.scopes import within_request
from catga_sync.integrations.wsgi import end_writing, request_of
from catga_sync.wire.routes import INVOKE_PATH

__all__ = ["receive"]

_NO_WSGI = "the cluster's routes are served under WSGI only; run this node with gunicorn and its wsgi.py, for example\n"


class _Response(HttpResponse):
    """
    A response of the receiver.

    Its time for writing begins when the server asks for its parts, and not before: a middleware may replace it.
    """

    begin: Callable[[], Callable[[], object]]
    written: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[bytes]:
        if self.written is None:
            self.written = self.begin()
        return super().__iter__()

    def close(self) -> None:
        # First: what receivers of ``request_finished`` do may take long, or fail.
        if self.written is not None:
            self.written()
        super().close()


@csrf_exempt
def receive(request: HttpRequest) -> HttpResponse:
    """
    Serve one request of another node. Thread-safe.

    Callers prove who they are with a signature, so neither CSRF nor a login is asked for. Each call has a transaction
    of its own under ``ATOMIC_REQUESTS`` (see ``scopes.AtomicScope``): a call that has failed is a response of 200.
    """
    environ: dict[str, Any] | None = getattr(request, "environ", None)
    if environ is None:
        return HttpResponse(_NO_WSGI, status=501, content_type="text/plain")
    raw = request_of(environ)
    with within_request(raw.path == INVOKE_PATH):
        received = mediator.receiver.handle(raw)
    body = b"" if request.method == "HEAD" else received.body
    response = _Response(body, status=received.status, headers=dict(received.headers))
    response["Content-Length"] = str(len(received.body))
    # Neither Django's cache nor one between is to keep it: it is signed for one request.
    response["Cache-Control"] = "no-store, private"
    response.begin = partial(end_writing, environ, received.seconds)
    return response


# What Django's LoginRequiredMiddleware (5.1 and up) looks for: login_not_required sets it.
receive.login_required = False  # type: ignore[attr-defined]
for _alias in connections:
    receive = transaction.non_atomic_requests(using=_alias)(receive)

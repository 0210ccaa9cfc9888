"""Django: what surrounds a call, wherever it came from, is what surrounds a request of Django's own.

Behind ``ClusterMiddleware`` a call of another node never reaches Django's handler. So the signals of a request are sent
here: they close broken and outlived database connections, empty the log of queries, and whatever else an app has
connected to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.apps import apps
from django.core.signals import request_finished, request_started
from django.urls import get_urlconf

__all__ = ["DjangoScope"]

_inside: ContextVar[bool] = ContextVar("catga_sync_django", default=False)


class DjangoScope:
    """
    Django's signals of a request around each call: a ``Scope``. Thread-safe.

    .. versionadded:: 0.1
    """

    hidden = ()

    def present(self) -> bool:
        """See ``Scope``. Django sets the URLconf of a thread for as long as a request of its own is served in it."""
        return _inside.get() or get_urlconf() is not None or not apps.ready

    @contextmanager
    def enter(self) -> Iterator[None]:
        """See ``Scope``."""
        if not apps.ready:  # imported, and not set up: there is no database to look after
            yield
            return
        request_started.send(sender=type(self), environ={})
        token = _inside.set(True)
        try:
            yield
        finally:
            _inside.reset(token)
            request_finished.send(sender=type(self))

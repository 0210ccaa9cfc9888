"""Django: the signals of a request around each call from another node.

Behind ``ClusterMiddleware`` a call of another node never reaches Django's handler. So the signals of a request are sent
here: Django closes broken and old database connections and empties the log of queries on them, and apps connect more.
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
        """See ``Scope``. Django sets the URLconf of a thread while it serves a request of its own."""
        return _inside.get() or get_urlconf() is not None or not apps.ready

    @contextmanager
    def enter(self) -> Iterator[None]:
        """See ``Scope``."""
        if not apps.ready:  # imported, but not set up: there are no database connections
            yield
            return
        request_started.send(sender=type(self), environ={})
        token = _inside.set(True)
        try:
            yield
        finally:
            _inside.reset(token)
            request_finished.send(sender=type(self))

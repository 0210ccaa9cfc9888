"""What Django has around a request, around each call: the signals of a request, and a transaction.

Behind ``ClusterMiddleware`` a call of another node never reaches Django's handler, and a batch has many calls. So the
signals of a request are sent here: Django closes broken and old database connections and empties the log of queries on
them, and apps connect more. ``ATOMIC_REQUESTS`` holds for each call alike.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from django.apps import apps
from django.core.signals import request_finished, request_started
from django.db import connections, transaction
from django.urls import get_urlconf

from catga_sync.async_sends import in_send_thread

__all__ = ["AtomicScope", "DjangoScope", "keeps_connections", "within_request"]


class _Thread(threading.local):
    """What is so in one thread, as a connection is. A context variable would be copied into threads of ``asend``."""

    is_inside = False
    has_the_request = False


_thread = _Thread()


@contextmanager
def within_request(is_one_call: bool) -> Iterator[None]:
    """Note that the call that is received is the request which Django serves now, and so has its signals already."""
    before, _thread.has_the_request = _thread.has_the_request, is_one_call
    try:
        yield
    finally:
        _thread.has_the_request = before


class DjangoScope:
    """
    Django's signals of a request around each call: a ``Scope``. Thread-safe.

    .. versionadded:: 0.1
    """

    hidden = ()

    def present(self) -> bool:
        """
        See ``Scope``. Django sets the URLconf of a thread while it serves a request of its own.

        A thread with an open connection is in the middle of something, such as a command that reads from a cursor: the
        signals would close its connection. A thread of ``asend`` is in the middle of nothing, whatever it has open from
        its last call, and whichever URLconf its context variables have from the view that awaits it.
        """
        if _thread.is_inside or not apps.ready:
            return True
        if in_send_thread():
            return False
        if get_urlconf() is not None:
            return True
        return any(each.connection is not None for each in connections.all(initialized_only=True))

    @contextmanager
    def enter(self) -> Iterator[None]:
        """See ``Scope``."""
        # Imported, but not set up: there are no database connections.
        if not apps.ready or _thread.has_the_request:
            yield
            return
        request_started.send(sender=type(self), environ={})
        was_inside, _thread.is_inside = _thread.is_inside, True
        try:
            yield
        finally:
            _thread.is_inside = was_inside
            request_finished.send(sender=type(self))


class AtomicScope:
    """
    A transaction around each call, in the databases that have ``ATOMIC_REQUESTS``: a ``Scope``. Thread-safe.

    It is rolled back when the call fails, whether the handler raises or returns a failure. Within another transaction,
    such as that of a view, it is a savepoint.

    .. versionadded:: 0.1
    """

    hidden = ()

    def present(self) -> bool:
        """See ``Scope``. It is never present: a call that fails takes back its own part of a transaction alone."""
        return not _atomic_databases()

    def enter(self) -> AbstractContextManager[object]:
        """See ``Scope``."""
        databases = _atomic_databases()
        return _atomic(databases) if databases else nullcontext()


@contextmanager
def _atomic(databases: Iterable[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for alias in databases:
            stack.enter_context(transaction.atomic(using=alias))
        yield


def keeps_connections() -> bool:
    """
    Return whether a thread keeps its connection to a database between two calls.

    A stream has a thread of its own, so there would be as many connections as streams; a server has few threads.
    """
    return any(database["CONN_MAX_AGE"] != 0 for database in connections.settings.values())


def _atomic_databases() -> list[str]:
    if not apps.ready:
        return []
    return [alias for alias, database in connections.settings.items() if database["ATOMIC_REQUESTS"]]

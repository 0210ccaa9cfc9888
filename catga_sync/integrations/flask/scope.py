"""What Flask has around a call: an app context; and the mediator of the current app."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, cast

import flask.globals
from flask import Flask, current_app, has_app_context
from flask.ctx import AppContext
from werkzeug.local import LocalProxy

from catga_sync.async_sends import in_send_thread
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError

__all__ = ["EXTENSION", "FlaskScope", "mediator"]

#: The key of ``app.extensions`` for the mediator of an app.
EXTENSION = "catga_sync"
#: The context variables of Flask's contexts: one since 3.2, two before.
_REQUEST_VARIABLES = tuple(
    variable for name, variable in vars(flask.globals).items() if name in ("_cv_request", "_cv_app")
)


class _Thread(threading.local):
    """What is so in one thread. A context variable would be copied into the threads of ``asend``."""

    is_within = False


_thread = _Thread()


@dataclass(frozen=True)
class FlaskScope:
    """A ``Scope`` that gives each call an app context. Immutable."""

    app: Flask
    #: Whether a call that starts within a context of the app has one of its own, too.
    isolated: bool = False
    hidden: ClassVar[tuple[ContextVar[Any], ...]] = _REQUEST_VARIABLES

    def present(self) -> bool:
        """
        See ``Scope``.

        A thread of ``asend`` sees the context of the code that awaits it, but may not use it: one context, with its
        session of Flask-SQLAlchemy, is for one thread. There only a context that this thread has entered counts.
        """
        if self.isolated or (in_send_thread() and not _thread.is_within):
            return False
        return has_app_context() and current_app == self.app

    def enter(self) -> AbstractContextManager[None]:
        """See ``Scope``."""
        return _Within(self.app.app_context())


class _Within:
    """An app context that this thread has entered. A class: a generator would cost each call twice as much."""

    __slots__ = ("_around", "_was_within")

    def __init__(self, around: AppContext) -> None:
        self._around = around
        self._was_within = False

    def __enter__(self) -> None:
        self._around.push()
        self._was_within = _thread.is_within
        _thread.is_within = True

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        _thread.is_within = self._was_within
        self._around.__exit__(kind, exc, at)


def _of_current_app() -> ClusterMediator:
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        raise ConfigurationError(
            "app: it has no cluster mediator; register cluster_blueprint(mediator) or CatgaCluster"
        )
    return cast("ClusterMediator", found)


#: The mediator of the current app; a proxy. Thread-safe.
mediator = cast("ClusterMediator", LocalProxy(_of_current_app))

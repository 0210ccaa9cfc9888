"""What Flask has around a call: an app context; and the mediator of the current app."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import flask.globals
from flask import Flask, current_app, has_app_context
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

    @contextmanager
    def enter(self) -> Iterator[None]:
        """See ``Scope``."""
        was_within = _thread.is_within
        with self.app.app_context():
            _thread.is_within = True
            try:
                yield
            finally:
                _thread.is_within = was_within


def _of_current_app() -> ClusterMediator:
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        raise ConfigurationError(
            "app: it has no cluster mediator; register cluster_blueprint(mediator) or CatgaCluster"
        )
    return cast("ClusterMediator", found)


#: The mediator of the current app; a proxy. Thread-safe.
mediator = cast("ClusterMediator", LocalProxy(_of_current_app))

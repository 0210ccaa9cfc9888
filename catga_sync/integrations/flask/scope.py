"""What Flask has around a call: an app context; and the mediator of the current app."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import flask.globals
from flask import Flask, current_app, has_app_context
from werkzeug.local import LocalProxy

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError

__all__ = ["EXTENSION", "FlaskScope", "mediator"]

#: The key of ``app.extensions`` for the mediator of an app.
EXTENSION = "catga_sync"
#: The context variables of Flask's contexts: one since 3.2, two before.
_REQUEST_VARIABLES = tuple(
    variable for name, variable in vars(flask.globals).items() if name in ("_cv_request", "_cv_app")
)


@dataclass(frozen=True)
class FlaskScope:
    """A ``Scope`` that gives each call an app context. Immutable."""

    app: Flask
    #: Whether a call that starts within a context of the app has one of its own, too.
    isolated: bool = False
    hidden: ClassVar[tuple[ContextVar[Any], ...]] = _REQUEST_VARIABLES

    def present(self) -> bool:
        """See ``Scope``."""
        return not self.isolated and has_app_context() and current_app == self.app

    def enter(self) -> AbstractContextManager[object]:
        """See ``Scope``."""
        return self.app.app_context()


def _of_current_app() -> ClusterMediator:
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        raise ConfigurationError(
            "app: it has no cluster mediator; register cluster_blueprint(mediator) or CatgaCluster"
        )
    return cast("ClusterMediator", found)


#: The mediator of the current app; a proxy. Thread-safe.
mediator = cast("ClusterMediator", LocalProxy(_of_current_app))

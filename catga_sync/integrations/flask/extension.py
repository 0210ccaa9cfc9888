"""The Flask extension: makes each app a node, with the receiver in front of the app and its hooks."""

from __future__ import annotations

import weakref
from typing import Any

from flask import Flask

from catga_sync._environment import layered, option_values
from catga_sync._option import naming_as_written
from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError
from catga_sync.integrations.flask.command import catga_command
from catga_sync.integrations.flask.scope import EXTENSION, FlaskScope
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.mediator import Mediator
from catga_sync.options import ClusterOptions

__all__ = ["CatgaCluster"]


class CatgaCluster:
    """
    The Flask extension: makes a mediator for each app from its ``CATGA_*`` config, and serves its node.

        cluster = CatgaCluster()

        @cluster.handler
        def get_user(request: GetUserRequest) -> UserResponse:
            return UserResponse(request.user_id, current_app.config["USER_NAME"])

        def create_app():
            app = Flask(__name__)
            app.config.from_prefixed_env()
            cluster.init_app(app)
            return app

    Calls of other nodes are served in ``app.wsgi_app``, in front of the app: no hook of it (``before_request``, CSRF
    protection, a login wall, a redirect to HTTPS) sees them. Each has an app context of its own.

    Several apps of one process may share an extension: each has a mediator of its own, and the same handlers. Handlers
    are registered before the apps serve. Thread-safe from then on.

    Attributes:
        local: The mediator with the handlers.
        handler: Registers a function as a handler; see ``Mediator.handler``. A decorator.
        subscriber: Registers a function as a subscriber; see ``Mediator.subscriber``. A decorator.

    Args:
        local:
            The mediator with the handlers. None means an empty one. As with other extensions, the only argument may be
            an app: ``CatgaCluster(app)``.

        app:
            The app, where there is one only; None means that ``init_app`` is called later.

        isolated:
            Whether a call that starts in this process, such as in a view, has an app context of its own, too, and so a
            session of Flask-SQLAlchemy of its own. False means that it shares the context of its caller.

        options:
            Options that take precedence over the app's config, which takes precedence over the environment.

    Raises:
        ConfigurationError: ``local`` is neither mediator nor app, or an option is wrong.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        local: Mediator | Flask | None = None,
        app: Flask | None = None,
        *,
        isolated: bool = False,
        **options: Any,
    ) -> None:
        if app is None and isinstance(local, Flask):
            local, app = None, local
        if not (local is None or isinstance(local, Mediator)):
            raise ConfigurationError(f"local: give a Mediator, or a Flask app alone, not {type(local).__name__}")
        self.local = Mediator() if local is None else local
        self.handler = self.local.handler
        self.subscriber = self.local.subscriber
        self._isolated = isolated
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> ClusterMediator:
        """
        Make the mediator of ``app`` and serve its node in front of the app; add ``flask catga``.

        Returns:
            The mediator. ``catga_sync.integrations.flask.mediator`` is the same within a context of the app.

        Raises:
            ConfigurationError: An option is wrong, or the app has a mediator already. The text names the key of the
                app's config, or the variable of the environment.
        """
        if EXTENSION in app.extensions:
            raise ConfigurationError("app: it has a cluster mediator already; call init_app once for an app")
        given = layered(option_values(app.config), self._options)
        with naming_as_written(self._options):
            made = create_cluster(self.local, ClusterOptions.from_env(None, **given))
        app.extensions[EXTENSION] = made
        app.cli.add_command(catga_command)
        made.surroundings.add(FlaskScope(app, self._isolated))
        there = weakref.ref(app)  # the mediator's store lives longer than the app, until the node has left the cluster
        in_front = ClusterMiddleware(app.wsgi_app, made, under_test=lambda: getattr(there(), "testing", False))
        app.wsgi_app = in_front  # type: ignore[method-assign]
        return made

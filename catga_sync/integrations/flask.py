"""Flask: the receiver as a blueprint, and an extension for app factories."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import flask.globals
from flask import Blueprint, Flask, Response, current_app, has_app_context, request
from flask.blueprints import BlueprintSetupState
from werkzeug.local import LocalProxy

from catga_sync._environment import layered, option_values
from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError
from catga_sync.integrations.wsgi import ROUTES, BodyFirst, begin_stream, check_mediator, end_writing, request_of
from catga_sync.mediator import Mediator
from catga_sync.options import ClusterOptions
from catga_sync.receiver.receiver import RawResponse, Receiver
from catga_sync.wire.routes import NODE_PATH

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["CatgaCluster", "cluster_blueprint", "mediator"]

_EXTENSION = "catga_sync"
#: The context variables of Flask's contexts: one since 3.2, two before.
_REQUEST_VARIABLES = tuple(
    variable for name, variable in vars(flask.globals).items() if name in ("_cv_request", "_cv_app")
)


@dataclass(frozen=True)
class FlaskScope:
    """A ``Scope`` that gives each call an app context. Immutable."""

    app: Flask
    hidden: ClassVar[tuple[ContextVar[Any], ...]] = _REQUEST_VARIABLES

    def present(self) -> bool:
        """See ``Scope``."""
        return has_app_context() and current_app == self.app

    def enter(self) -> AbstractContextManager[object]:
        """See ``Scope``."""
        return self.app.app_context()


def cluster_blueprint(mediator: ClusterMediator, name: str = "catga_cluster") -> Blueprint:
    """
    Return a blueprint with the cluster's routes, such as ``POST /catga/cluster/invoke``.

    Register it without a ``url_prefix``. With it the process is one that serves: the node becomes visible as soon as
    its endpoint responds. Its views serve other nodes; exempt the blueprint from CSRF protection if the app has one.

    Args:
        mediator:
            The mediator of this app's node.

        name:
            The name of the blueprint; a second node in the same app needs another one.

    Raises:
        ConfigurationError: ``mediator`` was not made by ``create_cluster``. Registering the blueprint raises it where
            other nodes could not reach the routes, under a prefix, for example.

    .. versionadded:: 0.1
    """
    check_mediator(mediator)
    blueprint = Blueprint(name, __name__)

    def receive() -> Response:
        received = mediator.receiver.handle(request_of(request.environ))
        if received.stream is not None:
            return _StreamBegins(received, mediator.receiver)
        response = Response(received.body, status=received.status, headers=dict(received.headers))
        response.call_on_close(end_writing(request.environ, received.seconds))
        return response

    for path in sorted(ROUTES):
        blueprint.add_url_rule(path, path.rpartition("/")[2], receive, provide_automatic_options=False)

    def attach(state: BlueprintSetupState) -> None:
        _check_reachable(state)
        # The receiver itself refuses a wrong method, with an envelope. So the rules get any method, which is None for
        # Werkzeug, and cannot be given to Flask.
        for rule in state.app.url_map.iter_rules():
            if state.app.view_functions.get(rule.endpoint) is receive:
                rule.methods = None
        state.app.extensions.setdefault(_EXTENSION, mediator)
        app = cast("Flask", state.app)
        app.wsgi_app = BodyFirst(app.wsgi_app, mediator.receiver)  # type: ignore[method-assign]
        mediator.surroundings.add(FlaskScope(app))
        there = weakref.ref(app)  # the mediator's store lives longer than the app, until the node has left the cluster
        mediator.attach(under_test=lambda: getattr(there(), "testing", False))

    blueprint.record(attach)
    return blueprint


class _StreamBegins(Response):
    """
    The response after which a stream has the connection.

    The connection is taken over when the server asks for the response, and not before: a hook of the app that replaces
    the response refuses the stream.
    """

    def __init__(self, received: RawResponse, receiver: Receiver) -> None:
        super().__init__(status=received.status, headers=dict(received.headers))
        self._received = received
        self._receiver = receiver

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Take the connection over, unless the app has made another response of this one."""
        if self.status_code != self._received.status:
            return super().__call__(environ, start_response)
        return begin_stream(self._received, environ, start_response, self._receiver)


def _check_reachable(state: BlueprintSetupState) -> None:
    """Raise ``ConfigurationError`` if other nodes cannot reach the routes of the blueprint."""
    prefix = (state.url_prefix or "").rstrip("/")
    if prefix:
        raise ConfigurationError(
            f"url_prefix: other nodes ask for {NODE_PATH}, and it would be at {prefix}{NODE_PATH}; register "
            f"cluster_blueprint(mediator) without a url_prefix, and not inside a blueprint that has one"
        )
    if state.app.url_map.host_matching:
        raise ConfigurationError(
            "host_matching: a blueprint has no host, so no request reaches it; wrap the app instead: "
            "app.wsgi_app = ClusterMiddleware(app.wsgi_app, mediator)"
        )
    if state.subdomain and not state.app.subdomain_matching:
        raise ConfigurationError(
            f"subdomain: no request reaches {state.subdomain!r}, for the app matches no subdomains; register "
            f"cluster_blueprint(mediator) without a subdomain, and not inside a blueprint that has one"
        )


class CatgaCluster:
    """
    The Flask extension: makes a mediator for each app from its ``CATGA_*`` config.

        cluster = CatgaCluster(local)

        def create_app():
            app = Flask(__name__)
            app.config.from_prefixed_env()
            cluster.init_app(app)
            return app

    Args:
        local:
            The mediator with the handlers. None means an empty one, for an app that only sends. As with other
            extensions, the only argument may be an app: ``CatgaCluster(app)``.

        app:
            The app, where there is one only; None means that ``init_app`` is called later.

        options:
            Options that take precedence over the app's config, which takes precedence over the environment.

    Raises:
        ConfigurationError: ``local`` is neither mediator nor app, or an option is wrong.

    .. versionadded:: 0.1
    """

    def __init__(self, local: Mediator | Flask | None = None, app: Flask | None = None, **options: Any) -> None:
        if app is None and isinstance(local, Flask):
            local, app = None, local
        if not (local is None or isinstance(local, Mediator)):
            raise ConfigurationError(f"local: give a Mediator, or a Flask app alone, not {type(local).__name__}")
        self.local = Mediator() if local is None else local
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> ClusterMediator:
        """Make the mediator of ``app``, register its routes, and return it."""
        if _EXTENSION in app.extensions:
            raise ConfigurationError("app: it has a cluster mediator already; call init_app once for an app")
        given = layered(option_values(app.config), self._options)
        made = create_cluster(self.local, ClusterOptions.from_env(None, **given))
        app.register_blueprint(cluster_blueprint(made))
        return made


def _of_current_app() -> ClusterMediator:
    found = current_app.extensions.get(_EXTENSION)
    if found is None:
        raise ConfigurationError(
            "app: it has no cluster mediator; register cluster_blueprint(mediator) or CatgaCluster"
        )
    return cast("ClusterMediator", found)


#: The mediator of the current app; a proxy.
mediator = cast("ClusterMediator", LocalProxy(_of_current_app))

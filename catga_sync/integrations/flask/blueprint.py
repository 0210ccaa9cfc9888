"""The receiver as a blueprint of Flask: behind the hooks of the app, as any view."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import Blueprint, Flask, Response, current_app, request
from flask.blueprints import BlueprintSetupState
from werkzeug.datastructures import Headers

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError
from catga_sync.integrations.flask.scope import EXTENSION, FlaskScope
from catga_sync.integrations.wsgi import (
    ROUTES,
    BodyFirst,
    Written,
    begin_stream,
    check_mediator,
    end_writing,
    headers_of,
    request_of,
)
from catga_sync.receiver.receiver import RawResponse, Receiver
from catga_sync.wire.routes import NODE_PATH

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["cluster_blueprint"]


def cluster_blueprint(mediator: ClusterMediator, name: str = "catga_cluster", *, isolated: bool = False) -> Blueprint:
    """
    Return a blueprint with the cluster's routes, such as ``POST /catga/cluster/invoke``.

    Register it without a ``url_prefix``. With it the process is one that serves: the node becomes visible as soon as
    its endpoint responds.

    Hooks of the app (``before_request``, ``after_request``) see the calls of other nodes, and a hook that refuses them
    keeps the node from being found; ``CatgaCluster`` serves in front of all hooks. Callers sign their requests, so the
    blueprint exempts itself from the ``CSRFProtect`` of Flask-WTF.

    Args:
        mediator:
            The mediator of this app's node.

        name:
            The name of the blueprint; a second node in the same app needs another one.

        isolated:
            Whether a call that starts in this process has an app context of its own, too; see ``CatgaCluster``.

    Raises:
        ConfigurationError: ``mediator`` was not made by ``create_cluster``. Registering the blueprint raises it where
            other nodes could not reach the routes, under a prefix, for example.

    .. versionadded:: 0.1
    """
    check_mediator(mediator)
    blueprint = Blueprint(name, __name__)

    def receive() -> Response:
        received = mediator.receiver.handle(request_of(request.environ))
        return _Served(received) if received.stream is None else _StreamBegins(received, mediator.receiver)

    for path in sorted(ROUTES):
        blueprint.add_url_rule(path, path.rpartition("/")[2], receive, provide_automatic_options=False)

    # Before any before_request of the app, and whichever of the two extensions was there first.
    @blueprint.url_value_preprocessor
    def exempt(endpoint: str | None, values: dict[str, Any] | None) -> None:
        csrf = current_app.extensions.get("csrf")
        if csrf is not None and hasattr(csrf, "exempt"):
            csrf.exempt(current_app.blueprints[request.blueprint or name])

    def attach(state: BlueprintSetupState) -> None:
        _check_reachable(state)
        # The receiver itself refuses a wrong method, with an envelope. So the rules get any method, which is None for
        # Werkzeug, and cannot be given to Flask.
        for rule in state.app.url_map.iter_rules():
            if state.app.view_functions.get(rule.endpoint) is receive:
                rule.methods = None
        state.app.extensions.setdefault(EXTENSION, mediator)
        app = cast("Flask", state.app)
        app.wsgi_app = BodyFirst(app.wsgi_app, mediator.receiver)  # type: ignore[method-assign]
        mediator.surroundings.add(FlaskScope(app, isolated))
        there = weakref.ref(app)  # the mediator's store lives longer than the app, until the node has left the cluster
        mediator.attach(under_test=lambda: getattr(there(), "testing", False))

    blueprint.record(attach)
    return blueprint


#: The methods of a response that write it, which a hook may have replaced.
_REPLACEABLE = frozenset({"get_app_iter", "get_wsgi_headers", "get_wsgi_response", "iter_encoded"})


class _Served(Response):
    """
    A response of the receiver.

    Its time for writing begins when the server asks for it, and not before: a hook of the app may replace it.
    """

    def __init__(self, received: RawResponse) -> None:
        headers = Headers()
        headers[:] = headers_of(received)
        super().__init__([received.body], received.status, headers)
        self._received = received
        self._made = (self.status, headers.to_wsgi_list())
        self._written: Callable[[], object] | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Limit the time for writing, too."""
        made = (self.status, self.headers.to_wsgi_list())
        parts: Iterable[bytes]
        as_made = type(self) is _Served and not self.__dict__.keys() & _REPLACEABLE
        if as_made and made == self._made and self.response == [self._received.body]:
            # No hook has changed it. It is complete as it is, and Werkzeug would copy each part of it.
            start_response(*made)
            parts = Written(self._received.body, environ, self.close)
        else:
            parts = super().__call__(environ, start_response)
        self._written = end_writing(environ, self._received.seconds)
        return parts

    def close(self) -> None:
        """Note first that it is written: what the app does at the end of a response may take long, or fail."""
        if self._written is not None:
            self._written()
        super().close()


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

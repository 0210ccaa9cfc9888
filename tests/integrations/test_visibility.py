"""A node that means to serve and is not visible says why: once, with the URL asked, what came back, and the cure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, redirect
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from catga_sync import ClusterMediator
from catga_sync.errors import ConfigurationError
from catga_sync.integrations.flask import CatgaCluster, cluster_blueprint
from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.integrations.visible import Ask, app_of, node, reason_of, warn_soon
from tests.processes import free_port, until
from tests.unit.serving import serving_app


@pytest.fixture(autouse=True)
def _little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    warn_soon(monkeypatch)


# -- an app that is in the way -----------------------------------------------------------------------------------------


def login_page(app: Flask) -> None:
    app.before_request(lambda: redirect("/login?next=/catga/cluster/node&token=secret"))


def bare_401(app: Flask) -> None:
    app.before_request(lambda: abort(401))


def csrf_page(app: Flask) -> None:
    app.before_request(lambda: Response("<h1>CSRF</h1>", 403))


def to_https(app: Flask) -> None:
    app.before_request(lambda: redirect("https://127.0.0.1/catga/cluster/node"))


def failing(app: Flask) -> None:
    app.before_request(lambda: 1 / 0)


def maintenance(app: Flask) -> None:
    app.before_request(lambda: Response("later", 503))


def single_page(app: Flask) -> None:
    app.before_request(lambda: "<h1>one page for every path</h1>")


def trusted_hosts(app: Flask) -> None:
    app.config["TRUSTED_HOSTS"] = ["example.com"]


PAST_THE_LOGIN = (
    "let all paths under /catga/cluster/ past the app's login and other checks (before_request, middleware)"
)


@pytest.mark.parametrize(
    ("prepare", "found", "cure"),
    [
        (login_page, "HTTP status 302, a redirect to /login; ", PAST_THE_LOGIN),
        pytest.param(bare_401, "HTTP status 401; ", PAST_THE_LOGIN, marks=pytest.mark.slow),
        pytest.param(csrf_page, "HTTP status 403; ", PAST_THE_LOGIN, marks=pytest.mark.slow),
        (to_https, "HTTP status 302, a redirect to https://127.0.0.1/catga/cluster/node; ", "write https:// in"),
        (failing, "HTTP status 500; ", "the app fails before the node is asked, and its log tells where"),
        (maintenance, "HTTP status 503; ", "the server or proxy there is overloaded, or does not reach the app"),
        (single_page, "HTTP status 200 and no description of a node; ", "another server responds there, or a page of"),
        (trusted_hosts, "HTTP status 400; ", "have the server accept the endpoint's host (TRUSTED_HOSTS"),
    ],
)
def test_an_app_that_answers_before_the_node_does_is_named(
    prepare: Callable[[Flask], None], found: str, cure: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with node(f"http://127.0.0.1:{port}") as mediator, serving_app(app_of(mediator, prepare), port):
        line = reason_of(mediator, caplog)
    assert f": GET http://127.0.0.1:{port}/catga/cluster/node: {found}{cure}" in line
    assert "secret" not in line


def test_a_node_that_becomes_visible_after_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "catga_sync")
    closed = [True]
    port = free_port()

    def wall(app: Flask) -> None:
        app.before_request(lambda: abort(401) if closed else None)

    with node(f"http://127.0.0.1:{port}") as mediator, serving_app(app_of(mediator, wall), port):
        reason_of(mediator, caplog)
        closed.clear()
        until(lambda: mediator.trouble is None, "nothing is wrong any more")
        assert [each.node_id for each in mediator.nodes()] == ["node-1"]
        assert "this node" not in str(mediator.explain(Ask()))
    assert "node node-1 is visible to other nodes now" in caplog.messages


# -- routes that are not where nodes look ------------------------------------------------------------------------------


def prefixed(app: Flask, blueprint: Blueprint) -> None:
    app.register_blueprint(blueprint, url_prefix="/x")


def inside_a_prefixed_one(app: Flask, blueprint: Blueprint) -> None:
    outer = Blueprint("outer", __name__, url_prefix="/x")
    outer.register_blueprint(blueprint)
    app.register_blueprint(outer)


def below_both(app: Flask, blueprint: Blueprint) -> None:
    outer = Blueprint("outer", __name__)
    outer.register_blueprint(blueprint, url_prefix="/y")
    app.register_blueprint(outer, url_prefix="/x")


def on_a_subdomain(app: Flask, blueprint: Blueprint) -> None:
    app.register_blueprint(blueprint, subdomain="api")


def inside_one_on_a_subdomain(app: Flask, blueprint: Blueprint) -> None:
    outer = Blueprint("outer", __name__, subdomain="api")
    outer.register_blueprint(blueprint)
    app.register_blueprint(outer)


@pytest.mark.parametrize(
    ("register", "error"),
    [
        (prefixed, r"^url_prefix: .* it would be at /x/catga/cluster/node; register"),
        (inside_a_prefixed_one, r"^url_prefix: .* it would be at /x/catga/cluster/node; register"),
        (below_both, r"^url_prefix: .* it would be at /x/y/catga/cluster/node; register"),
        (on_a_subdomain, r"^subdomain: no request reaches 'api'"),
        (inside_one_on_a_subdomain, r"^subdomain: no request reaches 'api'"),
    ],
)
def test_routes_that_no_node_could_ask_for_are_an_error_at_start(
    register: Callable[[Flask, Blueprint], None], error: str
) -> None:
    with node("http://127.0.0.1:9") as mediator, pytest.raises(ConfigurationError, match=error):
        register(Flask(__name__), cluster_blueprint(mediator))


@pytest.mark.parametrize("prefix", ["", "/", None])
def test_a_prefix_that_changes_nothing_is_fine(prefix: str | None) -> None:
    with node("http://127.0.0.1:9") as mediator:
        app = Flask(__name__)
        app.register_blueprint(cluster_blueprint(mediator), url_prefix=prefix)
        assert app.test_client().get("/catga/cluster/node").status_code == 200


def test_an_app_that_matches_hosts_takes_the_extension_or_the_middleware_and_says_so_at_start() -> None:
    app = Flask(__name__, host_matching=True, static_host="example.com")
    app.config.update(CATGA_NODE_ID="node-1", CATGA_DISCOVERY="memory://hosts")
    with CatgaCluster().init_app(app):
        assert app.test_client().get("/catga/cluster/node").status_code == 200
    app = Flask(__name__, host_matching=True, static_host="example.com")
    with node("http://127.0.0.1:9") as mediator:
        with pytest.raises(ConfigurationError, match=r"^host_matching: .* ClusterMiddleware"):
            app.register_blueprint(cluster_blueprint(mediator))
        app.wsgi_app = ClusterMiddleware(app.wsgi_app, mediator)  # type: ignore[method-assign]
        assert app.test_client().get("/catga/cluster/node").status_code == 200


ROUTES = "register cluster_blueprint(mediator) without url_prefix or subdomain at the app that is served there; where"


def server_name(mediator: ClusterMediator) -> Any:
    return app_of(mediator, lambda app: app.config.update(SERVER_NAME="example.com"), subdomain_matching=True)


def subdomain(mediator: ClusterMediator) -> Any:
    app = Flask(__name__, subdomain_matching=True)
    app.config["SERVER_NAME"] = "localhost"
    app.register_blueprint(cluster_blueprint(mediator), subdomain="api")
    return app


def mounted(mediator: ClusterMediator) -> Any:
    return DispatcherMiddleware(Flask("front"), {"/shop": app_of(mediator).wsgi_app})


@pytest.mark.filterwarnings("ignore:Current server name:UserWarning")
@pytest.mark.parametrize("make", [server_name, pytest.param(subdomain, marks=pytest.mark.slow), mounted])
def test_routes_that_the_server_does_not_lead_to_are_named(
    make: Callable[[ClusterMediator], Any], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with node(f"http://127.0.0.1:{port}") as mediator, serving_app(make(mediator), port):
        line = reason_of(mediator, caplog)
    assert f"GET http://127.0.0.1:{port}/catga/cluster/node: HTTP status 404; {ROUTES}" in line
    assert "SERVER_NAME" in line

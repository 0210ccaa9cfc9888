"""
An app factory with a database, a login wall, protection against forged forms, an audit and error pages.

    FLASK_SQLALCHEMY_DATABASE_URI    the database
    FLASK_CATGA_...                  options of the cluster
    FLASK_WALL                       the login wall: "shop" leaves the cluster's routes out; "all" does not; or "none"
    FLASK_RECEIVER                   "front": in front of the app; "blueprint": behind its hooks
    FLASK_SHOP_LOGS                  1 configures the log of the process
"""

from __future__ import annotations

import logging.config
from typing import Any

from flask import Flask, Response, jsonify, request
from flask_login import LoginManager, UserMixin, current_user
from flask_wtf import CSRFProtect
from werkzeug.exceptions import HTTPException

from catga_sync import ClusterOptions, Mediator, create_cluster
from catga_sync.integrations.flask import CatgaCluster, cluster_blueprint, mediator
from tests.apps.flask_project.audit import init_audit
from tests.apps.flask_project.models import Stock, db
from tests.apps.flask_project.orders import register_handlers
from tests.apps.logs import LOGGING
from tests.apps.messages import PIECES, CountOrders, PlaceInDjango

CLUSTER = "catga_cluster"


def create_app(local: Mediator | None = None, **config: Any) -> Flask:
    """
    Make the app.

    Args:
        local: The handlers; None means those of the shop.
        config: Wins over the environment.
    """
    app = Flask(__name__)
    app.config.update(SECRET_KEY="of these tests only", WALL="all", RECEIVER="front")
    app.config.from_prefixed_env()
    app.config.update(config)
    if app.config.get("SHOP_LOGS"):
        logging.config.dictConfig(LOGGING)
        app.logger.info("the shop is open")
    db.init_app(app)
    local = register_handlers(Mediator()) if local is None else local
    if app.config["RECEIVER"] == "front":
        CatgaCluster(local).init_app(app)
    else:
        app.register_blueprint(cluster_blueprint(create_cluster(local, ClusterOptions.from_mapping(app.config))))
    CSRFProtect(app)
    init_audit(app)
    _init_login(app)

    @app.errorhandler(HTTPException)
    def error_page(error: HTTPException) -> tuple[str, int]:
        return f"<h1>{error.name}</h1>", error.code or 500

    @app.get("/orders/<number>")
    def order(number: str) -> Response:
        return jsonify(count=mediator.send(CountOrders(number)).unwrap())

    @app.get("/place-in-django/<number>")
    def place_in_django(number: str) -> Response:
        result = mediator.send(PlaceInDjango(number), timeout=20.0)
        return jsonify(is_success=bool(result), code=result.code, delivery=result.delivery)

    @app.cli.command("init-db")
    def init_db() -> None:
        db.create_all()
        db.session.add(Stock(name="tea", pieces=PIECES))
        db.session.commit()

    return app


def _init_login(app: Flask) -> None:
    login = LoginManager(app)
    login.login_view = app.config.get("LOGIN_VIEW")
    login.user_loader(lambda user_id: UserMixin())
    app.add_url_rule("/login", "login", lambda: "Please log in.")

    @app.before_request
    def wall() -> Any:
        if request.blueprint == CLUSTER and app.config["WALL"] == "shop":
            return None
        if request.endpoint == "login" or current_user.is_authenticated or app.config["WALL"] == "none":
            return None
        return login.unauthorized()

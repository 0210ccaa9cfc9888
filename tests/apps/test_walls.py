"""A Flask app whose cluster routes are walled off: the node says so once, with the answer that it got."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import abort

from catga_sync import ClusterMediator, Delivery, Mediator, create_cluster
from catga_sync.integrations.flask import cluster_blueprint
from tests.apps.messages import CountOrders
from tests.apps.servers import serving
from tests.conftest import require_module
from tests.processes import free_port, until

for needed in ("flask_sqlalchemy", "flask_login", "flask_wtf"):
    require_module(needed)

from tests.apps.flask_project.app import create_app  # noqa: E402 - needs what is optional
from tests.apps.flask_project.models import db  # noqa: E402

#: Further answers to the node's own questions, during which nothing new is to be said.
MORE = 4


def is_under_maintenance() -> None:
    abort(503)


def crashes() -> None:
    raise RuntimeError("the session store is down")


class Walled:
    """An app whose wall can be taken down, as a node behind a server. Not thread-safe."""

    def __init__(self, folder: Path, wall: Callable[[], None] | None, **config: Any) -> None:
        self.port = free_port()
        self.asked = 0
        self.open = False
        self.app = create_app(
            SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'shop.sqlite3'}",
            CATGA_NODE_ID="shop",
            CATGA_ENDPOINT=f"http://127.0.0.1:{self.port}",
            CATGA_DISCOVERY=f"memory://{uuid.uuid4().hex}",
            CATGA_HEARTBEAT_INTERVAL=0.2,
            **{"RECEIVER": "blueprint", "WALL": "shop", **config},
        )
        self.mediator: ClusterMediator = self.app.extensions["catga_sync"]
        # Before the login wall, as a hook of an extension that was registered first.
        self.app.before_request_funcs.setdefault(None, []).insert(0, self._count(wall))

    def _count(self, wall: Callable[[], None] | None) -> Callable[[], None]:
        def before() -> None:
            self.asked += 1
            if wall is not None and not self.open:
                wall()

        return before

    def take_down(self) -> None:
        self.open = True
        self.app.config["WALL"] = "shop"

    @property
    def visible(self) -> bool:
        return [node.node_id for node in self.mediator.nodes()] == ["shop"]


def warnings(caplog: pytest.LogCaptureFixture, port: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("catga_sync")
        and record.levelno >= logging.WARNING
        and str(port) in record.getMessage()
    ]


@pytest.mark.parametrize(
    ("wall", "config", "status"),
    [
        pytest.param(None, {"WALL": "all", "LOGIN_VIEW": "login"}, "302", id="a login page", marks=pytest.mark.slow),
        pytest.param(None, {"WALL": "all"}, "401", id="a login wall"),
        pytest.param(is_under_maintenance, {}, "503", id="a page of maintenance", marks=pytest.mark.slow),
        pytest.param(crashes, {}, "500", id="a hook that fails", marks=pytest.mark.slow),
    ],
)
def test_a_node_behind_a_wall_says_once_what_its_own_endpoint_answers_and_is_visible_when_that_is_gone(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    wall: Callable[[], None] | None,
    config: dict[str, Any],
    status: str,
) -> None:
    monkeypatch.setattr("catga_sync.cluster.presence._PROBE_TIMEOUT", 20.0)  # one cause, on a busy machine too
    monkeypatch.setattr("catga_sync.cluster.presence._LAST_LOOK", 0.1)
    walled = Walled(tmp_path, wall, **config)
    with walled.mediator, serving(walled.app, walled.port):
        until(lambda: bool(warnings(caplog, walled.port)), "the node says that it is not visible")
        asked = walled.asked
        until(lambda: walled.asked >= asked + MORE, "the node has asked again")
        [said] = warnings(caplog, walled.port)
        assert f"http://127.0.0.1:{walled.port}/catga/cluster/node" in said
        assert status in said
        assert not walled.visible
        walled.take_down()
        until(lambda: walled.visible, "the node is visible")
        assert warnings(caplog, walled.port) == [said]


def test_a_call_that_a_hook_answers_in_place_of_the_node_tells_where_and_with_what(tmp_path: Path) -> None:
    walled = Walled(tmp_path, lambda: abort(400))
    peers = {"shop": f"http://127.0.0.1:{walled.port}"}
    with (
        walled.mediator,
        serving(walled.app, walled.port),
        create_cluster(Mediator(), node_id="client", discovery="static", peers=peers) as client,
    ):
        told = client.send(CountOrders("x"))
    assert not told
    assert told.delivery is not Delivery.EXECUTED
    assert peers["shop"] in (told.error or "")
    assert "400" in (told.error or "")


@pytest.mark.parametrize("wall", [None, is_under_maintenance, crashes])
def test_no_wall_of_an_app_stands_before_the_extension(tmp_path: Path, wall: Callable[[], None] | None) -> None:
    walled = Walled(tmp_path, wall, RECEIVER="front", WALL="all", LOGIN_VIEW="login")
    with walled.mediator, serving(walled.app, walled.port):
        until(lambda: walled.visible, "the node is visible")
    assert walled.asked == 0


def test_the_blueprint_needs_no_token_of_csrf_protection_that_comes_after_it(tmp_path: Path) -> None:
    walled = Walled(tmp_path, None)
    assert walled.app.extensions["csrf"] is not None
    with walled.app.app_context():
        db.create_all()
    peers = {"shop": f"http://127.0.0.1:{walled.port}"}
    with (
        walled.mediator,
        serving(walled.app, walled.port),
        create_cluster(Mediator(), node_id="client", discovery="static", peers=peers) as client,
    ):
        assert client.send(CountOrders("x")).unwrap() == 0
    with walled.app.app_context():
        db.engine.dispose()


def test_it_needs_none_either_where_the_server_serves_the_app_as_it_was_before(tmp_path: Path) -> None:
    from flask import Flask
    from flask_wtf import CSRFProtect
    from werkzeug.test import Client

    app = Flask(__name__)
    app.secret_key = "not one"
    CSRFProtect(app)
    served = app.wsgi_app  # as ProxyFix(app.wsgi_app) has it
    with create_cluster(
        Mediator(), node_id="shop", endpoint="http://127.0.0.1:1", discovery="memory://x", insecure=True, environ={}
    ) as mediator:
        app.register_blueprint(cluster_blueprint(mediator))
        response = Client(served).post("/catga/cluster/invoke", data=b"[]", content_type="application/json")
    assert response.json is not None  # the receiver's envelope, and not the page of the extension
    assert response.json["processedByNodeId"] == "shop"

"""What Flask apps put before and after their views: none of it sees, changes or refuses a call to ``CatgaCluster``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from flask import Flask, Response, redirect, request

from catga_sync import BusinessError, ClusterMediator, Mediator, Request, create_cluster
from catga_sync.integrations.flask import CatgaCluster
from tests.apps.servers import serving
from tests.conftest import require_module
from tests.processes import free_port, until

for needed in ("flask_compress", "flask_login", "flask_wtf"):
    require_module(needed)

from flask_compress import Compress  # noqa: E402 - it is optional
from flask_login import LoginManager, current_user  # noqa: E402
from flask_wtf import CSRFProtect  # noqa: E402

PAGE = "tea and biscuits " * 500


@dataclass(frozen=True)
class Repeat(Request[str]):
    text: str
    times: int


def repeat(asked: Repeat) -> str:
    if asked.times == 0:
        raise BusinessError("sold out", code="SOLD_OUT")
    return asked.text * asked.times


def redirects_to_https(app: Flask) -> None:
    """As Flask-Talisman does, with headers of its own on each response."""

    @app.before_request
    def force_https() -> Any:
        return None if request.is_secure else redirect(request.url.replace("http://", "https://", 1), code=302)

    @app.after_request
    def set_headers(response: Response) -> Response:
        response.headers["Strict-Transport-Security"] = "max-age=31556926"
        return response


def compresses(app: Flask) -> None:
    app.config["COMPRESS_MIN_SIZE"] = 1
    app.config["COMPRESS_MIMETYPES"] = ["text/html", "application/json", "application/octet-stream"]
    Compress(app)


def reads_the_body(app: Flask) -> None:
    @app.before_request
    def read() -> None:
        request.stream.read()


def reads_forms_of_a_few_bytes(app: Flask) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10

    @app.before_request
    def read() -> None:
        request.get_data(parse_form_data=True)


def demands_a_login(app: Flask) -> None:
    login = LoginManager(app)
    login.user_loader(lambda user_id: None)

    @app.before_request
    def wall() -> Any:
        return None if current_user.is_authenticated else login.unauthorized()


def demands_a_token(app: Flask) -> None:
    CSRFProtect(app)


#: Each with what it does to a form that is sent to a page.
GUARDS: dict[Callable[[Flask], None], Callable[[requests.Response], bool]] = {
    redirects_to_https: lambda page: page.status_code == 302 and "Strict-Transport-Security" in page.headers,
    compresses: lambda page: "Content-Encoding" in page.headers,
    reads_the_body: lambda page: page.json() == {},
    reads_forms_of_a_few_bytes: lambda page: page.status_code == 413,
    demands_a_login: lambda page: page.status_code == 401,
    demands_a_token: lambda page: page.status_code == 400 and "CSRF" in page.text,
}


@pytest.fixture(params=["before the extension", "after the extension"])
def order(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=GUARDS, ids=lambda guard: guard.__name__)
def guard(request: pytest.FixtureRequest) -> Callable[[Flask], None]:
    return request.param


@dataclass
class Guarded:
    url: str
    #: The paths that a hook of the app has seen.
    seen: list[str]


@pytest.fixture
def guarded(guard: Callable[[Flask], None], order: str) -> Iterator[Guarded]:
    app, port, seen = Flask(__name__), free_port(), []
    app.config.update(
        SECRET_KEY="of these tests only",
        CATGA_NODE_ID="shop",
        CATGA_ENDPOINT=f"http://127.0.0.1:{port}",
        CATGA_DISCOVERY=f"memory://{uuid.uuid4().hex}",
    )
    cluster = CatgaCluster()
    cluster.handler(repeat)
    app.before_request(lambda: seen.append(request.path))
    for init in (guard, cluster.init_app) if order.startswith("before") else (cluster.init_app, guard):
        init(app)
    app.add_url_rule("/page", view_func=lambda: dict(request.form), methods=["POST"])
    mediator: ClusterMediator = app.extensions["catga_sync"]
    with mediator, serving(app, port):
        until(lambda: bool(mediator.nodes()), "the node is visible")
        yield Guarded(f"http://127.0.0.1:{port}", seen)


def test_a_call_of_another_node_is_answered_as_if_there_were_none(guarded: Guarded) -> None:
    with create_cluster(Mediator(), node_id="web", discovery="static", peers={"shop": guarded.url}) as client:
        assert client.send(Repeat("tea", 2)).unwrap() == "teatea"
        assert client.send(Repeat(PAGE, 3)).unwrap() == PAGE * 3
        assert client.send(Repeat("tea", 0)).code == "SOLD_OUT"
        batch = client.send_batch([Repeat("tea", times) for times in range(4)])
        assert [each.value for each in batch] == [None, "tea", "teatea", "teateatea"]
    assert guarded.seen == []


def test_the_pages_of_the_app_stay_guarded(guarded: Guarded, guard: Callable[[Flask], None]) -> None:
    with requests.Session() as session:
        session.trust_env = False
        page = session.post(f"{guarded.url}/page", data={"text": "tea" * 9}, allow_redirects=False, timeout=30)
    assert GUARDS[guard](page), (page.status_code, page.headers, page.text)
    assert guarded.seen == ["/page"]

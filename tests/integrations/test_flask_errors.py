"""Failed calls as HTTP errors of a Flask app: the status of the result, and no text that is not for the outside."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException, InternalServerError

from catga_sync import BusinessError, CatgaResult, ErrorCode, Request
from catga_sync.errors import CallError
from catga_sync.integrations.flask import CatgaCluster, mediator, register_error_handlers


@dataclass(frozen=True)
class Fail(Request[str]):
    how: str


@dataclass(frozen=True)
class NobodyHandles(Request[str]):
    n: int = 1


def fail(request: Fail) -> CatgaResult[str]:
    if request.how == "refuse":
        raise BusinessError("sold out", code="shop.sold_out")
    if request.how == "missing":
        raise BusinessError("no such order", code=ErrorCode.NOT_FOUND)
    if request.how == "crash":
        raise ValueError("password hunter2")
    return CatgaResult.failure("at 10.0.0.7", ErrorCode(request.how))


@pytest.fixture
def app() -> Iterator[Flask]:
    app = Flask("shop")
    cluster = CatgaCluster(app, node_id="shop", discovery=f"memory://{uuid.uuid4().hex}")
    cluster.handler(fail)
    register_error_handlers(app)

    @app.get("/fail/<how>")
    def view(how: str) -> str:
        return mediator.send(Fail(how)).unwrap()

    @app.get("/nobody")
    def nobody() -> str:
        return mediator.send(NobodyHandles()).unwrap()

    @app.get("/own")
    def own() -> str:
        raise CallError("at 10.0.0.7", code=ErrorCode.UNAVAILABLE)

    with app.extensions["catga_sync"]:
        yield app


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/fail/refuse", 422, "sold out"),
        ("/fail/missing", 404, "no such order"),
        ("/fail/crash", 500, "Internal Server Error"),
        ("/fail/UNAVAILABLE", 503, "Service Unavailable"),
        ("/fail/DEADLINE_EXCEEDED", 504, "Gateway Timeout"),
        ("/nobody", 503, "Service Unavailable"),
        ("/own", 503, "Service Unavailable"),
    ],
)
@pytest.mark.parametrize("testing", [False, True])
def test_a_failed_call_is_an_http_error_without_inner_texts(
    app: Flask, path: str, status: int, text: str, testing: bool
) -> None:
    app.testing = testing
    with app.test_client().get(path) as answer:
        assert (answer.status_code, text in answer.text) == (status, True), answer.text
        assert not any(inner in answer.text for inner in ("hunter2", "10.0.0.7", "NobodyHandles", "ValueError"))


def test_a_status_that_werkzeug_has_no_class_for_is_sent_as_well(app: Flask) -> None:
    with app.test_client().get("/fail/CANCELLED") as answer:
        assert answer.status_code == 499


def test_the_pages_are_those_of_the_app(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def page(error: HTTPException) -> tuple[dict[str, str | None], int]:
        return {"error": error.description}, error.code or 0

    with app.test_client().get("/fail/refuse") as answer:
        assert (answer.status_code, answer.json) == (422, {"error": "sold out"})


def test_a_page_for_500_finds_what_was_raised(app: Flask) -> None:
    found: list[BaseException | None] = []

    @app.errorhandler(500)
    def page(error: InternalServerError) -> tuple[str, int]:
        found.append(error.original_exception)
        return "sorry", 500

    with app.test_client().get("/fail/crash") as answer:
        assert (answer.status_code, answer.text) == (500, "sorry")
    assert isinstance(found[0], CallError)


@pytest.mark.parametrize(("path", "logged"), [("/nobody", True), ("/fail/refuse", False)])
def test_what_the_visitor_is_not_told_is_in_the_log(
    app: Flask, caplog: pytest.LogCaptureFixture, path: str, logged: bool
) -> None:
    with app.test_client().get(path):
        records = [each for each in caplog.records if each.name == "shop" and each.levelno >= logging.ERROR]
    assert bool(records) is logged
    assert all(each.exc_info for each in records)


def test_a_view_that_looks_at_the_result_itself_is_left_alone(app: Flask) -> None:
    app.add_url_rule("/own-way", view_func=lambda: (mediator.send(Fail("refuse")).error or "", 418))
    with app.test_client().get("/own-way") as answer:
        assert (answer.status_code, answer.text) == (418, "sold out")

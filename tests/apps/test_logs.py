"""The logging configuration of a Flask factory and of Django's settings: lines of handlers have the ids of the call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catga_sync import ClusterMediator
from catga_sync.context import CallContext, enter_call, leave_call
from tests.apps.messages import PlaceOrder
from tests.apps.servers import DJANGO, FLASK, Shop
from tests.conftest import require_module

for needed in ("django", "flask_sqlalchemy", "flask_login", "flask_wtf", "gunicorn"):
    require_module(needed)

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("logs")]

TRACE = "a" * 32


@pytest.fixture(scope="module", params=[pytest.param(FLASK, marks=pytest.mark.slow), DJANGO])
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    options = ("-w", "1", "-k", "gthread", "--threads", "2")
    made = Shop(request.param, tmp_path_factory.mktemp("shop"), *options, SHOP_LOGS="1", FLASK_SHOP_LOGS="1")
    made.prepare()
    with made:
        yield made


@pytest.fixture
def client(shop: Shop) -> Iterator[ClusterMediator]:
    with shop.client() as made:
        yield made


def lines(shop: Shop, message: str) -> list[tuple[str, str, str]]:
    """Return node, request id and trace id of each line with this message."""
    found = [line.split(" ", 5) for line in shop.process.output().splitlines() if line.startswith("LINE ")]
    return [(node, request, trace) for _, _, node, request, trace, text in found if text == message]


def test_a_line_of_a_handler_has_the_request_id_of_the_result_and_the_trace_of_the_caller(
    shop: Shop, client: ClusterMediator
) -> None:
    token = enter_call(CallContext("outer", traceparent=f"00-{TRACE}-{'b' * 16}-01"))
    try:
        results = [client.send(PlaceOrder(number)) for number in ("7", "8")]
    finally:
        leave_call(token)
    for number, result in zip(("7", "8"), results, strict=True):
        assert result.is_success
        assert lines(shop, f"order {number}") == [("shop", result.request_id, TRACE)]


def test_a_line_outside_a_call_has_the_node_alone(shop: Shop, client: ClusterMediator) -> None:
    assert client.send(PlaceOrder("9"))
    assert lines(shop, "the shop is open") == [("shop", "-", "-")]

"""Django behind ``ClusterMiddleware``: what Django does around a request it does around each received call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catga_sync import ClusterMediator, Request
from tests import processes
from tests.apps.messages import (
    BreakConnection,
    CountOrders,
    CrashAfterWrite,
    Observe,
    Observed,
    PlaceOrder,
    ReadAndAsk,
)
from tests.apps.servers import DJANGO, Shop
from tests.conftest import require_module

require_module("django")
require_module("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("django")]

#: One worker with one thread: every call meets what the last one has left there.
ALONE = ("-w", "1", "-k", "gthread", "--threads", "1")


@dataclass(frozen=True)
class Asked:
    """A shop and a client of it."""

    shop: Shop
    client: ClusterMediator


@contextlib.contextmanager
def asked(folder: Path, max_age: str) -> Iterator[Asked]:
    shop = Shop(DJANGO, folder, *ALONE, SHOP_CONN_MAX_AGE=max_age, SHOP_DEBUG="1")
    shop.prepare()
    with shop, shop.client() as client:
        yield Asked(shop, client)


@pytest.fixture(scope="module")
def closing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One whose connections end with each request."""
    with asked(tmp_path_factory.mktemp("closing"), "0") as made:
        yield made


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One whose connections live for a minute."""
    with asked(tmp_path_factory.mktemp("keeping"), "60") as made:
        yield made


@pytest.fixture(params=["closing", "keeping"])
def client(request: pytest.FixtureRequest, closing: Asked, keeping: Asked) -> ClusterMediator:
    return {"closing": closing, "keeping": keeping}[request.param].client


def observe(client: ClusterMediator) -> Observed:
    return client.send(Observe()).unwrap()


def orders_of_page(shop: Shop) -> dict[str, Any]:
    response = processes.get(f"{shop.process.url}/orders")
    assert response is not None
    assert response.status_code == 200, response.text
    return response.json()


def test_each_call_and_each_item_of_a_batch_is_started_and_finished_once_whatever_comes_of_it(
    client: ClusterMediator,
) -> None:
    before = observe(client)
    requests: list[Request[Any]] = [CountOrders("x"), PlaceOrder(""), CrashAfterWrite("x"), CountOrders("x")]
    assert [bool(client.send(each)) for each in requests] == [True, False, False, True]
    assert [bool(each) for each in client.send_batch(requests)] == [True, False, False, True]
    after = observe(client)
    # The second observer is counted, too; it has not finished when it looks, and nor had the first.
    assert (after.started - before.started, after.finished - before.finished) == (9, 9)
    assert after.started == after.finished + 1


def test_the_query_log_begins_anew_with_each_call(client: ClusterMediator) -> None:
    for _ in range(5):
        assert client.send(CountOrders("x"))
    assert all(client.send_batch([CountOrders("x")] * 5))
    # The one query of the observer itself.
    assert observe(client).queries == 1


def test_a_connection_is_opened_as_often_as_its_age_says(closing: Asked, keeping: Asked) -> None:
    opened = []
    for client in (closing.client, keeping.client):
        before = observe(client)
        assert all([*(client.send(CountOrders("x")) for _ in range(3)), *client.send_batch([CountOrders("x")] * 3)])
        opened.append(observe(client).connections - before.connections)
    assert opened == [7, 0]


def test_a_connection_that_breaks_in_one_call_is_not_met_by_the_next(closing: Asked) -> None:
    client = closing.client
    assert not client.send(BreakConnection())
    assert client.send(CountOrders("x")).unwrap() == 0
    told = client.send_batch([CountOrders("x"), BreakConnection(), CountOrders("x"), CountOrders("x")])
    assert [bool(each) for each in told] == [True, False, True, True]
    assert client.send(CountOrders("x")).unwrap() == 0


def test_what_a_failed_call_has_written_is_gone(client: ClusterMediator) -> None:
    assert not client.send(CrashAfterWrite("torn"))
    told = client.send_batch([CrashAfterWrite("torn"), CountOrders("torn")])
    assert [bool(each) for each in told] == [False, True]
    assert told[1].value == 0
    assert client.send(CountOrders("torn")).unwrap() == 0


def test_a_call_within_a_call_leaves_the_connection_of_its_caller_alone(
    closing: Asked,
) -> None:
    client = closing.client
    for number in ("nested-1", "nested-2", "nested-3"):
        put_order(client, number)
    before = observe(client)
    assert client.send(ReadAndAsk()).unwrap() == client.send(ReadAndAsk()).unwrap() >= 3
    after = observe(client)
    assert after.started - before.started == 3
    assert after.connections - before.connections == 3


def test_a_local_call_of_a_view_is_part_of_the_request(closing: Asked) -> None:
    for number in ("view-1", "view-2"):
        put_order(closing.client, number)
    first, second = orders_of_page(closing.shop), orders_of_page(closing.shop)
    assert second["counts"]["view-1"] == second["counts"]["view-2"] == 1
    assert second["started"] - first["started"] == 1
    assert second["finished"] - first["finished"] == 1


def put_order(client: ClusterMediator, number: str) -> None:
    """Have an order of that number, whatever the tests before have done."""
    if not client.send(CountOrders(number)).unwrap():
        client.send(PlaceOrder(number)).unwrap()

"""``catga_sync.integrations.django`` in INSTALLED_APPS, in a server; ``test_django_commands.py`` is without one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catga_sync import ClusterMediator, Mediator, Request, create_cluster
from tests import processes
from tests.apps.django_node.messages import Length, Loaded, RefuseAfterWrite, Shipped
from tests.apps.managing import APPS, ROOT, manage
from tests.apps.messages import CountOrders, CrashAfterWrite, Observe, PlaceOrder
from tests.apps.servers import DJANGO_APP, Shop
from tests.conftest import require_module

require_module("django")
require_module("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("django-app")]


# -- a server ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    options = ("-w", "1", "-k", "gthread", "--threads", "1")
    made = Shop(DJANGO_APP, tmp_path_factory.mktemp("shop"), *options, fresh=True)
    made.prepare()
    with made:
        yield made


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[ClusterMediator]:
    with shop.client() as made:
        yield made


def count(client: ClusterMediator, number: str) -> int:
    return client.send(CountOrders(number)).unwrap()


def test_what_a_failed_call_has_written_is_gone_alone_and_in_a_batch(client: ClusterMediator) -> None:
    failing: list[Request[Any]] = [
        CrashAfterWrite("torn"), RefuseAfterWrite("torn"), RefuseAfterWrite("torn", raises=False)
    ]  # fmt: skip
    assert [bool(client.send(each)) for each in failing] == [False] * 3
    assert count(client, "torn") == 0
    told = client.send_batch([*failing, PlaceOrder("whole"), CountOrders("torn"), CountOrders("whole")])
    assert [(bool(each), each.value) for each in told[-2:]] == [(True, 0), (True, 1)]
    assert count(client, "whole") == 1


def test_a_subscriber_runs_in_the_life_of_a_request_as_well(client: ClusterMediator) -> None:
    assert all(client.publish(Shipped("shipped")).values())
    assert count(client, "shipped") == 1


def test_a_call_is_one_request_of_django_and_so_is_each_item_of_a_batch(client: ClusterMediator) -> None:
    before = client.send(Observe()).unwrap()
    assert [bool(client.send(each)) for each in (CountOrders("x"), CrashAfterWrite("x"))] == [True, False]
    assert all(client.send_batch([CountOrders("x")] * 3))
    after = client.send(Observe()).unwrap()
    # Two calls, the batch and its three items, and this observer, which has not finished yet; nor had the first.
    # The node describes itself in a request of its own, whenever another process asks for that.
    assert after.started - before.started >= 7
    assert after.started - after.finished == before.started - before.finished == 1


def test_a_body_may_be_longer_than_django_lets_a_form_be(client: ClusterMediator) -> None:
    assert client.send(Length("x" * 2_700_000)).unwrap() == 2_700_000


def test_a_local_call_of_a_view_that_fails_takes_back_its_own_part_alone(shop: Shop) -> None:
    response = processes.get(f"{shop.process.url}/place/view")
    assert response is not None
    assert response.json() == {"code": "SOLD_OUT", "counts": {"view": 1, "view-refused": 0}}


def test_flask_is_not_imported(client: ClusterMediator) -> None:
    assert [client.send(Loaded(name)).unwrap() for name in ("flask", "werkzeug", "django")] == [False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("-w", "2", "--threads", "2", "--preload"), ()], ids=["gunicorn --preload", "runserver --noreload"]
)
def test_other_servers_serve_as_well(tmp_path: Path, options: tuple[str, ...]) -> None:
    shop = Shop(DJANGO_APP, tmp_path, *options)
    shop.prepare()
    with shop, shop.client() as client:
        assert client.send(PlaceOrder("1")).unwrap() == 1


def test_a_server_without_any_call_is_visible_and_a_reloader_does_not_count(tmp_path: Path) -> None:
    port = processes.free_port()
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.apps.django_node.settings",
        "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
        "CATGA_NODE_ID": "shop",
        "CATGA_ENDPOINT": f"http://127.0.0.1:{port}",
        "CATGA_DISCOVERY": f"sqlite:///{tmp_path / 'nodes.sqlite3'}",
    }
    command = [sys.executable, "-m", "django", "runserver", "--skip-checks", str(port)]
    with (
        processes.running(command, port=port, cwd=ROOT, env=environment, timeout=60.0),
        create_cluster(Mediator(), node_id="client", discovery=environment["CATGA_DISCOVERY"]) as client,
    ):
        processes.until(lambda: [node.node_id for node in client.nodes()] == ["shop"], "the shop is visible", 60.0)
        assert client.send(Length("four")).unwrap() == 4


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"CATGA": {"node": "shop"}}, "node: no such option"),
        pytest.param(
            {"INSTALLED_APPS": [*APPS, "tests.apps.django_node.torn"]},
            "count: annotate its first parameter",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_server_does_not_start_with_what_a_check_finds_wrong(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    code = "import tests.apps.django_node.wsgi"
    environment = {"SHOP_DATABASE": str(tmp_path / "shop.sqlite3"), "SHOP_SETTINGS": json.dumps(settings)}
    done = processes.run("-c", code, cwd=ROOT, env=environment)
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_manage_py_catga_is_catga_sync_with_the_settings_of_the_project(shop: Shop, client: ClusterMediator) -> None:
    settings = {"CATGA": {"cluster_name": shop.cluster_name, "discovery": shop.discovery}}

    def run(*command: str) -> Any:
        return manage(Path(os.devnull), "catga", *command, settings=settings)

    listed = run("nodes", "--json")
    assert [node["id"] for node in json.loads(listed.stdout)["nodes"]] == ["shop"], listed
    called = run("call", "apps.Length", '{"text": "four"}', "--json")
    assert (called.returncode, json.loads(called.stdout)["value"]) == (0, 4), called
    assert run("call", "apps.Nothing", "{}").returncode == 3
    assert run("explain").returncode == 2
    checked = run("doctor", "--json")
    found = {each["subject"]: each["level"] for each in json.loads(checked.stdout)["findings"]}
    assert (checked.returncode, found["store"], found["node shop"]) == (0, "ok", "ok"), checked

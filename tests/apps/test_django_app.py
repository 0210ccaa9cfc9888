"""``catga_sync.integrations.django`` in INSTALLED_APPS: commands, servers, checks, transactions, the test client."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catga_sync import ClusterMediator, Mediator, Request, create_cluster
from tests import processes
from tests.apps.django_node.messages import Length, Loaded, RefuseAfterWrite, Shipped
from tests.apps.messages import CountOrders, CrashAfterWrite, Observe, PlaceOrder
from tests.apps.servers import DJANGO_APP, Shop
from tests.conftest import require_module

require_module("django")
require_module("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("django-app")]

_ROOT = Path(__file__).parents[2]
_URL = "http://localhost:8000"
_CACHES = ("UpdateCacheMiddleware", "FetchFromCacheMiddleware")
_APPS = ["catga_sync.integrations.django", "tests.apps.django_project", "tests.apps.django_node"]


def manage(folder: Path, *command: str, settings: dict[str, Any] | None = None, **environment: str) -> Any:
    """Run a command of ``manage.py`` to its end."""
    given = {
        "DJANGO_SETTINGS_MODULE": "tests.apps.django_node.settings",
        "SHOP_DATABASE": str(folder / "shop.sqlite3"),
        "SHOP_SETTINGS": json.dumps(settings or {}),
        "CATGA_DISCOVERY": f"sqlite:///{folder / 'nodes.sqlite3'}",
        **environment,
    }
    return processes.run("-W", "error", "-m", "django", *command, cwd=_ROOT, env=given)


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
        processes.running(command, port=port, cwd=_ROOT, env=environment, timeout=60.0),
        create_cluster(Mediator(), node_id="client", discovery=environment["CATGA_DISCOVERY"]) as client,
    ):
        processes.until(lambda: [node.node_id for node in client.nodes()] == ["shop"], "the shop is visible", 60.0)
        assert client.send(Length("four")).unwrap() == 4


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"CATGA": {"node": "shop"}}, "node: no such option"),
        ({"INSTALLED_APPS": [*_APPS, "tests.apps.django_node.torn"]}, "count: annotate its first parameter"),
    ],
)
def test_a_server_does_not_start_with_what_a_check_finds_wrong(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    code = "import tests.apps.django_node.wsgi"
    environment = {"SHOP_DATABASE": str(tmp_path / "shop.sqlite3"), "SHOP_SETTINGS": json.dumps(settings)}
    done = processes.run("-c", code, cwd=_ROOT, env=environment)
    assert done.returncode == 1
    assert told in done.stderr.splitlines()[-1]


# -- commands ----------------------------------------------------------------------------------------------------------


def test_a_command_starts_nothing(tmp_path: Path) -> None:
    code = "import threading; print(threading.active_count())"
    done = manage(tmp_path, "shell", "-c", code, CATGA_ENDPOINT=_URL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"
    assert not (tmp_path / "nodes.sqlite3").exists()


def test_a_local_call_leaves_the_connection_of_its_caller_open(tmp_path: Path) -> None:
    assert manage(tmp_path, "migrate").returncode == 0
    code = """if True:
        from catga_sync.integrations.django import mediator
        from tests.apps.django_project.models import Order
        from tests.apps.messages import PlaceOrder
        Order.objects.bulk_create([Order(number=str(each)) for each in range(9)])
        print(sum(mediator.send(PlaceOrder("new")).unwrap() > 0 for _ in Order.objects.filter(pk__lte=9).iterator(2)))
    """
    done = manage(tmp_path, "shell", "-c", code)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["9"]), done.stderr


def test_an_import_of_django_test_makes_no_server_of_a_command(tmp_path: Path) -> None:
    code = """if True:
        import os, threading
        os.environ.update(DJANGO_SETTINGS_MODULE="tests.apps.django_node.settings")
        import django.test
        django.setup()
        print([each.name for each in threading.enumerate() if each.name.startswith("catga")])
    """
    given = {"SHOP_DATABASE": str(tmp_path / "shop.sqlite3"), "CATGA_ENDPOINT": _URL}
    given["CATGA_DISCOVERY"] = f"sqlite:///{tmp_path / 'nodes.sqlite3'}"
    done = processes.run("-c", code, cwd=_ROOT, env=given)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_what_the_view_says_is_kept_by_no_cache(tmp_path: Path) -> None:
    settings = {"MIDDLEWARE": [f"django.middleware.cache.{each}" for each in _CACHES]}
    code = """if True:
        from django.test import Client
        got = [Client(headers={"host": "localhost"}).get("/catga/cluster/node") for _ in range(2)]
        print([(each.status_code, each["Cache-Control"]) for each in got])
    """
    done = manage(tmp_path, "shell", "-c", code, settings={**settings, "ALLOWED_HOSTS": ["localhost"]})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[(200, 'no-store, private'), (200, 'no-store, private')]"


def test_the_tests_of_a_project_pass(tmp_path: Path) -> None:
    done = manage(tmp_path, "test", "tests.apps.django_node.tests", "-v", "2")
    assert done.returncode == 0, done.stderr
    assert "Ran 9 tests" in done.stderr


def test_the_view_is_an_adapter_as_the_others_are(tmp_path: Path) -> None:
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.apps.django_node.settings",
        "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
        # For the middleware that asks for a login.
        "SHOP_SETTINGS": json.dumps({"INSTALLED_APPS": [*_APPS, "django.contrib.auth", "django.contrib.contenttypes"]}),
    }
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/apps/django_node/contract.py")
    done = processes.run(*command, cwd=_ROOT, env=environment)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 140  # type: ignore[index]


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


# -- checks ------------------------------------------------------------------------------------------------------------


def check(folder: Path, **settings: Any) -> Any:
    return manage(folder, "check", settings=settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"CATGA": {"node": "shop"}}, ("catga.E001", "node", "node_id")),
        ({"CATGA": {"endpoint": "localhost"}}, ("catga.E001", "endpoint: ", "http://host:port")),
        ({"CATGA": ["node_id"]}, ("catga.E001", "give a dict of options")),
        ({"CATGA": {"endpoint": _URL, "router": "nearest"}}, ("catga.E001", "router: ")),
        ({"INSTALLED_APPS": [*_APPS, "tests.apps.django_node.torn"]}, ("catga.E002", "django_node.torn.handlers: ")),
        ({"INSTALLED_APPS": [*_APPS, "tests.apps.django_node.idle"]}, ("catga.W003", "django_node.idle.handlers: ")),
        ({"CATGA": {"endpoint": "http://127.0.0.2:8000"}}, ("catga.E007", "ALLOWED_HOSTS: 127.0.0.2")),
        ({"CATGA": {"endpoint": _URL}, "SECURE_SSL_REDIRECT": True}, ("catga.E008", "SECURE_REDIRECT_EXEMPT")),
        (
            {"CATGA": {"endpoint": "http://localhost:8000"}, "PREPEND_WWW": True},
            ("catga.E009", "localhost has no www."),
        ),
        ({"CATGA": {}}, ("catga.W005", "endpoint is not set")),
        ({"CATGA": {"endpoint": _URL}, "ROOT_URLCONF": "tests.apps.django_node.urls_without"}, ("catga.W006",)),
        ({"CATGA": {"endpoint": _URL, "secret": "s" * 32}, "DEBUG": True}, ("catga.W004", "secret")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_check_says_what_is_wrong_and_what_to_write(
    tmp_path: Path, settings: dict[str, Any], told: tuple[str, ...]
) -> None:
    done = check(tmp_path, **settings)
    assert [text for text in told if text not in done.stderr] == [], done
    assert "Traceback" not in done.stderr
    assert "s" * 32 not in done.stdout + done.stderr
    assert done.returncode == (1 if ".E" in told[0] else 0)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": ["^catga/cluster/"]},
        {"DEBUG": True, "ALLOWED_HOSTS": []},
    ],
)
def test_a_check_of_a_good_project_says_nothing(tmp_path: Path, more: dict[str, Any]) -> None:
    done = check(tmp_path, CATGA={"endpoint": _URL}, **more)
    assert (done.returncode, done.stdout.strip()) == (0, "System check identified no issues (0 silenced)."), done

"""``catga_sync.integrations.django`` without a server: commands, tests of a project, checks; tox has each Django."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.apps.managing import APPS, ROOT, environment_of, manage
from tests.conftest import require_module
from tests.tables import every_row

require_module("django")

pytestmark = pytest.mark.process

_URL = "http://localhost:8000"
_CACHES = ("UpdateCacheMiddleware", "FetchFromCacheMiddleware")


# -- commands ----------------------------------------------------------------------------------------------------------


def test_a_command_starts_nothing(tmp_path: Path) -> None:
    code = "import threading; print(threading.active_count())"
    done = manage(tmp_path, "shell", "-c", code, CATGA_ENDPOINT=_URL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"
    assert not (tmp_path / "nodes.sqlite3").exists()


@pytest.mark.slow
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


@pytest.mark.slow
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
    done = processes.run("-c", code, cwd=ROOT, env=given)
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


@pytest.mark.slow
def test_the_tests_of_a_project_pass(tmp_path: Path) -> None:
    done = manage(tmp_path, "test", "tests.apps.django_node.tests", "-v", "2")
    assert done.returncode == 0, done.stderr
    assert "Ran 10 tests" in done.stderr


def test_a_mediator_that_is_made_before_the_tests_of_django_begin_joins_no_cluster(tmp_path: Path) -> None:
    code = """if True:
        import socket, django
        django.setup()
        from catga_sync import ClusterNode, Mediator, create_cluster
        from catga_sync.discovery import create_discovery
        from catga_sync.integrations.django import mediator
        from catga_sync.nodes import NodeRecord
        from django.test.utils import setup_test_environment
        server = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        running = ClusterNode("developer", url, handles=frozenset(), incarnation="i")
        create_discovery().shared.register(NodeRecord(running, 1), 600.0)
        mediator.options  # as a ready() does that adds a hook
        with create_cluster(Mediator(), node_id="own") as own:
            print([node.node_id for node in own.nodes()])
            setup_test_environment()
            print([node.node_id for node in mediator.nodes()])
        with create_cluster(Mediator(), node_id="other") as other:
            print([node.node_id for node in other.nodes()])
        mediator.close()
    """
    given = {
        "CATGA_RUNTIME_DIR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "tests.apps.django_node.settings",
        "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
    }
    done = processes.run("-c", code, cwd=ROOT, env=given)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["['developer']", "[]", "[]"]), done.stderr


@pytest.mark.slow
def test_the_view_is_an_adapter_as_the_others_are(tmp_path: Path) -> None:
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.apps.django_node.settings",
        "SHOP_DATABASE": str(tmp_path / "shop.sqlite3"),
        # For the middleware that asks for a login.
        "SHOP_SETTINGS": json.dumps({"INSTALLED_APPS": [*APPS, "django.contrib.auth", "django.contrib.contenttypes"]}),
    }
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/apps/django_node/contract.py")
    done = processes.run(*command, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50  # type: ignore[index]


# -- checks ------------------------------------------------------------------------------------------------------------


Check = Callable[[dict[str, Any]], subprocess.CompletedProcess[str]]


@pytest.fixture
def check(tmp_path: Path) -> Iterator[Check]:
    """Run the command with these settings; one process has imported Django and forks for each of them."""
    command = ("-W", "error", "-m", "tests.apps.checking")
    with processes.talking(*command, cwd=ROOT, env=environment_of(tmp_path)) as process:

        def run(settings: dict[str, Any]) -> subprocess.CompletedProcess[str]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(settings) + "\n")
            process.stdin.flush()
            return subprocess.CompletedProcess("check", *json.loads(process.stdout.readline()))

        yield run


@every_row(
    ("settings", "told"),
    [
        ({"CATGA": {"node": "shop"}}, ("(catga.E001) settings.CATGA: node: no such option", "mean 'node_id'?")),
        ({"CATGA": {"endpoint": "localhost"}}, ("(catga.E001) settings.CATGA: endpoint: give", "http://host:port")),
        ({"CATGA": ["node_id"]}, ("(catga.E001) settings.CATGA: give a dict of options",)),
        ({"CATGA": {"endpoint": _URL, "router": "nearest"}}, ("(catga.E001) settings.CATGA: router: ",)),
        ({"INSTALLED_APPS": [*APPS, "tests.apps.django_node.torn"]}, ("catga.E002", "django_node.torn.handlers: ")),
        ({"INSTALLED_APPS": [*APPS, "tests.apps.django_node.idle"]}, ("catga.W003", "django_node.idle.handlers: ")),
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
)
def test_a_check_says_what_is_wrong_and_what_to_write(
    check: Check, settings: dict[str, Any], told: tuple[str, ...]
) -> None:
    done = check(settings)
    assert [text for text in told if text not in done.stderr] == [], done
    assert "Traceback" not in done.stderr
    assert "s" * 32 not in done.stdout + done.stderr
    assert done.returncode == (1 if ".E" in told[0] else 0)


@pytest.mark.slow
def test_a_check_names_the_variable_of_the_environment_that_is_wrong(tmp_path: Path) -> None:
    done = manage(tmp_path, "check", CATGA_TIMOUT="3")
    assert "(catga.E001) CATGA_TIMOUT: no such option; did you mean 'CATGA_REQUEST_TIMEOUT' or" in done.stderr, done


@every_row(
    "more",
    [
        {},
        {"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": ["^catga/cluster/"]},
        {"DEBUG": True, "ALLOWED_HOSTS": []},
    ],
)
def test_a_check_of_a_good_project_says_nothing(check: Check, more: dict[str, Any]) -> None:
    done = check({"CATGA": {"endpoint": _URL}, **more})
    assert (done.returncode, done.stdout.strip()) == (0, "System check identified no issues (0 silenced)."), done

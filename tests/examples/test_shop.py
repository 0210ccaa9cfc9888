"""The shop of the examples: three services that find each other in a real Redis, and call each other both ways."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from catga_sync import Mediator, create_cluster
from tests import processes
from tests.conftest import require_module
from tests.external.redis_server import RedisServer, require_redis
from tests.processes import Process, free_port, running, until

require_redis()
require_module("django")
require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = [pytest.mark.redis, pytest.mark.process, pytest.mark.slow]

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "shop"
#: Orders first: an event goes to subscribers that its publisher knows, and stock reads who is there at its start.
APPS = {"orders": "orders.wsgi", "prices": "prices:app", "stock": "stock:app"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[dict[str, Process]]:
    """The three services as the README starts them, with a Redis of their own."""
    with ExitStack() as around:
        redis = around.enter_context(RedisServer())
        shared = {
            "CATGA_DISCOVERY": f"{redis.url}/0",
            "CATGA_IDEMPOTENCY": f"{redis.url}/0",
            "CATGA_SECRET": "k" * 32,
            "STOCK_URL": f"{redis.url}/1",
            "ORDERS_FILE": str(tmp_path / "orders.sqlite3"),
        }
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v", "0"],
            cwd=FOLDER, env=processes.clean_environment(shared), check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        client = around.enter_context(
            create_cluster(Mediator(), environ={}, discovery=shared["CATGA_DISCOVERY"], secret=shared["CATGA_SECRET"])
        )
        services = {}
        for name, app in APPS.items():
            port = free_port()
            command = [sys.executable, "-m", "gunicorn", "-c", "python:catga_sync.integrations.gunicorn"]
            own = {"CATGA_NODE_ID": name, "CATGA_ENDPOINT": f"http://127.0.0.1:{port}"}
            services[name] = around.enter_context(
                running(
                    [*command, "-b", f"127.0.0.1:{port}", "--threads", "8", app],
                    port=port, cwd=FOLDER, env={**shared, **own},
                )
            )  # fmt: skip
            until(lambda name=name: name in {each.node_id for each in client.nodes()}, f"{name} is visible")
        # An order that fails in the stock for good shows that all have found each other, and takes nothing.
        until(lambda: order(services, "apple", 99)["code"] == "SOLD_OUT", "the services have found each other")
        yield services


def order(shop: dict[str, Process], item: str, amount: int) -> dict[str, object]:
    """Place an order; return what its page says afterwards, which is what the answer has said, and its status."""
    placed = requests.post(f"{shop['orders'].url}/orders/{item}/{amount}", timeout=30)
    said: dict[str, object] = placed.json()
    shown = requests.get(f"{shop['orders'].url}/orders/{said['order']}", timeout=30)
    assert (shown.status_code, shown.json()) == (200, said)
    return {"code": None, **said, "status": placed.status_code}


def test_orders_are_placed_until_the_stock_says_that_it_is_empty_and_a_service_is_gone(
    shop: dict[str, Process],
) -> None:
    first = order(shop, "apple", 2)
    assert (first["status"], first["total"]) == (201, "0.80")
    assert missing(shop) == []

    # The last apple: stock publishes to orders while orders waits for it.
    assert order(shop, "apple", 1)["status"] == 201
    assert missing(shop) == ["apple"]

    too_late = order(shop, "apple", 1)
    assert (too_late["status"], too_late["code"], too_late["error"]) == (422, "SOLD_OUT", "only 0 of apple left")
    unknown = order(shop, "plum", 1)
    assert (unknown["status"], unknown["code"], unknown["error"]) == (404, "NOT_FOUND", "no price for plum")

    kill(shop["stock"])
    gone = order(shop, "pear", 1)
    assert (gone["status"], gone["code"]) == (503, "UNAVAILABLE")
    assert gone["error"]


def kill(service: Process) -> None:
    """End all of its processes as a power failure would, and wait until none has a connection any more."""
    workers = psutil.Process(service.pid).children()
    os.killpg(service.pid, signal.SIGKILL)
    service.popen.wait(20)
    # A worker that nobody waits for stays as a zombie in a container without an init.
    until(
        lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in workers), "it is gone"
    )


def missing(shop: dict[str, Process]) -> list[str]:
    found: list[str] = requests.get(f"{shop['orders'].url}/missing", timeout=30).json()["missing"]
    return found

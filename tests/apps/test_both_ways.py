"""A Django project and a Flask app that call each other, while everything around them fails: no call is told falsely.

Pages of each are asked, and send to the other one. Meanwhile database connections are cut, workers are replaced after
so many requests, and the servers are reloaded. The figures of a run are printed, and shown with ``-s``.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from catga_sync import Delivery, ErrorCode
from catga_sync.discovery import create_discovery
from catga_sync.nodes import STREAM
from tests.apps.messages import PIECES
from tests.apps.servers import DJANGO, FLASK, Shop
from tests.conftest import require_module
from tests.external.postgres_server import PostgresServer, require_postgres
from tests.processes import until

require_postgres()
require_module("django")
require_module("flask_sqlalchemy")
require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.xdist_group("postgres"),
]

WORKERS, THREADS = 2, 8
GUNICORN = (
    *("-w", str(WORKERS), "-k", "gthread", "--threads", str(THREADS), "-c", "python:catga_sync.integrations.gunicorn"),
    *("--max-requests", "40", "--max-requests-jitter", "20"),
)
#: Calls of a side, callers of a side, and how often database connections are cut.
CALLS, CALLERS, CUTS = 200, 4, 30
CLUSTER = "both"
PAGES = {DJANGO: "place-in-flask", FLASK: "place-in-django"}


@dataclass(frozen=True)
class Told:
    """One call and what its page has said. Immutable."""

    number: str
    is_success: bool
    code: str | None
    delivery: str


@pytest.fixture(params=["stream", "post"])
def way(request: pytest.FixtureRequest) -> str:
    """The way by which calls go."""
    return str(request.param)


@pytest.fixture
def shops(way: str, tmp_path: Path) -> Iterator[tuple[PostgresServer, dict[str, Shop]]]:
    """Both, in one cluster, each with a database of its own on one server."""
    options = {
        "CATGA_CLUSTER_NAME": CLUSTER,
        "CATGA_STREAM": "auto" if way == "stream" else "off",
        "CATGA_HEARTBEAT_INTERVAL": "0.5",
    }
    with ExitStack() as around:
        postgres = around.enter_context(PostgresServer())
        shops = {}
        for kind, prefix in ((DJANGO, ""), (FLASK, "FLASK_")):
            postgres.create(kind)
            environment = {f"{prefix}{name}": value for name, value in options.items()}
            environment |= {f"{prefix}CATGA_NODE_ID": kind, "FLASK_WALL": "none"}
            shops[kind] = Shop(kind, tmp_path, *GUNICORN, postgres=postgres, database=kind, **environment)
            shops[kind].prepare()
            around.enter_context(shops[kind])
        yield postgres, shops


def ask(shop: Shop, page: str, number: str) -> Told:
    """Ask a page of a shop for an order at the other one."""
    try:
        response = requests.get(f"{shop.process.url}/{page}/{number}", timeout=60.0)
        response.raise_for_status()
    except requests.RequestException as exc:
        # The page was lost with its worker, and with it what it would have said.
        return Told(number, is_success=False, code=type(exc).__name__, delivery=Delivery.UNKNOWN)
    return Told(number, **response.json())


def load(shops: dict[str, Shop], postgres: PostgresServer) -> dict[str, list[Told]]:
    """Ask both sides at once, from several threads, with cuts and reloads in between; return what each has said."""
    rng = random.Random(6)
    told: dict[str, list[Told]] = {kind: [] for kind in shops}

    def calling(kind: str, number: int) -> Callable[[], None]:
        return lambda: told[kind].append(ask(shops[kind], PAGES[kind], f"n{number}"))

    def cut() -> None:
        # Mostly one; sometimes all, as when the database moves to another machine.
        postgres.cut(rng.choice([DJANGO, FLASK]), rng.choice([1, 1, 2, 100]))

    jobs = [calling(kind, number) for number in range(CALLS) for kind in shops]
    for at in rng.sample(range(len(jobs)), CUTS):
        jobs.insert(at, cut)
    for part, kind in enumerate((DJANGO, FLASK, FLASK, DJANGO), 1):
        jobs.insert(part * len(jobs) // 5, lambda kind=kind: shops[kind].process.signal(signal.SIGHUP))  # type: ignore[misc]
    with ThreadPoolExecutor(2 * CALLERS) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    return told


def check(postgres: PostgresServer, database: str, told: list[Told]) -> None:
    """Hold what callers were told against what was written."""
    written = Counter(number for (number,) in postgres.execute(database, "select number from orders"))
    assert set(written.values()) <= {1}
    assert {each.number for each in told if each.is_success} <= set(written)
    failed = [each for each in told if not each.is_success]
    assert {each.number for each in failed if each.delivery == Delivery.NOT_EXECUTED}.isdisjoint(written)
    assert {each.delivery for each in failed} <= {*Delivery}
    assert not [each for each in failed if each.code in (None, "", ErrorCode.DEADLINE_EXCEEDED)]
    assert set(written) <= {each.number for each in told}
    [(pieces,)] = postgres.execute(database, "select pieces from stock")
    assert pieces == PIECES - len(written)


def connections_to(shop: Shop, port: int) -> int:
    """Return how many connections to that port the workers of a shop have."""
    workers = psutil.Process(shop.process.pid).children(recursive=True)
    return sum(each.raddr != () and each.raddr.port == port for one in workers for each in one.net_connections("tcp"))


def settled(told: list[Told], shop: Shop, page: str) -> None:
    """Ask a page until the other side is there, each time for another order."""

    def is_there() -> bool:
        told.append(ask(shop, page, f"s{len(told)}"))
        return told[-1].is_success

    until(is_there, f"{page} of a side goes through", 60.0)


def test_django_and_flask_call_each_other_while_all_around_them_fails_and_no_call_is_told_falsely(
    shops: tuple[PostgresServer, dict[str, Shop]], way: str
) -> None:
    postgres, sides = shops
    told: dict[str, list[Told]] = {kind: [] for kind in sides}
    for kind, shop in sides.items():
        settled(told[kind], shop, PAGES[kind])
    store = create_discovery(sides[DJANGO].discovery, cluster_name=CLUSTER)
    if way == "stream":
        until(lambda: all(STREAM in each.node.features for each in store.nodes()), "both offer streams")
    assert {STREAM in each.node.features for each in store.nodes()} == {way == "stream"}
    store.close()
    for kind, more in load(sides, postgres).items():
        told[kind] += more
    for kind, shop in sides.items():
        settled(told[kind], shop, PAGES[kind])
    for kind, other in ((DJANGO, FLASK), (FLASK, DJANGO)):
        failed = [each for each in told[kind] if not each.is_success]
        workers = sides[kind].process.output().count("Booting worker")
        kinds = dict(Counter((each.delivery, each.code) for each in failed))
        print(f"{kind}: {len(told[kind])} calls, {len(failed)} failed {kinds}; {workers} workers")
        print(f"{other}: {postgres.cuts(other)} connections cut")
        check(postgres, other, told[kind])
        assert len(failed) < len(told[kind]) / 2
        # The first ones, those of two reloads, and some that had served their requests.
        assert workers > 3 * WORKERS

    until(lambda: not postgres.connections(DJANGO), "Django has closed its connections after the last call")
    until(lambda: set(postgres.connections(FLASK)) <= {"idle"}, "no connection is in a transaction")
    assert len(postgres.connections(FLASK)) <= WORKERS * THREADS
    port = sides[FLASK].port
    sides[FLASK].process.stop()
    until(lambda: not postgres.connections(FLASK), "all connections are closed with the server")
    until(lambda: connections_to(sides[DJANGO], port) == 0, "no connection to a server that has ended is kept")

"""Real apps whose database connections are cut while they are called: one failed call for a cut, and none left behind.

The figures of a run are printed, and shown with ``-s`` or where a test fails.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode, Request
from catga_sync.hooks import AttemptDetails
from catga_sync.nodes import STREAM
from tests.apps.messages import PIECES, CountOrders, PlaceOrder
from tests.apps.servers import DJANGO, DJANGO_APP, FLASK, Shop
from tests.conftest import require_module
from tests.external.postgres_server import PostgresServer, require_postgres
from tests.processes import until

require_postgres()
require_module("django")
require_module("flask_sqlalchemy")
require_module("gunicorn")

pytestmark = [pytest.mark.postgres, pytest.mark.process, pytest.mark.xdist_group("postgres")]

WORKERS, THREADS, CALLERS = 2, 8, 16
#: Single calls, batches, calls in a batch, how often connections are cut, and how many are cut at least: once in a
#: while none is open.
FEW, MANY = (100, 10, 10, 20, 10), (1_000, 100, 10, 50, 40)
#: Seconds for a call; many times what one needs.
TIMEOUT = 60.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@dataclass(frozen=True)
class Told:
    """One call and what its caller was told."""

    request: Request[int]
    result: CatgaResult[int]
    seconds: float


def load(
    client: ClusterMediator, cut: Callable[[], Any], calls: int, batches: int, batch: int, cuts: int
) -> list[Told]:
    """Make the calls, half of them one by one and half in batches, from several threads; cut at random moments."""
    rng = random.Random(6)
    told: list[Told] = []

    def call(requests: list[Request[int]]) -> None:
        begun = time.monotonic()
        single = len(requests) == 1
        results = (
            [client.send(requests[0], timeout=TIMEOUT)] if single else client.send_batch(requests, timeout=TIMEOUT)
        )
        seconds = time.monotonic() - begun
        told.extend(Told(request, result, seconds) for request, result in zip(requests, results, strict=True))

    requests = [
        PlaceOrder(f"n{number}") if number % 2 else CountOrders("first") for number in range(calls + batches * batch)
    ]
    singles, rest = [[each] for each in requests[:calls]], requests[calls:]
    groups = [*singles, *(rest[at : at + batch] for at in range(0, len(rest), batch))]
    rng.shuffle(groups)
    jobs = [lambda group=group: call(group) for group in groups]
    for at in rng.sample(range(len(jobs)), cuts):
        jobs.insert(at, cut)
    with ThreadPoolExecutor(CALLERS + 1) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    return told


def check_values(postgres: PostgresServer, database: str, told: list[Told]) -> None:
    """Check what was read, and that what was written is what callers were told."""
    assert {each.result.unwrap() for each in told if each.result and isinstance(each.request, CountOrders)} == {1}
    orders = [each for each in told if isinstance(each.request, PlaceOrder)]
    written = Counter(number for (number,) in postgres.execute(database, "select number from orders"))
    assert written.pop("first") == 1
    assert set(written.values()) == {1}
    promised = {each.request.number for each in orders if each.result}
    assert promised <= set(written)
    # A commit whose answer was lost with the connection: it failed as far as anybody there could tell.
    assert set(written) - promised <= {each.request.number for each in orders if not each.result}
    [(pieces,)] = postgres.execute(database, "select pieces from stock")
    assert pieces == PIECES - len(written) - 1


@pytest.mark.parametrize("size", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize(
    ("kind", "database", "environment"),
    [
        pytest.param(
            DJANGO, "kept", {"SHOP_CONN_MAX_AGE": "60"}, id="django-keeps-connections", marks=pytest.mark.slow
        ),
        pytest.param(
            DJANGO, "closed", {"SHOP_CONN_MAX_AGE": "0"}, id="django-closes-connections", marks=pytest.mark.slow
        ),
        pytest.param(FLASK, "pooled", {}, id="flask-sqlalchemy", marks=pytest.mark.slow),
    ],
)
def test_a_cut_connection_costs_one_call_at_most_and_none_is_left_open(
    postgres: PostgresServer,
    tmp_path: Path,
    kind: str,
    database: str,
    environment: dict[str, str],
    size: tuple[int, int, int, int, int],
) -> None:
    name = f"{database}_{size[0]}"
    postgres.create(name)
    gunicorn = ("-w", str(WORKERS), "-k", "gthread", "--threads", str(THREADS))
    shop = Shop(kind, tmp_path, *gunicorn, postgres=postgres, database=name, **environment)
    shop.prepare()
    rng = random.Random(7)

    def cut() -> None:
        # Mostly one; sometimes all, as when the database moves to another machine.
        postgres.cut(name, rng.choice([1, 1, 2, 100]))

    with shop, shop.client() as client:
        assert client.send(PlaceOrder("first")).unwrap() == PIECES - 1
        begun = time.monotonic()
        told = load(client, cut, *size[:4])
        took = time.monotonic() - begun
        failed = [each for each in told if not each.result]
        cuts = postgres.cuts(name)
        kinds = Counter((each.result.delivery.name, str(each.result.code)) for each in failed)
        longest = max(each.seconds for each in told)
        still = Counter(postgres.connections(name))
        print(
            f"{name}: {len(told)} calls in {took:.1f} s, {cuts} connections cut, {len(failed)} calls failed "
            f"{dict(kinds)}, the longest took {longest:.2f} s, then open: {dict(still)}"
        )
        calls, batches, batch, _, least = size
        assert len(told) == calls + batches * batch
        assert len(failed) <= cuts
        assert cuts >= least
        for each in failed:
            assert each.result.delivery in (Delivery.EXECUTED, Delivery.UNKNOWN), each
            assert each.result.code not in (None, "", ErrorCode.DEADLINE_EXCEEDED), each
        assert longest < TIMEOUT
        check_values(postgres, name, told)
        if database == "closed":
            until(lambda: not postgres.connections(name), "all connections are closed after the last call")
        else:
            # One a thread of a server or one a place of a pool; none in a transaction that nobody will end.
            states = until(lambda: settled(postgres.connections(name)), "no connection is in a transaction")
            assert len(states) <= WORKERS * THREADS
        shop.drain()
        shop.process.stop()
        until(lambda: not postgres.connections(name), "all connections are closed with the server")


def settled(states: list[str]) -> list[str] | None:
    return states if set(states) <= {"idle"} else None


@pytest.mark.parametrize(
    ("kind", "max_age", "way"),
    [
        pytest.param(DJANGO, "0", "stream", id="closes", marks=pytest.mark.slow),
        pytest.param(DJANGO, "60", "post", id="keeps", marks=pytest.mark.slow),
        pytest.param(DJANGO_APP, "0", "post", id="app", marks=pytest.mark.slow),
    ],
)
def test_streams_leave_no_connection_open_and_are_offered_nowhere_else_with_django(
    postgres: PostgresServer, tmp_path: Path, kind: str, max_age: str, way: str
) -> None:
    name = f"streams_{kind}_{max_age}"
    postgres.create(name)
    gunicorn = ("-k", "gthread", "--threads", str(THREADS))
    shop = Shop(kind, tmp_path, *gunicorn, postgres=postgres, database=name, SHOP_CONN_MAX_AGE=max_age)
    shop.prepare()
    ways: list[str] = []

    class Watch:
        def on_attempt(self, details: AttemptDetails) -> None:
            ways.append(details.way)

    with shop, shop.client(hooks=[Watch()]) as client:
        # The node learns from its first request what its server lends; the callers learn it from a heartbeat. The next
        # one may have been on its way already.
        assert client.send(CountOrders("none")).unwrap() == 0
        for _ in range(2):
            before = client.nodes()[0].last_heartbeat
            until(lambda before=before: client.nodes()[0].last_heartbeat != before, "a heartbeat")  # type: ignore[misc]
        assert (STREAM in client.nodes()[0].features) == (way == "stream")
        ways.clear()
        with ThreadPoolExecutor(CALLERS) as pool:
            placed = list(pool.map(lambda n: client.send(PlaceOrder(f"n{n}"), timeout=TIMEOUT), range(4 * CALLERS)))
        assert [result for result in placed if not result] == []
        # On a busy machine some streams are not opened in time.
        assert way in ways
        assert (way == "stream") == ("stream" in ways)
        if way == "stream":
            # The streams are open still; their threads have closed what their calls have opened.
            until(lambda: not postgres.connections(name), "all connections are closed after the last call")
        assert postgres.execute(name, "select count(*) from orders") == [(4 * CALLERS,)]

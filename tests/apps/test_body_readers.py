"""Apps that read the body of each request themselves: a call is answered as if they did not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from catga_sync import CatgaResult, ClusterMediator, ErrorCode
from tests.apps.messages import CountOrders, PlaceOrder
from tests.apps.servers import FLASK, Shop
from tests.conftest import require_module

for needed in ("flask_sqlalchemy", "flask_login", "flask_wtf", "gunicorn"):
    require_module(needed)

from tests.apps.flask_project.audit import AFTER, BEFORE, MIDDLEWARE  # noqa: E402 - needs what is optional

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("body-readers")]

SERVERS = {
    "flask": (),
    "gunicorn": ("-w", "1", "-k", "gthread", "--threads", "4"),
    "gunicorn-sync": ("-w", "1", "-k", "sync"),
}
SECRET = "a secret of these tests, long enough"
#: Bytes of a body that the node takes.
LIMIT = 20_000
#: Seconds for a call: one that hangs is to hang for no longer.
TIMEOUT = 30.0


@dataclass
class Reader:
    """A client whose calls are read by the app in some way before or after we do."""

    shop: Shop
    secret: str | None

    def ask(self, name: str | None) -> tuple[list[CatgaResult[int]], list[int]]:
        """Call in every way; return what was told, and how many bytes the app has read of each call's body."""
        with self.client(name) as (client, read):
            told = [
                client.send(PlaceOrder(f"{name}"), timeout=TIMEOUT),
                client.send(CountOrders(f"{name}"), timeout=TIMEOUT),
                *client.send_batch([CountOrders("x"), CountOrders("y")], timeout=TIMEOUT),
            ]
        return told, read

    @contextlib.contextmanager
    def client(self, name: str | None) -> Iterator[tuple[ClusterMediator, list[int]]]:
        """Give a client whose calls are read so, and a list that grows by the bytes that were read of each body."""
        read: list[int] = []
        with requests.Session() as session:
            if name is not None:
                session.headers["X-Reader"] = name
            session.hooks["response"].append(lambda answer, **_: read.append(int(answer.headers["X-Read"])))
            with self.shop.client(session=session, secret=self.secret) as client:
                yield client, read


#: In "make test"; "make soak" tries each server with each kind of guard.
QUICK = {("gunicorn", SECRET)}
CASES = [
    pytest.param(
        (server, secret),
        id=f"{server}-{'secret' if secret else 'plain'}",
        marks=[] if (server, secret) in QUICK else pytest.mark.slow,
    )
    for secret in (None, SECRET)
    for server in SERVERS
]


@pytest.fixture(scope="module", params=CASES)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    server, secret = request.param
    given = {} if secret is None else {"FLASK_CATGA_SECRET": secret}
    given |= {"FLASK_CATGA_MAX_BODY_BYTES": str(LIMIT), "FLASK_RECEIVER": "blueprint", "FLASK_WALL": "shop"}
    shop = Shop(FLASK, tmp_path_factory.mktemp("shop"), *SERVERS[server], **given)
    shop.prepare()
    with shop:
        yield Reader(shop, secret)


@pytest.mark.parametrize("name", [None, *BEFORE, *AFTER, *MIDDLEWARE])
def test_a_body_that_the_app_reads_is_answered_as_one_that_it_does_not_read(reader: Reader, name: str | None) -> None:
    told, read = reader.ask(name)
    assert [(bool(each), each.error) for each in told] == [(True, None)] * 4
    assert [each.unwrap() for each in told[1:]] == [1, 0, 0]
    # Of JSON a form has nothing; all others have seen something of each of the three bodies.
    assert len([size for size in read if size > 0]) == (0 if name in (None, "form") else 3)


@pytest.mark.parametrize("name", [None, "data", "data-after", "middleware"])
def test_a_body_that_the_app_reads_is_limited_as_one_that_it_does_not_read(reader: Reader, name: str | None) -> None:
    with reader.client(name) as (client, _):
        told = client.send(PlaceOrder("x" * LIMIT), timeout=TIMEOUT)
        # The second where answers are signed: none is to a caller that is not verified, for which its body is needed.
        assert told.code in (ErrorCode.RESOURCE_EXHAUSTED, ErrorCode.UNAUTHENTICATED)
        assert client.send(CountOrders("x"), timeout=TIMEOUT)

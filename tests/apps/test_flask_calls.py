"""A Flask app factory with extensions: each received call has an app context of its own and no request."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context, has_request_context

from catga_sync import (
    BusinessError,
    CatgaResult,
    ClusterMediator,
    Delivery,
    Mediator,
    Query,
    Request,
    async_sends,
    create_cluster,
    message,
)
from tests.apps.messages import (
    PIECES,
    BreakConnection,
    CountOrders,
    CrashAfterWrite,
    PlaceOrder,
    ReadAndAsk,
)
from tests.apps.servers import serving
from tests.conftest import require_module
from tests.processes import free_port

for needed in ("flask_sqlalchemy", "flask_login", "flask_wtf"):
    require_module(needed)

from tests.apps.flask_project.app import create_app  # noqa: E402 - needs what is optional
from tests.apps.flask_project.models import Order, Stock, db  # noqa: E402
from tests.apps.flask_project.orders import register_handlers  # noqa: E402


@dataclass(frozen=True)
class Place:
    """Where a handler has run."""

    app: str
    has_app: bool
    has_request: bool
    thread: str
    #: What is kept in ``g``: the calls that have run in the same context before, and whatever a view has put there.
    seen: list[str]


@message(name="apps.Where")
@dataclass(frozen=True)
class Where(Query[Place]):
    call: str


@message(name="apps.Nest")
@dataclass(frozen=True)
class Nest(Query[Place]):
    """Answered with what a Where of its handler is answered with."""

    call: str


@message(name="apps.Fail")
@dataclass(frozen=True)
class Fail(Request[None]):
    call: str
    how: str


@message(name="apps.LeaveOrder")
@dataclass(frozen=True)
class LeaveOrder(Request[None]):
    """Put an order into the session, and commit nothing."""

    number: str


@dataclass(frozen=True)
class SessionOf(Query[int]):
    """Answered as the test says."""

    call: str


def note(call: str) -> list[str]:
    if "calls" not in g:
        g.calls = []
    g.calls.append(call)
    return list(g.calls)


def where(query: Where) -> Place:
    seen = note(query.call)
    return Place(current_app.name, has_app_context(), has_request_context(), threading.current_thread().name, seen)


def fail(request: Fail) -> None:
    note(request.call)
    raise ValueError("no") if request.how == "crash" else BusinessError("no", code="NO")


def leave_order(request: LeaveOrder) -> None:
    db.session.add(Order(number=request.number))


@dataclass
class Served:
    """The app as a node behind a server with one thread, and a client of it."""

    app: Flask
    local: Mediator
    port: int
    client: ClusterMediator
    #: The calls whose context was torn down, with the error that the teardown was told.
    torn: list[tuple[list[str], str | None]]

    @property
    def mediator(self) -> ClusterMediator:
        made: ClusterMediator = self.app.extensions["catga_sync"]
        return made


@pytest.fixture(params=["front", pytest.param("blueprint", marks=pytest.mark.slow)])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    local = register_handlers(Mediator())
    port = free_port()
    app = create_app(
        local,
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'shop.sqlite3'}",
        CATGA_NODE_ID="shop",
        CATGA_ENDPOINT=f"http://127.0.0.1:{port}",
        CATGA_DISCOVERY=f"memory://{uuid.uuid4().hex}",
        RECEIVER=request.param,
        WALL="none",
    )
    mediator: ClusterMediator = app.extensions["catga_sync"]

    def nest(query: Nest) -> Place:
        note(query.call)
        return mediator.send(Where(f"{query.call}, nested")).unwrap()

    for handler in (where, fail, leave_order, nest):
        local.handler(handler)
    torn: list[tuple[list[str], str | None]] = []

    @app.teardown_appcontext
    def note_teardown(error: BaseException | None) -> None:
        if "calls" in g:
            torn.append((g.calls, None if error is None else type(error).__name__))

    @app.get("/where")
    def view() -> Any:
        note("view")
        first, second = (mediator.send(Where(call)).unwrap() for call in ("first", "second"))
        return {"seen": second.seen, "has_request": [first.has_request, second.has_request], "after": g.calls}

    with app.app_context():
        db.create_all()
        db.session.add(Stock(name="tea", pieces=PIECES))
        db.session.commit()
    peers = {"shop": f"http://127.0.0.1:{port}"}
    with (
        mediator,
        # One thread: every call meets what the last one has left there.
        serving(app, port, threaded=False),
        create_cluster(Mediator(), node_id="client", discovery="static", peers=peers) as client,
    ):
        yield Served(app, local, port, client, torn)
    with app.app_context():
        db.engine.dispose()


def one_by_one(client: ClusterMediator, requests: list[Any]) -> list[Any]:
    return [client.send(each) for each in requests]


def as_a_batch(client: ClusterMediator, requests: list[Any]) -> list[Any]:
    return client.send_batch(requests)


Send = Callable[[ClusterMediator, list[Any]], list[Any]]
either_way = pytest.mark.parametrize("send", [one_by_one, as_a_batch])
#: Both in "make test"; of the other tests "make soak" has the blueprint.
either_receiver = pytest.mark.parametrize("served", ["front", "blueprint"], indirect=True)


# -- from another node ------------------------------------------------------------------------------------------------


@either_way
@either_receiver
def test_a_received_call_has_an_app_context_of_its_own_and_no_request(served: Served, send: Send) -> None:
    told = [each.unwrap() for each in send(served.client, [Where("a"), Where("b"), Where("c")])]
    assert [each.seen for each in told] == [["a"], ["b"], ["c"]]
    assert {(each.app, each.has_app, each.has_request) for each in told} == {(served.app.name, True, False)}
    assert {each.thread for each in told} == {f"server-{served.port}"}


@either_way
def test_the_context_of_a_received_call_is_torn_down_once_with_the_error_of_its_handler(
    served: Served, send: Send
) -> None:
    told = send(served.client, [Where("a"), Fail("b", "crash"), Fail("c", "refuse"), Where("d")])
    assert [bool(each) for each in told] == [True, False, False, True]
    assert [calls for calls, _ in served.torn] == [["a"], ["b"], ["c"], ["d"]]
    assert [error for _, error in served.torn][:2] == [None, "ValueError"]
    assert served.torn[3][1] is None


@either_way
def test_a_call_within_a_received_call_shares_its_context(served: Served, send: Send) -> None:
    told = [each.unwrap() for each in send(served.client, [Nest("a"), Nest("b")])]
    assert [each.seen for each in told] == [["a", "a, nested"], ["b", "b, nested"]]
    assert not any(each.has_request for each in told)
    assert [calls for calls, _ in served.torn] == [["a", "a, nested"], ["b", "b, nested"]]


@either_way
@either_receiver
def test_what_one_call_leaves_in_the_session_is_not_met_by_the_next(served: Served, send: Send) -> None:
    told = send(served.client, [LeaveOrder("left"), PlaceOrder("placed"), CountOrders("left"), CountOrders("placed")])
    assert [each.unwrap() for each in told] == [None, PIECES - 1, 0, 1]


@either_way
@pytest.mark.parametrize("bad", [CrashAfterWrite("torn"), BreakConnection()])
def test_a_session_that_fails_in_one_call_is_not_met_by_the_next(served: Served, send: Send, bad: Request[Any]) -> None:
    told = send(served.client, [CountOrders("torn"), bad, CountOrders("torn"), PlaceOrder("good"), CountOrders("good")])
    assert [bool(each) for each in told] == [True, False, True, True, True]
    assert [each.value for each in told] == [0, None, 0, PIECES - 1, 1]


@either_way
def test_a_call_within_a_call_leaves_the_session_of_its_caller_alone(served: Served, send: Send) -> None:
    told = send(served.client, [PlaceOrder("1"), PlaceOrder("2"), ReadAndAsk()])
    assert told[-1].unwrap() == 2


@either_way
def test_a_teardown_that_fails_concerns_its_own_call_at_most(
    served: Served, send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(error: BaseException | None) -> None:
        if "calls" in g:
            raise RuntimeError("the pool is gone")

    # Not by the decorator: the app may have answered a request already, the probe of its own node.
    served.app.teardown_appcontext_funcs.append(raises)
    told = send(served.client, [CountOrders("x"), Where("a"), CountOrders("x")])
    assert [bool(told[0]), bool(told[2])] == [True, True]
    # Whether it is a success or a failure, its handler has run, and nobody may send it again.
    assert told[1].delivery is Delivery.EXECUTED
    assert "the pool is gone" in caplog.text


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_refusal_of_the_receiver_is_no_error_page_of_the_app(served: Served, method: str) -> None:
    path = "/catga/cluster/invoke"
    with served.app.test_client().open(path, method=method, data=b"{", content_type="application/json") as response:
        assert response.status_code >= 400
        assert not response.json["isSuccess"]
    with served.app.test_client().open("/nowhere", method=method) as response:
        assert "<h1>" in response.text


# -- from here --------------------------------------------------------------------------------------------------------


def test_a_local_call_of_a_view_is_part_of_the_request(served: Served) -> None:
    with served.app.test_client().get("/where") as response:
        assert response.json == {
            "seen": ["view", "first", "second"],
            "has_request": [True, True],
            "after": ["view", "first", "second"],
        }
    with served.app.test_client().get("/orders/1") as response:
        assert response.json == {"count": 0}
    assert [calls for calls, _ in served.torn] == [["view", "first", "second"]]


def test_a_local_call_of_a_script_has_a_context_of_its_own(served: Served) -> None:
    told = [served.mediator.send(Where(call)).unwrap() for call in ("a", "b")]
    told += [each.unwrap() for each in served.mediator.send_batch([Where("c"), Nest("d")])]
    assert [each.seen for each in told] == [["a"], ["b"], ["c"], ["d", "d, nested"]]
    assert not any(each.has_request for each in told)
    assert [calls for calls, _ in served.torn] == [["a"], ["b"], ["c"], ["d", "d, nested"]]
    assert not has_app_context()


def test_a_local_call_of_a_script_with_a_context_uses_that(served: Served) -> None:
    with served.app.app_context():
        note("script")
        order = Order(number="kept")
        db.session.add(order)
        assert served.mediator.send(Where("a")).unwrap().seen == ["script", "a"]
        assert served.mediator.send(CountOrders("kept")).unwrap() == 1
        assert order in db.session
        assert served.torn == []
    assert served.torn == [(["script", "a"], None)]


def test_a_local_call_of_a_thread_of_an_app_has_a_context_of_its_own(served: Served) -> None:
    told: list[CatgaResult[Place]] = []
    with served.app.app_context():
        note("main")
        thread = threading.Thread(target=lambda: told.append(served.mediator.send(Where("a"))))
        thread.start()
        thread.join()
    assert [each.unwrap().seen for each in told] == [["a"]]


# -- awaited ----------------------------------------------------------------------------------------------------------


def test_calls_that_are_awaited_have_each_a_context_and_a_session_of_its_own(served: Served) -> None:
    both = threading.Barrier(2)

    def session_of(query: SessionOf) -> int:
        note(query.call)
        made = db.session()
        both.wait(60)
        assert db.session() is made
        return id(made)

    served.local.handler(session_of)

    async def main() -> list[int]:
        calls = [served.mediator.asend(SessionOf(call)) for call in ("a", "b")]
        return [each.unwrap() for each in await asyncio.gather(*calls)]

    with served.app.app_context():
        note("view")
        order = Order(number="kept")
        db.session.add(order)
        assert len({*asyncio.run(main()), id(db.session())}) == 3
        assert order in db.session
        assert g.calls == ["view"]
        assert sorted(calls for calls, _ in served.torn) == [["a"], ["b"]]


def test_a_call_within_one_that_is_awaited_shares_its_context(served: Served) -> None:
    with served.app.app_context():
        note("view")
        assert asyncio.run(served.mediator.asend(Nest("a"))).unwrap().seen == ["a", "a, nested"]
    assert [calls for calls, _ in served.torn] == [["a", "a, nested"], ["view"]]


def test_a_context_that_has_ended_is_not_met_by_a_later_call_of_the_same_thread(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task of a handler sees the handler's context for good."""
    monkeypatch.setattr(async_sends, "_MAX_THREADS", 1)
    monkeypatch.setattr(async_sends, "_DEEPEST", 0)
    left: list[contextvars.Context] = []

    def session_of(query: SessionOf) -> int:
        note(query.call)
        left.append(contextvars.copy_context())
        return threading.get_ident()

    served.local.handler(session_of)
    first = asyncio.run(served.mediator.asend(SessionOf("first"))).unwrap()
    assert left[0].run(asyncio.run, served.mediator.asend(SessionOf("second"))).unwrap() == first
    assert [calls for calls, _ in served.torn] == [["first"], ["second"]]

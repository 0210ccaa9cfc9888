"""LocalCluster: several nodes in one process."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, has_request_context

from catga_sync.context import current_call
from catga_sync.errors import ConfigurationError, Delivery, ErrorCode
from catga_sync.integrations.flask import cluster_blueprint
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.nodes import NodeStatus
from catga_sync.testing import Fault, LocalCluster
from tests.processes import until


@message(name="local.Reserve")
@dataclass(frozen=True)
class Reserve(Request[int]):
    article: str = "apple"


@message(name="local.Count")
@dataclass(frozen=True)
class Count(Query[int]):
    pass


@message(name="local.Price")
@dataclass(frozen=True)
class Price(Query[int]):
    pass


@message(name="local.SoldOut")
@dataclass(frozen=True)
class SoldOut(Event):
    pass


#: Seconds of a call that ends with them: enough for it to begin, on a machine that is busy.
SHORT = 0.5


class Stock:
    """A service that counts what it runs."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.local = Mediator()
        self.local.register(Reserve, self.run)
        self.local.register(Count, self.run)
        self.local.subscribe(SoldOut, self.run)

    def run(self, message: Any) -> int:
        self.ran.append(message)
        return len(self.ran)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as made:
        yield made


def test_a_request_runs_at_the_node_that_has_its_handler(cluster: LocalCluster) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    shop = cluster.add_client("shop")
    result = shop.send(Reserve())
    assert (result.value, result.node_id, result.delivery) == (1, "stock", Delivery.EXECUTED)
    assert [each.value for each in shop.send_batch([Reserve(), Count()])] == [2, 3]
    assert shop.publish(SoldOut()) == {"stock": result._with(value=None)}
    assert shop.broadcast(Count())["stock"].value == 5
    assert [node.node_id for node in shop.nodes()] == ["stock"]


@pytest.mark.parametrize("node_id", ["stock_1", "Stock.eu", "7", "a-b"])
def test_an_id_that_is_no_host_name_is_an_id(cluster: LocalCluster, node_id: str) -> None:
    cluster.add_node(node_id, Stock().local)
    assert cluster.add_client("shop_1").send(Reserve()).node_id == node_id


def test_the_calls_of_a_flask_app_get_its_context(cluster: LocalCluster) -> None:
    node, app = cluster.add_node("prices"), Flask("prices")
    app.testing = True
    app.register_blueprint(cluster_blueprint(node))
    node.register(Price, lambda request: len(current_app.name))
    assert cluster.add_client().send(Price()).value == 6


def test_a_node_that_is_restarted_has_the_context_of_its_app(cluster: LocalCluster) -> None:
    node, app = cluster.add_node("prices"), Flask("prices")
    app.testing = True
    app.register_blueprint(cluster_blueprint(node))
    node.register(Price, lambda request: len(current_app.name))
    shop = cluster.add_client()
    cluster.restart("prices")
    assert shop.send(Price()).value == 6


def test_services_send_to_each_other_under_one_call(cluster: LocalCluster) -> None:
    prices = Mediator()
    stock = cluster.add_node("stock", Stock().local)
    prices_node = cluster.add_node("prices", prices)
    sources: list[Any] = []

    @prices.handler
    def price(request: Price) -> int:
        call = current_call()
        sources.append(None if call is None else call.source_node_id)
        return prices_node.send(Count()).unwrap() * 10

    assert stock.send(Price()).value == 10
    assert sources == ["stock"]


def test_a_handler_may_be_registered_later(cluster: LocalCluster) -> None:
    node, shop = cluster.add_node("prices"), cluster.add_client()
    assert shop.send(Price()).code is ErrorCode.UNIMPLEMENTED
    node.register(Price, lambda request: 7)
    assert shop.send(Price()).value == 7
    heard: list[Any] = []
    node.subscribe(SoldOut, heard.append)
    assert shop.publish(SoldOut())["prices"]
    assert heard == [SoldOut()]


def test_it_opens_no_socket_and_writes_no_file(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CATGA_RUNTIME_DIR", str(tmp_path))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    cluster.add_node("stock", Stock().local)
    shop = cluster.add_client()
    assert shop.send(Reserve())
    cluster.kill("stock")
    assert not shop.send(Reserve())
    cluster.restart("stock")
    assert shop.send(Reserve())
    assert list(tmp_path.iterdir()) == []


def test_leaving_the_block_ends_its_threads() -> None:
    with LocalCluster() as cluster:
        cluster.add_node("stock", Stock().local)
        cluster.add_client("shop-of-this-test").send(Count())
        assert [each for each in threading.enumerate() if "shop-of-this-test" in each.name]
    assert not [each for each in threading.enumerate() if "shop-of-this-test" in each.name]


class Hanging:
    """A cluster with a client, and a node whose handler hangs until it is told to end."""

    def __init__(self) -> None:
        self.entered, self.ended = threading.Event(), threading.Event()
        self.cluster = LocalCluster()
        local = Mediator()
        local.register(Reserve, self.hang)
        local.register(Count, self.hang)
        self.cluster.add_node("stock", local)
        self.client = self.cluster.add_client()

    def hang(self, request: Any) -> int:
        self.entered.set()
        assert self.ended.wait(60)
        return 1

    def send(self, *messages: Any) -> None:
        """Send them from another thread, which waits until the cluster is closed; return when the handler hangs."""
        threading.Thread(target=self.client.send_batch, args=(messages,), daemon=True).start()
        assert self.entered.wait(30)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.ended.set()


def test_closing_it_waits_for_a_handler_whose_caller_does_not(cluster: LocalCluster) -> None:
    ran: list[Any] = []

    def slow(request: Reserve) -> int:
        until(lambda: shop.closed, "it is closing")
        ran.append(request)
        return 1

    stock = Mediator()
    stock.register(Reserve, slow)
    cluster.add_node("stock", stock)
    shop = cluster.add_client()
    assert shop.send(Reserve(), timeout=SHORT).code is ErrorCode.DEADLINE_EXCEEDED
    cluster.close()
    assert ran == [Reserve()]
    assert not [each for each in threading.enumerate() if each.name == "catga-local-stock"]


@pytest.mark.parametrize(
    ("messages", "names"),
    [
        pytest.param([Reserve()], "local.Reserve", marks=pytest.mark.slow),
        ([Reserve(), Count()], "local.Reserve or local.Count"),
        pytest.param([Reserve("x" * 100_000)], "local.Reserve", marks=pytest.mark.slow),  # it travels compressed
    ],
)
def test_closing_it_warns_of_a_handler_that_does_not_end(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch, messages: list[Any], names: str
) -> None:
    monkeypatch.setattr("catga_sync.testing.local_cluster._GRACE", SHORT)
    hanging.send(*messages)
    with pytest.warns(RuntimeWarning, match=f"still run: {names} at node 'stock'; have the test end") as caught:
        hanging.cluster.close()
    assert [each.filename for each in caught] == [__file__]
    hanging.cluster.close()  # it has said so


def test_the_warning_is_at_the_with_block(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catga_sync.testing.local_cluster._GRACE", 0.0)
    hanging.send(Reserve())
    with pytest.warns(RuntimeWarning, match=r"local\.Reserve at node 'stock'") as caught, hanging.cluster:
        pass
    assert [each.filename for each in caught] == [__file__]


@pytest.mark.parametrize("waits_for", ["a slow way", "a lost request", "a node that hangs", "a handler that hangs"])
def test_closing_it_wakes_handlers_that_wait_for_another_node(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    cluster, results = hanging.cluster, []
    node = cluster.add_node("shop", max_retries=0)
    node.register(Price, lambda request: results.append(node.send(Reserve())) or 7)
    if waits_for == "a node that hangs":
        cluster.pause("stock")
    elif waits_for != "a handler that hangs":
        cluster.script("stock", Fault.SLOW if waits_for == "a slow way" else Fault.DROP_REQUEST, seconds=50)
    caller = threading.Thread(target=lambda: results.append(hanging.client.send(Price(), timeout=60)))
    caller.start()
    until(lambda: hanging.entered.is_set() or waiting(cluster) + asleep(cluster) > 0, "the handler waits")
    (handler,) = [each for each in threading.enumerate() if each.name == "catga-local-shop"]
    if waits_for == "a handler that hangs":
        monkeypatch.setattr("catga_sync.testing.local_cluster._GRACE", SHORT)
        # The one that waits is woken, and may take longer than that to end.
        still = r"still run: (local\.Price at node 'shop', )?local\.Reserve at node 'stock'; have"
        with pytest.warns(RuntimeWarning, match=still):
            cluster.close()
    else:
        cluster.close()
        assert handler.done.is_set()  # its thread ends a moment later
        assert not hanging.entered.is_set()
    handler.join(30)
    assert not handler.is_alive()
    caller.join(30)
    assert [each.delivery for each in results] == [Delivery.UNKNOWN] * 2


def test_closing_it_runs_no_request_that_was_on_its_way(hanging: Hanging) -> None:
    cluster, results = hanging.cluster, []
    caller = threading.Thread(target=lambda: results.append(hanging.client.send(Reserve(), timeout=60)))

    class Over(threading.Event):
        """What it wakes goes on before anything else happens."""

        def set(self) -> None:
            super().set()
            until(lambda: hanging.entered.is_set() or not caller.is_alive(), "the request goes on")

    cluster._over = Over()
    cluster.script("stock", Fault.SLOW, seconds=50)
    caller.start()
    until(lambda: asleep(cluster) > 0, "the request is on its way")
    cluster.close()
    assert not hanging.entered.is_set()
    assert [each.delivery for each in results] == [Delivery.UNKNOWN]


def waiting(cluster: LocalCluster) -> int:
    return len(cluster._member("stock").going._cond._waiters)  # type: ignore[attr-defined]


def asleep(cluster: LocalCluster) -> int:
    return len(cluster._over._cond._waiters)  # type: ignore[attr-defined]


def test_a_handler_may_close_its_cluster(cluster: LocalCluster) -> None:
    stock = Mediator()
    stock.register(Reserve, lambda request: cluster.close() or 1)
    cluster.add_node("stock", stock)
    assert cluster.add_client().send(Reserve()).delivery is Delivery.UNKNOWN


# -- faults ------------------------------------------------------------------------------------------------------------

FAULTS = {
    Fault.REFUSE: (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE, 0, True),
    Fault.KILL_BEFORE: (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE, 0, False),
    Fault.KILL_AFTER: (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE, 1, False),
    Fault.DROP_REQUEST: (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED, 0, True),
    Fault.DROP_RESPONSE: (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED, 1, True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_gives_what_it_gives_over_http(cluster: LocalCluster, fault: Fault) -> None:
    delivery, code, ran, lives = FAULTS[fault]
    stock = Stock()
    cluster.add_node("stock", stock.local)
    shop = cluster.add_client(max_retries=0)
    assert shop.send(Count())
    cluster.script("stock", fault)
    result = shop.send(Reserve(), timeout=SHORT if code is ErrorCode.DEADLINE_EXCEEDED else None)
    assert (result.delivery, result.code) == (delivery, code)
    assert len(stock.ran) == 1 + ran
    assert bool(shop.send(Reserve())) is lives


def test_a_slow_request_is_slower_than_its_caller_waits(cluster: LocalCluster) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    shop = cluster.add_client()
    cluster.script("stock", Fault.SLOW, seconds=0.01)
    assert shop.send(Reserve())
    cluster.script("stock", Fault.SLOW, seconds=60)
    assert shop.send(Reserve(), timeout=SHORT).code is ErrorCode.DEADLINE_EXCEEDED


def test_a_duplicate_runs_once(cluster: LocalCluster) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    cluster.script("stock", Fault.DUPLICATE)
    assert cluster.add_client().send(Reserve()).value == 1
    assert stock.ran == [Reserve()]


def test_a_batch_has_the_faults_of_a_request(cluster: LocalCluster) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    cluster.script("stock", Fault.KILL_AFTER)
    results = cluster.add_client().send_batch([Reserve(), Reserve()])
    assert [each.delivery for each in results] == [Delivery.UNKNOWN] * 2
    assert len(stock.ran) == 2


def test_a_query_is_sent_to_another_node_when_one_dies_and_a_request_is_not(cluster: LocalCluster) -> None:
    nodes = {name: Stock() for name in ("a", "b")}
    for name, stock in nodes.items():
        cluster.add_node(name, stock.local)
    shop = cluster.add_client()
    cluster.script("a", Fault.KILL_AFTER)
    cluster.script("b", Fault.KILL_AFTER)
    result = shop.send(Count())
    assert [each.delivery for each in result.attempts][:2] == [Delivery.UNKNOWN] * 2
    assert sum(len(stock.ran) for stock in nodes.values()) == 2
    for name in nodes:
        cluster.restart(name)
        cluster.script(name, Fault.KILL_AFTER)
    assert len(shop.send(Reserve()).attempts) == 1


def test_a_killed_node_refuses_connections_until_it_is_restarted_without_its_state(cluster: LocalCluster) -> None:
    stock = Stock()
    first = cluster.add_node("stock", stock.local)
    shop = cluster.add_client(max_retries=0)
    cluster.kill("stock")
    result = shop.send(Reserve())
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)
    second = cluster.restart("stock")
    assert second is cluster.node("stock") is not first
    assert first.closed
    assert shop.send(Reserve()).value == 1


def test_a_node_that_hangs_runs_what_is_still_waited_for_when_it_goes_on(cluster: LocalCluster) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    shop = cluster.add_client()
    cluster.pause("stock")
    result = shop.send(Reserve("late"), timeout=SHORT)
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED)
    cluster.resume("stock")
    assert stock.ran == []
    assert shop.send(Reserve()).value == 1


def test_callers_who_wait_for_a_node_that_hangs_get_their_responses_when_it_goes_on(cluster: LocalCluster) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    shop = cluster.add_client()
    cluster.pause("stock")
    results: list[Any] = []
    callers = [threading.Thread(target=lambda: results.append(shop.send(Reserve(), timeout=60))) for _ in range(2)]
    for caller in callers:
        caller.start()
    until(lambda: waiting(cluster) == 2, "both wait")
    assert stock.ran == []
    cluster.resume("stock")
    for caller in callers:
        caller.join(30)
    assert sorted(each.value for each in results) == [1, 2]


@pytest.mark.parametrize("end", ["kill", "restart"])
def test_callers_who_wait_for_a_node_that_hangs_lose_their_connection_when_it_is_killed(
    cluster: LocalCluster, end: str
) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    shop = cluster.add_client()
    cluster.pause("stock")
    results: list[Any] = []
    caller = threading.Thread(target=lambda: results.append(shop.send(Reserve(), timeout=60)))
    caller.start()
    until(lambda: waiting(cluster) == 1, "it waits")
    getattr(cluster, end)("stock")
    caller.join(30)
    assert [(each.delivery, each.code) for each in results] == [(Delivery.UNKNOWN, ErrorCode.UNAVAILABLE)]
    assert stock.ran == []


def test_a_caller_waits_no_longer_than_its_time_for_a_handler_that_hangs(cluster: LocalCluster) -> None:
    ended, ran = threading.Event(), threading.Event()

    def hang(request: Reserve) -> int:
        assert ended.wait(60)
        ran.set()
        return 1

    stock = Mediator()
    stock.register(Reserve, hang)
    cluster.add_node("stock", stock)
    result = cluster.add_client().send(Reserve(), timeout=SHORT)
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED)
    assert not ran.is_set()
    ended.set()
    assert ran.wait(30)


def test_a_caller_whose_node_is_killed_loses_its_connection_at_once(cluster: LocalCluster) -> None:
    ended, entered = threading.Event(), threading.Event()

    def hang(request: Reserve) -> int:
        entered.set()
        assert ended.wait(60)
        return 1

    stock = Mediator()
    stock.register(Reserve, hang)
    cluster.add_node("stock", stock)
    shop = cluster.add_client()
    results: list[Any] = []
    caller = threading.Thread(target=lambda: results.append(shop.send(Reserve(), timeout=60)))
    caller.start()
    assert entered.wait(30)
    cluster.kill("stock")
    caller.join(30)
    assert [(each.delivery, each.code) for each in results] == [(Delivery.UNKNOWN, ErrorCode.UNAVAILABLE)]
    ended.set()


def test_a_handler_runs_in_a_thread_of_its_node(cluster: LocalCluster) -> None:
    names: list[str] = []
    prices = Mediator()
    prices.register(Price, lambda request: names.append(threading.current_thread().name) or 7)
    node = cluster.add_node("prices", prices)
    assert cluster.add_client().send(Price())
    assert node.send(Price())
    assert names == ["catga-local-prices", threading.current_thread().name]


def test_a_node_that_drains_takes_no_call(cluster: LocalCluster) -> None:
    stock = cluster.add_node("stock", Stock().local)
    shop = cluster.add_client()
    assert shop.send(Reserve())
    assert stock.drain(1)
    assert stock.node.status is NodeStatus.DRAINING
    assert shop.send(Reserve()).delivery is Delivery.NOT_EXECUTED


def test_a_node_that_is_closed_is_not_online(cluster: LocalCluster) -> None:
    stock = cluster.add_node("stock", Stock().local)
    shop = cluster.add_client()
    assert [each.status for each in shop.nodes()] == [NodeStatus.ONLINE]
    stock.close()
    assert NodeStatus.ONLINE not in [each.status for each in shop.nodes()]
    until(lambda: not shop.nodes(), "it is gone")


def test_the_handler_of_another_node_has_nothing_of_its_callers_context(cluster: LocalCluster) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    seen: list[Any] = []
    prices = Mediator()
    prices.register(Price, lambda request: seen.append((variable.get(), has_request_context())) or 7)
    cluster.add_node("prices", prices)
    shop = cluster.add_client()
    token = variable.set("of the caller")
    with Flask("shop").test_request_context():
        assert shop.send(Price()).value == 7
    variable.reset(token)
    assert seen == [("none", False)]


def test_a_response_after_the_deadline_does_not_arrive(cluster: LocalCluster) -> None:
    ran: list[Any] = []

    def slow(request: Reserve) -> int:
        call = current_call()
        assert call is not None
        assert call.deadline is not None
        deadline = call.deadline
        until(lambda: deadline.remaining() <= 0, "its time is up")
        ran.append(request)
        return 1

    stock = Mediator()
    stock.register(Reserve, slow)
    cluster.add_node("stock", stock)
    result = cluster.add_client().send(Reserve(), timeout=SHORT)
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED)
    until(lambda: len(ran) == 1, "the handler ends")


def test_a_node_that_is_killed_in_a_call_does_not_respond_though_it_is_started_again(cluster: LocalCluster) -> None:
    stock = Mediator()
    stock.register(Reserve, lambda request: (cluster.restart("stock"), 1)[1])
    cluster.add_node("stock", stock)
    assert cluster.add_client().send(Reserve()).delivery is Delivery.UNKNOWN


def test_a_node_that_is_killed_sends_nothing(cluster: LocalCluster) -> None:
    stock = Stock()
    cluster.add_node("stock", stock.local)
    shop = cluster.add_client("shop")
    cluster.kill("shop")
    assert shop.send(Reserve()).delivery is Delivery.NOT_EXECUTED
    assert stock.ran == []


# -- signatures --------------------------------------------------------------------------------------------------------


def test_with_a_secret_calls_are_signed_and_a_node_with_another_one_runs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CATGA_RUNTIME_DIR", str(tmp_path))
    stock = Stock()
    with LocalCluster(secret="s" * 32) as cluster:
        cluster.add_node("stock", stock.local)
        assert cluster.add_client("shop").send(Reserve()).value == 1
        result = cluster.add_client("stranger", secret="t" * 32).send(Reserve())
        assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.UNAUTHENTICATED)
        assert len(stock.ran) == 1
        cluster.script("stock", Fault.DUPLICATE)
        assert cluster.node("shop").send(Reserve()).code is ErrorCode.UNAUTHENTICATED
        cluster.restart("stock")
        assert cluster.node("shop").send_batch([Reserve(), Reserve()])[1].value == 4
    assert list(tmp_path.iterdir()) == []


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_an_unknown_node_is_an_error_that_names_the_others(cluster: LocalCluster) -> None:
    cluster.add_node("stock")
    for call in (cluster.kill, cluster.restart, cluster.pause, cluster.resume, cluster.node):
        with pytest.raises(ConfigurationError, match="no node 'stok'; its nodes: stock"):
            call("stok")
    with pytest.raises(ConfigurationError, match="no node 'stok'"):
        cluster.script("stok", Fault.REFUSE)


def test_a_fault_is_a_fault(cluster: LocalCluster) -> None:
    cluster.add_node("stock")
    name: Any = "REFUSE"
    with pytest.raises(TypeError, match=r"give a Fault, such as Fault\.REFUSE, not 'REFUSE'"):
        cluster.script("stock", name)


def test_a_node_id_is_given_once(cluster: LocalCluster) -> None:
    cluster.add_node("stock")
    with pytest.raises(ConfigurationError, match="has a node 'stock' already"):
        cluster.add_client("stock")


def test_a_closed_cluster_takes_no_node() -> None:
    with LocalCluster() as cluster:
        cluster.add_node("stock")
    with pytest.raises(ConfigurationError, match="is closed: add nodes before"):
        cluster.add_client()


@pytest.mark.parametrize("name", ["endpoint", "discovery", "insecure"])
def test_an_option_that_the_cluster_sets_is_refused(cluster: LocalCluster, name: str) -> None:
    options: Any = {name: "x"}
    with pytest.raises(ConfigurationError, match=f"^{name}: leave it out"):
        LocalCluster(**options)
    with pytest.raises(ConfigurationError, match=f"^{name}: leave it out"):
        cluster.add_node("stock", **options)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_fork_has_locks_of_its_own(cluster: LocalCluster) -> None:
    cluster.add_node("stock", Stock().local)
    shop = cluster.add_client()
    with cluster._lock, cluster._network._lock:  # as another thread may hold them
        child = os.fork()
        if child == 0:
            os._exit(0 if shop.send(Reserve(), timeout=20).value == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0

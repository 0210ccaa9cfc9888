"""A request that no node can take: the text tells which of the causes it is, and what to do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, Request, message
from catga_sync.nodes import NodeStatus
from tests.processes import free_port, until
from tests.unit.cluster.fakes import FakeStore, record
from tests.unit.cluster.real import node_at

Start = Callable[..., ClusterMediator]


@message(name="stock.GetStock")
@dataclass(frozen=True)
class Ask(Query[int]):
    sku: str = ""


@message(name="shop.stock.GetStock")
@dataclass(frozen=True)
class Stock(Query[int]):
    sku: str = ""


@message(name="stock.GetStock")
@dataclass(frozen=True)
class OtherAsk(Query[int]):
    """The form that another node has of ``Ask``."""

    tenant: str
    sku: str = ""


@message(name="billing.Invoice")
@dataclass(frozen=True)
class Invoice(Request[int]):
    pass


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def client(stack: ExitStack) -> Start:
    """Return what makes a pure client."""

    def client(discovery: Any, name: str = "web", **options: Any) -> ClusterMediator:
        return stack.enter_context(create_cluster(Mediator(), node_id=name, discovery=discovery, **options))

    return client


@pytest.fixture
def node(stack: ExitStack) -> Start:
    """Return what starts a real node that handles the given types."""

    def node(name: str, discovery: Any, *types: type[Request[Any]], **options: Any) -> ClusterMediator:
        local = Mediator()
        for each in types:
            local.register(each, lambda request: 1)
        return stack.enter_context(node_at(name, local, discovery=discovery, **options))

    return node


def visible(mediator: ClusterMediator, *names: str) -> None:
    until(lambda: [each.node_id for each in mediator.nodes()] == sorted(names), f"exactly {names} are visible")


def refusal(
    mediator: ClusterMediator, code: ErrorCode = ErrorCode.UNAVAILABLE, request: Request[Any] | None = None
) -> str:
    """Return the text of a send that no node can take; an explanation says the same."""
    asked = Ask() if request is None else request
    result = mediator.send(asked)
    assert (result.code, result.delivery) == (code, Delivery.NOT_EXECUTED), result.error
    explanation = mediator.explain(asked)
    assert (explanation.note, explanation.chosen) == (result.error, None)
    assert f"the call would fail at once: {result.error}" in str(explanation)
    assert mediator.send_batch([asked])[0].error == result.error
    return str(result.error)


# -- the store cannot be read ------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_named_with_what_is_wrong(client: Start, tmp_path: Path) -> None:
    file = tmp_path / "nodes.sqlite3"
    file.write_text("shopping list " * 100)
    text = refusal(client(f"sqlite:///{file}", cluster_name="shop"))
    assert text == (
        f"no handler for stock.GetStock here; discovery: the SQLite file {file} (cluster_name 'shop') cannot be read: "
        f"file is not a database"
    )


def test_a_folder_in_the_place_of_the_file_is_named_too(client: Start, tmp_path: Path) -> None:
    assert refusal(client(f"sqlite:///{tmp_path}")).endswith(
        f"discovery: the SQLite file {tmp_path} (cluster_name 'default') cannot be read: unable to open database file"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_is_closed_to_this_user_is_not_called_missing(client: Start, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    text = refusal(client(f"sqlite:///{folder}/nodes.sqlite3"))
    assert "does not exist" not in text
    assert "cannot be read" in text


def test_a_redis_server_that_is_not_there_is_named_without_the_password(client: Start) -> None:
    pytest.importorskip("redis")
    port = free_port()
    text = refusal(client(f"redis://catga:geheim@127.0.0.1:{port}/3", cluster_name="shop"))
    where = f"the Redis server 127.0.0.1:{port} (database 3, cluster_name 'shop', prefix 'catga')"
    assert text.startswith(f"no handler for stock.GetStock here; discovery: {where} cannot be read: ")
    assert "refused" in text
    assert "geheim" not in text


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError("postgres://shop:ge/h@eim@db:5432/x is down"), "postgres://***@db:5432/x is down"),
        (
            OSError("no route to host=db user=shop password=geheim port=1"),
            "no route to host=db user=shop password=*** port=1",
        ),
        (OSError("two\nlines\x1b[31m"), "two lines?[31m"),
        (TimeoutError(), "TimeoutError"),
        (OSError("x" * 5000), "x" * 300),
    ],
    ids=["a URL", "a DSN", "lines", "no text", "long"],
)
def test_the_error_of_a_store_of_the_users_own_is_one_line_without_credentials(
    client: Start, error: Exception, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = FakeStore()
    store.error = error
    assert refusal(client(store)).endswith(f"; discovery: FakeStore cannot be read: {shown}")
    (line,) = {entry.getMessage() for entry in caplog.records}
    assert line == f"discovery: FakeStore cannot be read: {shown}; going on with the nodes known"


def test_a_store_that_fails_later_is_told_beside_what_the_known_nodes_handle(client: Start) -> None:
    store = FakeStore(record("a", "Other"))
    mediator = client(store)
    assert "cannot be read" not in refusal(mediator, ErrorCode.UNIMPLEMENTED)
    store.error = OSError("no route")
    text = until(
        lambda: next((error for error in [mediator.send(Ask()).error] if error and "no route" in error), None),
        "it fails",
    )
    assert text.endswith("on a; others may be missing: discovery: FakeStore cannot be read: no route")
    store.error = None
    until(lambda: "no route" not in str(mediator.send(Ask()).error), "it is read again")


# -- the store is empty ------------------------------------------------------------------------------------------------

_CURE = "start one with the same discovery and cluster_name; a node that runs but is missing there logs the reason"


def test_a_file_that_does_not_exist_is_named(client: Start, tmp_path: Path) -> None:
    file = tmp_path / "ndoes.sqlite3"
    assert refusal(client(f"sqlite:///{file}", cluster_name="shop")) == (
        f"no handler for stock.GetStock here; no other node is in the SQLite file {file}, which does not exist "
        f"(cluster_name 'shop'): {_CURE}"
    )


def test_a_file_with_nodes_of_another_cluster_only_is_named_with_the_cluster(
    client: Start, node: Start, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/nodes.sqlite3"
    shop = node("node-1", url, Ask, cluster_name="shop")
    visible(shop, "node-1")
    assert f"in the SQLite file {tmp_path}/nodes.sqlite3 (cluster_name 'shpo'): " in refusal(
        client(url, cluster_name="shpo")
    )


def test_the_memory_of_this_process_is_named_as_what_it_is(client: Start) -> None:
    text = refusal(client("memory://absence"))
    assert f"; no other node is in the memory of this process, which no other process sees: {_CURE}" in text


def test_a_list_of_peers_is_named_with_those_in_it(client: Start) -> None:
    peers = {"web": "http://127.0.0.1:9"}
    text = refusal(client("static", peers=peers))
    assert "; no other node is in the option peers, which names web: " in text


def test_a_store_of_the_users_own_is_named_by_what_it_says_or_by_its_class(client: Start) -> None:
    class Consul(FakeStore):
        where = "Consul at http://shop:geheim@consul:8500"

    class Broken(FakeStore):
        @property
        def where(self) -> str:
            raise OSError("no")

    assert "no other node is in FakeStore: " in refusal(client(FakeStore()))
    assert "no other node is in Consul at http://***@consul:8500: " in refusal(client(Consul()))
    assert "no other node is in Broken: " in refusal(client(Broken()))


def test_a_lonely_process_with_a_handler_of_a_like_name_is_pointed_to_it(client: Start) -> None:
    mediator = client("memory://absence-2")
    mediator.register(Stock, lambda request: 1)
    text = refusal(mediator)
    assert text.startswith(
        "no handler for stock.GetStock here (did you mean shop.stock.GetStock in this process?); no other "
    )


# -- another node has this one's id ------------------------------------------------------------------------------------


def test_a_client_with_the_id_of_the_node_that_it_looks_for_is_told(client: Start, node: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nodes.sqlite3"
    there = node("twin", url, Ask)
    visible(there, "twin")
    mediator = client(url, name="twin")
    assert refusal(mediator) == (
        f"no handler for stock.GetStock here; node_id: the node at {there.options.endpoint} has the id 'twin', too, so "
        f"it is never called from here; give every node an id of its own"
    )
    assert f"it has the id of this node and another endpoint, {there.options.endpoint}" in str(mediator.explain(Ask()))


def test_a_node_whose_id_is_taken_is_told_with_other_nodes_around_as_well(node: Start) -> None:
    store = MemoryDiscovery()
    there = node("twin", store, Ask)
    node("other", store, Invoice)
    visible(there, "other", "twin")
    second = node("twin", store)
    until(lambda: len(second.nodes()), "the second one sees the others")
    assert f"node_id: the node at {there.options.endpoint} has the id 'twin', too" in refusal(second)
    # What the other one does not handle is no matter of the id.
    assert "node_id" not in refusal(second, ErrorCode.UNIMPLEMENTED, Stock())


def test_a_restarted_node_does_not_take_its_own_record_for_another_nodes(node: Start) -> None:
    store = MemoryDiscovery()
    there = node("node-1", store, Invoice)
    visible(there, "node-1")
    assert "node_id" not in refusal(there)


# -- nodes are there, and none takes calls -----------------------------------------------------------------------------


def test_nodes_that_all_go_offline_are_named_with_the_reason(
    client: Start, node: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its files are new, and it is one process: nobody is waited for.
    monkeypatch.setattr("catga_sync.cluster.group_files._SETTLED", 0.1)
    store = MemoryDiscovery()
    there, mediator = node("node-1", store, Ask), client(store)
    visible(mediator, "node-1")
    drain = threading.Thread(target=there.drain)
    drain.start()
    try:
        until(lambda: [each.status for each in mediator.nodes()] == [NodeStatus.DRAINING], "it says so")
        assert refusal(mediator) == "no node can take stock.GetStock now: node-1: it is going offline"
    finally:
        drain.join()


def test_nodes_that_are_all_offline_are_named(client: Start) -> None:
    offline = [record(name, "stock.GetStock", status=NodeStatus.OFFLINE) for name in ("a", "b")]
    assert refusal(client(FakeStore(*offline))).endswith("here; every other node in FakeStore is offline: a, b")


def test_nodes_whose_form_cannot_be_read_are_named_with_the_field(client: Start, node: Start) -> None:
    store = MemoryDiscovery()
    node("node-1", store, OtherAsk)
    mediator = client(store)
    visible(mediator, "node-1")
    assert refusal(mediator) == (
        "no node can take stock.GetStock now: node-1: its form of this type cannot be read from here: "
        "`tenant` is required there, absent here"
    )


# -- none handles the type ---------------------------------------------------------------------------------------------


def test_the_nearest_names_are_told_with_their_nodes(client: Start, node: Start) -> None:
    store = MemoryDiscovery()
    node("node-1", store, Invoice)
    node("node-2", store, Stock, Invoice)
    mediator = client(store)
    visible(mediator, "node-1", "node-2")
    assert refusal(mediator, ErrorCode.UNIMPLEMENTED) == (
        "no node handles stock.GetStock (did you mean shop.stock.GetStock at node-2?); register a handler with "
        "@mediator.handler here or on one of node-1, node-2"
    )


def test_without_a_like_name_none_is_told(client: Start, node: Start) -> None:
    store = MemoryDiscovery()
    node("node-1", store, Invoice)
    mediator = client(store)
    visible(mediator, "node-1")
    assert refusal(mediator, ErrorCode.UNIMPLEMENTED) == (
        "no node handles stock.GetStock; register a handler with @mediator.handler here or on node-1"
    )


def test_many_nodes_with_a_like_name_are_told_shortly(client: Start) -> None:
    mediator = client(FakeStore(*(record(f"n{n}", "shop.stock.GetStock") for n in range(9))))
    text = refusal(mediator, ErrorCode.UNIMPLEMENTED)
    assert "(did you mean shop.stock.GetStock at n0, n1, n2, ...?)" in text
    assert text.endswith("on one of n0, n1, n2, n3, n4, ...")


def test_a_mediator_without_a_cluster_tells_like_names_too() -> None:
    local = Mediator()
    local.register(Stock, lambda request: 1)
    expected = "no handler for stock.GetStock (did you mean shop.stock.GetStock?): register one with @mediator.handler"
    assert local.send(Ask()).error == expected
    assert f"the call would fail at once: {expected}" in str(local.explain(Ask()))

"""Nodes that say that they handle a type come before those that have not said what they handle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.cluster.snapshot import Snapshot
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from catga_sync.nodes import ClusterNode, NodeStatus
from tests.processes import free_port, until
from tests.unit.cluster.fakes import ids, node
from tests.unit.cluster.real import Foreign, node_at, served

ME = ClusterNode("me", "http://me:1", handles={"T"})


@message(name="preference.Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


@message(name="preference.Other")
@dataclass(frozen=True)
class Other(Query[int]):
    pass


def candidates(*nodes: ClusterNode, name: str = "T", here: bool = False, contract: str = "") -> list[str]:
    return ids(Snapshot(nodes, ME).candidates(name, contract, here))


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (node("py", "T"), ["py"]),
        (node("py", "T", status=NodeStatus.SUSPECT), ["py"]),
        (node("py", "T", status=NodeStatus.FAULTED), ["py"]),
        # One that takes nothing new says nothing that a call could use.
        (node("py", "T", status=NodeStatus.DRAINING), ["net"]),
        (node("py", "T", contracts={"T": "a:00!|"}), ["net"]),
        (node("py", "U"), ["net"]),
    ],
    ids=["online", "suspect", "faulted", "draining", "another form", "another type"],
)
def test_an_undescribed_node_is_for_types_of_which_no_node_that_takes_calls_says_that_it_handles_them(
    described: ClusterNode, expected: list[str]
) -> None:
    assert candidates(node("net"), described) == expected


def test_among_those_that_say_so_the_well_ones_come_first_whatever_the_undescribed_are() -> None:
    suspect = node("b", "T", status=NodeStatus.SUSPECT)
    assert candidates(node("net"), node("a", "T"), suspect) == ["a"]
    assert candidates(node("net", status=NodeStatus.SUSPECT), suspect) == ["b"]


def test_undescribed_nodes_alone_take_any_type_and_the_well_ones_first() -> None:
    assert candidates(node("a"), node("b")) == ["a", "b"]
    assert candidates(node("a"), node("b", status=NodeStatus.SUSPECT)) == ["a"]


def test_this_process_says_what_it_handles_so_no_undescribed_node_shares_its_calls() -> None:
    assert candidates(node("net"), here=True) == ["me"]
    assert candidates(node("net"), node("py", "T"), here=True) == ["me", "py"]


# -- in a cluster of one of our nodes and one that is none -------------------------------------------------------------


@dataclass
class Mixed:
    client: ClusterMediator
    foreign: Foreign


@pytest.fixture
def mixed() -> Iterator[Mixed]:
    """A client of two peers: ``py-2``, which handles Ask, and ``dotnet-1``, which describes nothing."""
    local = Mediator()
    local.register(Ask, lambda request: request.number)
    with ExitStack() as stack:
        ours = stack.enter_context(node_at("py-2", local, discovery="memory://preference"))
        foreign = Foreign()
        url = stack.enter_context(served(foreign, free_port()))
        peers = {"dotnet-1": url, "py-2": str(ours.options.endpoint)}
        client = stack.enter_context(
            create_cluster(Mediator(), node_id="web", discovery="static", peers=peers, router="round-robin")
        )
        until(lambda: {each.node_id: each.handles for each in client.nodes()}["py-2"], "py-2 has described itself")
        yield Mixed(client, foreign)


def test_no_send_is_lost_to_a_node_that_has_not_said_what_it_handles(mixed: Mixed) -> None:
    results = [mixed.client.send(Ask(n)) for n in range(6)]
    assert [(result.value, result.node_id) for result in results] == [(n, "py-2") for n in range(6)]
    assert mixed.foreign.posts == 0


def test_no_item_of_a_batch_is_lost_to_one_either(mixed: Mixed) -> None:
    assert [result.value for result in mixed.client.send_batch([Ask(n) for n in range(6)])] == list(range(6))
    assert mixed.foreign.posts == 0


def test_a_broadcast_is_for_those_that_say_that_they_handle_it(mixed: Mixed) -> None:
    assert {node_id: result.value for node_id, result in mixed.client.broadcast(Ask(4)).items()} == {"py-2": 4}
    assert mixed.foreign.posts == 0


def test_an_explanation_says_why_an_undescribed_node_is_left_out(mixed: Mixed) -> None:
    explanation = mixed.client.explain(Ask())
    assert ids(explanation.candidates) == ["py-2"]
    reasons: dict[str, Any] = {each.node.node_id: each.reason for each in explanation.excluded}
    assert reasons["dotnet-1"] == "it has not said what it handles, and others say that they handle this type"


def test_what_none_says_that_it_handles_goes_to_the_undescribed(mixed: Mixed) -> None:
    assert ids(mixed.client.explain(Other()).candidates) == ["dotnet-1"]
    assert not mixed.client.send(Other())
    assert mixed.foreign.posts > 0
    assert set(mixed.client.broadcast(Other())) == {"dotnet-1"}

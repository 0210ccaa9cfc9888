"""Nodes that are gone from the store: stopped in the ordinary way, or lost by the store while they are alive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from catga_sync.nodes import ClusterNode, NodeRecord
from tests.processes import until
from tests.unit.cluster.fakes import FakeStore, ids, record
from tests.unit.cluster.real import node_at
from tests.unit.cluster.test_membership import KEEP, World


@message(name="lost.Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    pass


@dataclass
class Watched:
    """A cluster in a file, and a client that looks at it."""

    file: Path
    stack: ExitStack
    client: ClusterMediator

    def start(self, name: str, **options: Any) -> ExitStack:
        """Start a node; closing what is returned stops it in the ordinary way."""
        local = Mediator()
        local.register(Ask, lambda request: 1)
        node = self.stack.enter_context(ExitStack())
        node.enter_context(node_at(name, local, discovery=f"sqlite:///{self.file}", **options))
        return node

    def until_there(self, *names: str) -> None:
        until(lambda: ids(self.client.nodes()) == sorted(names), f"exactly {names} are there")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr("catga_sync.cluster.peers._TIMEOUT", 20.0)  # a busy node is not a silent one
    file = tmp_path / "nodes.sqlite3"
    with ExitStack() as stack:
        client = stack.enter_context(create_cluster(Mediator(), node_id="web", discovery=f"sqlite:///{file}"))
        yield Watched(file, stack, client)


@pytest.mark.parametrize(
    "names", [["a"], *(pytest.param(each, marks=pytest.mark.slow) for each in (["a", "b"], ["a", "b", "c"]))], ids=len
)
def test_nodes_that_are_stopped_are_not_lost_by_the_store_however_few_there_were(
    watched: Watched, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [watched.start(name) for name in names]
    watched.until_there(*names)
    for node in nodes:
        node.close()
    watched.until_there()
    assert [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING] == []


def test_a_mediator_that_is_closed_while_its_server_lives_on_is_not_lost(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    local = Mediator()
    with node_at("a", local, discovery=f"sqlite:///{watched.file}") as node:
        watched.until_there("a")
        node.close()
        watched.until_there()
    assert "has lost" not in caplog.text


@pytest.mark.parametrize("names", [["a"], pytest.param(["a", "b", "c"], marks=pytest.mark.slow)], ids=len)
def test_nodes_that_still_answer_are_lost_by_the_store_which_is_told_once_and_they_are_kept(
    watched: Watched, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    # With so long between two heartbeats that none of them repairs the store.
    for name in names:
        watched.start(name, heartbeat_interval=600.0, heartbeat_timeout=3600.0)
    watched.until_there(*names)
    watched.file.unlink()
    place = f"the SQLite file {watched.file}, which does not exist (cluster_name 'default')"
    line = f"discovery: {place} has lost nodes that still respond, as if it had been emptied; kept for up to 30 s: "
    until(lambda: f"{line}{', '.join(names)}" in caplog.text, "it is told")
    assert ids(watched.client.nodes()) == names
    assert watched.client.send(Ask()).value == 1
    assert caplog.messages.count(f"{line}{', '.join(names)}") == 1


# -- with a store and nodes that do as they are told -------------------------------------------------------------------


def emptied(answer: Callable[[str], bool | None]) -> World:
    """Return a world whose store had nodes a, b, c and has none; ``answer`` says whether one of them is gone."""
    world = World(gone=answer)
    world.refresh(record("a", "T"), record("b", "T"), record("c", "T"))
    world.refresh()
    return world


def test_a_node_that_neither_answers_nor_refuses_is_kept_and_not_called_lost(caplog: pytest.LogCaptureFixture) -> None:
    world = emptied(lambda name: None)
    assert ids(world.nodes) == ["a", "b", "c"]
    world.clock.advance(KEEP + 1)
    world.look()
    assert world.nodes == ()
    assert caplog.text == ""


def test_only_those_that_answer_are_called_lost(caplog: pytest.LogCaptureFixture) -> None:
    world = emptied({"a": True, "b": False, "c": None}.__getitem__)
    assert ids(world.nodes) == ["b", "c"]
    assert caplog.messages == [
        "discovery: FakeStore has lost nodes that still respond, as if it had been emptied; kept for up to 30 s: b"
    ]
    for _ in range(3):
        world.look()
    assert len(caplog.messages) == 1


def test_one_that_answers_again_after_a_moment_of_silence_is_not_told_twice(caplog: pytest.LogCaptureFixture) -> None:
    silent: set[str] = set()
    world = emptied(lambda name: None if name in silent else False)
    for name in ("a", "b"):
        silent.add(name)
        world.look()
        silent.clear()
        world.look()
    assert len(caplog.messages) == 1


def test_a_second_loss_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    world = emptied(lambda name: False)
    world.refresh(record("a", "T"))
    world.refresh(record("a", "T"), record("b", "T"), record("c", "T"))
    assert len(caplog.messages) == 1
    world.refresh()
    assert len(caplog.messages) == 2


def test_a_port_that_another_node_has_now_does_not_speak_for_the_one_before(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with node_at("b", Mediator(), discovery=f"sqlite:///{watched.file}") as node:
        before = NodeRecord(ClusterNode("a", node.options.endpoint, handles={"T"}), 1)
        store = FakeStore(before)
        with create_cluster(Mediator(), node_id="client", discovery=store) as client:
            until(lambda: ids(client.nodes()) == ["a"], "the node is there")
            store.records = []
            until(lambda: client.nodes() == (), "the node is gone")
    assert "has lost" not in caplog.text

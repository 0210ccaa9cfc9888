"""The command line says where it has looked for nodes. It runs in this process; real nodes are in ``tests/process``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from catga_sync import create_cluster
from catga_sync.cli.main import main
from catga_sync.discovery import MemoryDiscovery
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from tests.unit.cluster.real import node_at

Run = Callable[..., tuple[int, str, str]]

NO_NODE = "start one with the same discovery and cluster_name; a node that runs but is missing there logs the reason"
MEMORY = (
    "memory:// is the memory of one process, which this command cannot see into; give the store that the nodes share"
)
#: Every command, as far as it looks for nodes.
COMMANDS = [["nodes"], ["types"], ["explain", "ops.Ask"], ["call", "ops.Ask"], ["drain", "n1"]]


@message(name="ops.Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    text: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return what runs the command in a cluster ``ops`` in a file of its own: exit code, stdout, stderr."""
    monkeypatch.setenv("CATGA_DISCOVERY", f"sqlite:///{tmp_path}/nodes.sqlite3")
    monkeypatch.setenv("CATGA_CLUSTER_NAME", "ops")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return (code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: command[0])
def test_where_no_node_is_the_place_is_told_and_that_none_could_be_reached(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    place = f"the SQLite file {tmp_path}/nodes.sqlite3, which does not exist (cluster_name 'ops')"
    code, _, err = run(*command)
    assert (code, f"no node is in {place}: {NO_NODE}" in err) == (3, True), err
    code, out, _ = run(*command, "--json")
    document = json.loads(out)
    assert code == 3
    assert document.get("where", place) == place
    assert not (tmp_path / "nodes.sqlite3").exists()


def test_a_node_that_is_named_and_not_there_is_told_with_the_place(run: Run, tmp_path: Path) -> None:
    place = f"the SQLite file {tmp_path}/nodes.sqlite3, which does not exist (cluster_name 'ops')"
    assert run("drain", "n1") == (2, "", f"catga-sync: NODE: no node 'n1' in {place}; there is none\n")
    assert run("call", "ops.Ask", "--node", "n1") == (
        2,
        "",
        f"catga-sync: --node: no node 'n1' in {place}; there is none\n",
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_cannot_be_read_is_told_with_the_reason_by_every_command(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    file = tmp_path / "nodes.sqlite3"
    file.write_text("shopping list " * 100)
    expected = f"discovery: the SQLite file {file} (cluster_name 'ops') cannot be read: file is not a database"
    assert run(*command) == (3, "", f"catga-sync: {expected}\n")


def test_a_redis_server_that_is_not_there_is_told_without_the_password(run: Run) -> None:
    pytest.importorskip("redis")
    code, out, err = run("nodes", "--discovery", "redis://shop:geheim@127.0.0.1:9/2")
    where = "the Redis server 127.0.0.1:9 (database 2, cluster_name 'ops', prefix 'catga')"
    assert (code, out) == (3, "")
    assert err.startswith(f"catga-sync: discovery: {where} cannot be read: ")
    assert "geheim" not in err


def test_a_list_of_peers_that_names_none_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CATGA_DISCOVERY", "static")
    monkeypatch.setenv("CATGA_PEERS", "{}")
    assert run("nodes") == (3, "", f"no node is in the option peers, which names no node: {NO_NODE}\n")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("discovery", ["memory://", "memory://shop"])
def test_the_memory_of_another_process_is_no_place_to_look_at(run: Run, discovery: str, command: list[str]) -> None:
    expected = f"catga-sync: --discovery: {MEMORY}\n"
    assert run(*command, "--discovery", discovery) == (2, "", expected)


alone = create_cluster(Mediator(), environ={}, node_id="alone", discovery=MemoryDiscovery())


def test_the_memory_of_an_application_is_no_place_to_look_at(run: Run) -> None:
    expected = f"catga-sync: discovery: {MEMORY}\n"
    assert run("nodes", "--app", "tests.unit.cli.test_main:alone") == (2, "", expected)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_without_its_option_is_told_where_it_goes(run: Run, command: list[str]) -> None:
    # Where a request may stand, it is taken for one.
    arguments = [*command, "{}"] if command[0] in ("explain", "call") else command
    assert run(*arguments, "redis://shop:geheim@redis/2") == (
        2,
        "",
        "catga-sync: unrecognized arguments: ***; the URL of the store is given as --discovery URL\n",
    )


@pytest.fixture
def node(run: Run, tmp_path: Path) -> Iterator[None]:
    """A node ``n1`` that handles ``ops.Ask``."""
    local = Mediator()
    local.register(Ask, lambda request: 1)
    with node_at("n1", local, discovery=f"sqlite:///{tmp_path}/nodes.sqlite3", cluster_name="ops"):
        yield


@pytest.mark.usefixtures("node")
def test_a_type_that_no_node_handles_is_told_with_the_nearest_and_its_node(run: Run) -> None:
    expected = "no node handles shop.Ask (did you mean ops.Ask at n1?); register a handler with @mediator.handler on n1"
    code, _, err = run("explain", "shop.Ask")
    assert (code, err) == (3, f"{expected}\n")
    assert run("call", "shop.Ask") == (3, "", f"{expected} (code UNIMPLEMENTED, delivery NOT_EXECUTED)\n")


@message(name="ops.Ask")
@dataclass(frozen=True)
class AskElsewhere(Query[int]):
    """The form of ``Ask`` that the application has which ``--app`` names."""

    text: int


application = Mediator()
application.registry.ensure(AskElsewhere)


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("command", ["explain", "call"])
def test_a_form_that_the_node_cannot_read_is_told_by_field(run: Run, command: str) -> None:
    code, _, err = run(command, "ops.Ask", "--app", "tests.unit.cli.test_main:application")
    assert code == 3
    assert (
        "no node can take ops.Ask now: n1: its form of this type cannot be read from here: "
        "`text` is another kind of value there" in err
    )


lending = Mediator()
lending.registry.ensure(Ask)


@pytest.mark.usefixtures("node")
def test_explain_takes_the_request_and_says_whether_it_fits(run: Run) -> None:
    with_types = ("--app", "tests.unit.cli.test_main:lending")
    misfit = f"{Ask.__module__}.Ask.text: expected str, not int"
    code, out, _ = run("explain", "ops.Ask", '{"text": "x"}', *with_types)
    assert (code, "ops.Ask -> int: 1 of 1 nodes can handle it" in out, "does not fit" in out) == (0, True, False)

    code, out, _ = run("explain", "ops.Ask", '{"text": 7}', *with_types)
    assert (code, f"  x the request does not fit: {misfit}\n" in out) == (1, True)
    code, out, _ = run("explain", "ops.Ask", '{"text": 7}', *with_types, "--json")
    assert (code, json.loads(out)["misfit"]) == (1, misfit)

    # Without the types of an application it is JSON or not.
    assert run("explain", "ops.Ask", '{"text": 7}')[0] == 0
    code, out, err = run("explain", "ops.Ask", '{"text":')
    assert (code, out, err.startswith("catga-sync: JSON: ")) == (2, "", True)

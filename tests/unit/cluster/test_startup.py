"""What a node tells of itself at its start."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import pytest

from catga_sync.cluster.startup import tell_start
from catga_sync.nodes import STREAM, ClusterNode

NODE = ClusterNode("users", "http://localhost:5001")


class Terminal(io.StringIO):
    """A stderr that is a terminal, or was one."""

    def __init__(self, fault: type[Exception] | None = None) -> None:
        super().__init__()
        self._fault = fault

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._fault is not None:
            raise self._fault
        return super().write(text)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Tell of a start, and return the line."""

    def told(node: ClusterNode = NODE, cluster: str = "shop", store: str = "memory://", router: Any = "random") -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "catga_sync.cluster.startup"):
            tell_start(node, cluster, store, router)
        (line,) = caplog.messages
        return line

    return told


def test_one_line_has_it_all(told: Callable[..., str]) -> None:
    assert told() == (
        "node started: node=users endpoint=http://localhost:5001 cluster=shop store=memory:// router=random ways=post"
    )


@pytest.mark.parametrize(
    ("node", "ways"),
    [
        (ClusterNode("a", "http://h:1", features={STREAM}), "post,stream"),  # type: ignore[arg-type]
        (ClusterNode("a", "http://h:1", grpc_endpoint="grpc://h:2"), "post,grpc"),
        (ClusterNode("a", "grpc://h:1"), "grpc"),
    ],
)
def test_the_ways_are_those_that_the_node_offers(told: Callable[..., str], node: ClusterNode, ways: str) -> None:
    assert told(node).endswith(f" ways={ways}")


def test_a_value_that_would_break_the_line_is_quoted(told: Callable[..., str]) -> None:
    assert ' store="a file \\"x\\"\\nb=c" ' in told(store='a file "x"\nb=c')


def test_a_router_that_is_an_object_is_told_by_its_class(told: Callable[..., str]) -> None:
    class Nearest:
        def __repr__(self) -> str:
            return "a secret"

    assert " router=Nearest " in told(router=Nearest())


def test_a_person_at_a_terminal_reads_lines(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    told()
    assert terminal.getvalue().split("\n") == [
        *["", "catga-sync: node started", "  node      users", "  endpoint  http://localhost:5001"],
        *["  cluster   shop", "  store     memory://", "  router    random", "  ways      post", "", ""],
    ]


@pytest.mark.parametrize("stderr", [None, Terminal(OSError), Terminal(ValueError), object()])
def test_a_terminal_that_is_gone_stops_nothing(
    told: Callable[..., str], monkeypatch: pytest.MonkeyPatch, stderr: Any
) -> None:
    monkeypatch.setattr("sys.stderr", stderr)
    assert "node=users" in told()


def test_what_is_no_terminal_gets_the_line_alone(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    told()
    assert file.getvalue() == ""

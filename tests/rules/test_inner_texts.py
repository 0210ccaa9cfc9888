"""What a handler passes on of a call that it made itself: the code, and no text about the inside of its node."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterMediator, ErrorCode, Mediator, Query, create_cluster, message
from catga_sync.pipeline import Handler
from catga_sync.receiver.authentication import OpenGuard
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope
from catga_sync.wire.routes import INVOKE_PATH
from tests.unit.serving_node import local_node


@message(name="Outer")
@dataclass(frozen=True)
class Outer(Query[int]):
    """Its handler sends another request."""


@message(name="Inner")
@dataclass(frozen=True)
class Inner(Query[int]):
    """A request that no node takes."""


def unwraps(node: ClusterMediator) -> Any:
    return node.send(Inner(), timeout=20.0).unwrap()


def returns(node: ClusterMediator) -> Any:
    return node.send(Inner(), timeout=20.0)


def unwraps_of_a_batch(node: ClusterMediator) -> Any:
    return node.send_batch([Inner(), Inner()], timeout=20.0)[1].unwrap()


HANDLERS = [unwraps, returns, unwraps_of_a_batch]


@pytest.fixture(params=["an empty store", "a broken store", "a node that is gone"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return options with which no request arrives; their values are the inside."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    if request.param == "a node that is gone":
        return {"discovery": "static", "peers": {"gone": "http://127.0.0.1:1"}}
    if request.param == "a broken store":
        (hidden / "x.sqlite3").write_bytes(b"no database" * 1_000)
    return {"discovery": f"sqlite:///{hidden / 'x.sqlite3'}"}


def both_ways(handle: Callable[[ClusterMediator], Any], options: dict[str, Any]) -> Iterator[CatgaResult[Any]]:
    """Yield what a caller in this process and one on another node are told."""
    local = Mediator()
    with create_cluster(local, node_id="outer", insecure=True, **options) as node:
        local.register(Outer, lambda request: handle(node))
        yield node.send(Outer(), timeout=60.0)
        yield received(local)


def received(local: Mediator) -> CatgaResult[Any]:
    body = RequestEnvelope("Outer", "int", b"{}", "r-1", timestamp=2e9).encode()
    raw = RawRequest("POST", INVOKE_PATH, {"content-type": "application/json"}, io.BytesIO(body).read, len(body))
    reply = ResponseEnvelope.decode(Receiver(local, local_node("n", local), guard=OpenGuard()).handle(raw).body)
    return CatgaResult.failure(reply.error_message or "", reply.error_code)


def assert_tells_nothing(results: list[CatgaResult[Any]], log: str) -> None:
    here, elsewhere = results
    assert here == elsewhere
    assert here.code in (ErrorCode.UNAVAILABLE, ErrorCode.UNIMPLEMENTED)
    assert here.error == (
        "a call that the handler of Outer made has failed; the log of the node that ran it has the details"
    )
    assert "hidden" in log or "127.0.0.1:1" in log


@pytest.mark.parametrize("handle", HANDLERS)
def test_a_handler_that_passes_its_own_failed_call_on_shows_nothing_of_its_node(
    handle: Callable[[ClusterMediator], Any], options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert_tells_nothing(list(both_ways(handle, options)), caplog.text)


@pytest.mark.parametrize("handle", HANDLERS)
def test_nor_does_a_behaviour_around_a_handler(
    handle: Callable[[ClusterMediator], Any], options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    local = Mediator()
    local.register(Outer, lambda request: 1)
    with create_cluster(local, node_id="outer", insecure=True, **options) as node:

        def behavior(next_: Handler) -> Callable[[Any], Any]:
            return lambda request: handle(node)

        local.add_behavior(behavior)
        results = [node.send(Outer(), timeout=60.0), received(local)]
    # A behaviour that does not call the handler says so of its delivery.
    assert_tells_nothing([CatgaResult.failure(each.error or "", each.code) for each in results], caplog.text)


def test_the_caller_itself_is_told_everything(options: dict[str, Any]) -> None:
    with create_cluster(Mediator(), node_id="caller", insecure=True, **options) as node:

        def unwrapping(next_: Handler) -> Callable[[Any], Any]:
            return lambda request: next_(request).unwrap()

        plain = node.send(Inner(), timeout=20.0)
        node.add_behavior(unwrapping)
        for result in (plain, node.send(Inner(), timeout=20.0)):
            assert "hidden" in (result.error or "") or "127.0.0.1:1" in (result.error or "")


def test_and_so_is_a_handler_that_looks_for_itself(options: dict[str, Any]) -> None:
    seen: list[str] = []

    def handle(node: ClusterMediator) -> int:
        seen.append(node.send(Inner(), timeout=20.0).error or "")
        return 7

    (here, _) = both_ways(handle, options)
    assert here.value == 7
    assert all("hidden" in text or "127.0.0.1:1" in text for text in seen)


def test_what_the_application_of_another_node_has_said_is_passed_on() -> None:
    def handle(node: ClusterMediator) -> Any:
        return CatgaResult.failure("sold out", "SOLD_OUT")

    results = list(both_ways(handle, {"discovery": "memory://"}))
    assert [(each.error, each.code) for each in results] == [("sold out", "SOLD_OUT")] * 2

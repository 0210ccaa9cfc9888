"""override_handler: another handler for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.errors import ErrorCode, RegistrationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, message
from catga_sync.testing import override_handler, transparent


@message(name="overriding.Double")
@dataclass(frozen=True)
class Double(Query[int]):
    number: int = 2


@message(name="overriding.Odd")
@dataclass(frozen=True)
class Odd(Event):
    pass


@pytest.fixture
def local() -> Mediator:
    made = Mediator()
    made.register(Double, lambda request: request.number * 2)
    return made


def test_the_handler_is_another_one_until_the_block_is_left(local: Mediator) -> None:
    with override_handler(local, Double, lambda request: 0):
        assert local.send(Double()).value == 0
        with override_handler(local, Double, lambda request: 1):
            assert local.send(Double()).value == 1
        assert local.send(Double()).value == 0
    assert local.send(Double()).value == 4


def test_blocks_may_overlap_without_nesting(local: Mediator) -> None:
    first, second = (override_handler(local, Double, lambda request, answer=answer: answer) for answer in (0, 1))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert local.send(Double()).value == 1
    with override_handler(local, Double, lambda request: 2):
        second.__exit__(None, None, None)
        assert local.send(Double()).value == 2
    assert local.send(Double()).value == 4


def test_the_old_one_is_back_after_an_error(local: Mediator) -> None:
    with pytest.raises(KeyError), override_handler(local, Double, lambda request: 0):
        raise KeyError
    assert local.send(Double()).value == 4


def test_a_type_without_a_handler_has_none_again() -> None:
    local = Mediator()
    with override_handler(local, Double, lambda request: 0):
        assert local.send(Double()).value == 0
    assert local.send(Double()).code is ErrorCode.UNIMPLEMENTED
    assert local.handled == ()


def test_behaviours_stay_around_it(local: Mediator) -> None:
    seen: list[Any] = []

    def noting(next_: Any) -> Any:
        return lambda request: (seen.append(request), next_(request))[1]

    local.add_behavior(noting)
    with override_handler(local, Double, lambda request: 0):
        local.send(Double(1))
        local.add_behavior(noting)
    local.send(Double(2))
    assert seen == [Double(1), Double(2), Double(2)]


def test_a_mediator_of_a_cluster_runs_it_at_its_own_node(local: Mediator) -> None:
    with create_cluster(local, node_id="n", discovery="memory://") as node, override_handler(node, Double, lambda _: 0):
        assert node.send(Double()).value == 0


@pytest.mark.parametrize(("kind", "handler"), [(Double, 5), (Double, lambda: 0), (Odd, lambda event: None)])
def test_what_cannot_be_registered_changes_nothing(local: Mediator, kind: Any, handler: Any) -> None:
    with pytest.raises(RegistrationError), override_handler(local, kind, handler):
        pytest.fail("the block was entered")
    assert local.send(Double()).value == 4


def test_it_is_transparent_in_a_transparent_block(local: Mediator) -> None:
    given: list[Double] = []
    request = Double()
    with transparent(local), override_handler(local, Double, lambda copy: given.append(copy) or 0):
        local.send(request)
    assert given == [request]
    assert given[0] is not request

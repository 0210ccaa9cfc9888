"""What a request id is good for: what ran gets its response again, what did not run may run."""

from __future__ import annotations

from typing import Any

import pytest

from catga_sync.deadline import Deadline
from catga_sync.errors import ErrorCode
from catga_sync.idempotency import MemoryIdempotency
from catga_sync.receiver.call import CallMeta, Progress
from catga_sync.receiver.deduplication import Deduplication, Turn
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope
from tests.unit.idempotency.named import Named


class World:
    def __init__(self, store: MemoryIdempotency | None = None) -> None:
        self.deduplication = Deduplication(MemoryIdempotency() if store is None else store)
        self.ran = 0

    def receive(
        self,
        *,
        name: str = "Ask",
        runs: bool = True,
        unsure: bool = False,
        error: Exception | None = None,
        relied_on: str | None = None,
        **changes: Any,
    ) -> tuple[ResponseEnvelope, Progress]:
        """Receive the request; its handler runs, or does not, or it cannot be told."""
        envelope = RequestEnvelope(
            **{
                "request_type_name": name,
                "response_type_name": "int",
                "payload": b"{}",
                "request_id": "r-1",
                "source_node_id": "n",
                **changes,
            }
        )
        progress = Progress("r-1")
        meta = CallMeta("r-1", Deadline.after(10.0), store=relied_on)
        turn = self.deduplication.begin("Ask", envelope, meta, progress, repeatable=False)
        if not isinstance(turn, Turn):
            return turn, progress
        if error is not None:
            self.deduplication.finish(turn, None, progress)
            raise error
        progress.executed, progress.uncertain = runs, unsure
        self.ran += runs
        response = ResponseEnvelope("r-1", is_success=runs, error_message=None if runs else "no")
        self.deduplication.finish(turn, response, progress)
        return response, progress


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def named() -> World:
    return World(Named())


def test_what_ran_gets_its_response_again_and_does_not_run_again(world: World) -> None:
    world.receive()
    response, progress = world.receive()
    assert (response.is_success, world.ran) == (True, 1)
    assert (progress.executed, progress.replayed) == (True, True)


def test_it_is_the_same_request_under_another_name_of_its_type(world: World) -> None:
    world.receive(name="Acme.Ask, Acme.Contracts, Version=1.0.0.0")
    world.receive(name="Acme.Ask")
    assert world.ran == 1


def test_what_was_refused_before_its_handler_runs_the_next_time(world: World) -> None:
    response, progress = world.receive(runs=False)
    assert (response.is_success, progress.executed) == (False, False)
    response, progress = world.receive()
    assert (response.is_success, progress.replayed, world.ran) == (True, False, 1)


def test_a_refusal_that_is_raised_is_forgotten_too(world: World) -> None:
    with pytest.raises(Refused):
        world.receive(error=Refused(Reason.EXPIRED, "too late"))
    world.receive()
    assert world.ran == 1


def test_what_may_have_run_is_not_run_again(world: World) -> None:
    world.receive(runs=False, unsure=True)
    with pytest.raises(Refused) as caught:
        world.receive()
    assert caught.value.reason.code is ErrorCode.ABORTED
    assert world.ran == 0


def test_another_payload_under_the_same_id_is_refused(world: World) -> None:
    world.receive()
    with pytest.raises(Refused) as caught:
        world.receive(payload=b'{"a":1}')
    assert caught.value.reason.code is ErrorCode.INVALID_ARGUMENT


# -- the store on which the caller relies ---------------------------------------------------------------------------


def refused(world: World, relied_on: str) -> Refused:
    with pytest.raises(Refused) as caught:
        world.receive(relied_on=relied_on)
    return caught.value


def test_what_relies_on_the_store_that_is_there_runs(named: World) -> None:
    named.receive(relied_on=str(named.deduplication.identity.read()))
    assert named.ran == 1


@pytest.mark.parametrize("told", ["another", None, "", 7, OSError("down")], ids=repr)
def test_what_relies_on_another_store_does_not_run_and_may_run_when_it_relies_on_none(named: World, told: Any) -> None:
    one = named.deduplication.identity.read()
    named.deduplication.store.told = told  # type: ignore[attr-defined]
    refusal = refused(named, str(one))
    assert (refusal.reason, named.ran) == (Reason.OTHER_STORE, 0)
    named.receive()
    assert named.ran == 1


def test_a_store_of_one_process_is_none_on_which_anybody_can_rely(world: World) -> None:
    assert refused(world, "0" * 32).reason is Reason.OTHER_STORE
    assert world.ran == 0


def test_what_is_known_to_have_run_gets_its_response_again_whatever_store_is_relied_on(named: World) -> None:
    named.receive()
    response, progress = named.receive(relied_on="0" * 32)
    assert (response.is_success, progress.replayed, named.ran) == (True, True, 1)


def test_the_store_is_asked_after_the_claim_since_it_may_be_emptied_in_between(named: World) -> None:
    """A claim in a store that is emptied after it says which one it is would be of no use."""
    one = str(named.deduplication.identity.read())

    class Emptied(Named):
        def claim(self, *values: Any) -> Any:
            self.told = "another"
            return super().claim(*values)

    assert refused(World(Emptied()), one).reason is Reason.OTHER_STORE

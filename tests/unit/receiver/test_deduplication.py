"""What a request id is good for: what ran is answered again, what did not run may run."""

from __future__ import annotations

from typing import Any

import pytest

from catga_sync.deadline import Deadline
from catga_sync.errors import ErrorCode
from catga_sync.idempotency import MemoryIdempotency
from catga_sync.receiver.deduplication import Once
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope
from tests.unit.idempotency.named import Named


class Running:
    """What the receiver notes of one request."""

    def __init__(self) -> None:
        self.executed = self.replayed = self.uncertain = False


class World:
    def __init__(self, store: MemoryIdempotency | None = None) -> None:
        self.once = Once(MemoryIdempotency() if store is None else store)
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
    ) -> tuple[ResponseEnvelope, Running]:
        """Receive the request; its handler runs, or does not, or nobody can tell."""
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
        running = Running()

        def handle() -> ResponseEnvelope:
            if error is not None:
                raise error
            running.executed, running.uncertain = runs, unsure
            self.ran += runs
            return ResponseEnvelope("r-1", is_success=runs, error_message=None if runs else "no")

        return self.once.run("Ask", envelope, Deadline.after(10.0), running, handle, False, relied_on), running


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def named() -> World:
    return World(Named())


def test_what_ran_is_answered_again_and_does_not_run_again(world: World) -> None:
    world.receive()
    reply, running = world.receive()
    assert (reply.is_success, world.ran) == (True, 1)
    assert (running.executed, running.replayed) == (True, True)


def test_it_is_the_same_request_under_another_name_of_its_type(world: World) -> None:
    world.receive(name="Acme.Ask, Acme.Contracts, Version=1.0.0.0")
    world.receive(name="Acme.Ask")
    assert world.ran == 1


def test_what_was_refused_before_its_handler_runs_the_next_time(world: World) -> None:
    reply, running = world.receive(runs=False)
    assert (reply.is_success, running.executed) == (False, False)
    reply, running = world.receive()
    assert (reply.is_success, running.replayed, world.ran) == (True, False, 1)


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
    named.receive(relied_on=str(named.once.identity.read()))
    assert named.ran == 1


@pytest.mark.parametrize("told", ["another", None, "", 7, OSError("down")], ids=repr)
def test_what_relies_on_another_store_does_not_run_and_may_run_when_it_relies_on_none(named: World, told: Any) -> None:
    one = named.once.identity.read()
    named.once.store.told = told  # type: ignore[attr-defined]
    refusal = refused(named, str(one))
    assert (refusal.reason, named.ran) == (Reason.OTHER_STORE, 0)
    named.receive()
    assert named.ran == 1


def test_a_store_of_one_process_is_none_on_which_anybody_can_rely(world: World) -> None:
    assert refused(world, "0" * 32).reason is Reason.OTHER_STORE
    assert world.ran == 0


def test_who_is_known_to_have_run_is_answered_again_whatever_store_is_relied_on(named: World) -> None:
    named.receive()
    reply, running = named.receive(relied_on="0" * 32)
    assert (reply.is_success, running.replayed, named.ran) == (True, True, 1)


def test_the_store_is_asked_after_the_claim_since_it_may_be_emptied_in_between(named: World) -> None:
    """A claim in a store that is emptied after it says which one it is would be of no use."""
    one = str(named.once.identity.read())

    class Emptied(Named):
        def claim(self, *values: Any) -> Any:
            self.told = "another"
            return super().claim(*values)

    assert refused(World(Emptied()), one).reason is Reason.OTHER_STORE

"""What a request id is good for: what ran is answered again, what did not run may run."""

from __future__ import annotations

from typing import Any

import pytest

from catga_sync.deadline import Deadline
from catga_sync.envelope import ReplyEnvelope, RequestEnvelope
from catga_sync.errors import ErrorCode
from catga_sync.idempotency import MemoryIdempotency
from catga_sync.intake import Refused
from catga_sync.once import Once


class Running:
    """What the receiver notes of one request."""

    def __init__(self) -> None:
        self.executed = self.replayed = self.uncertain = False


class World:
    def __init__(self) -> None:
        self.once = Once(MemoryIdempotency())
        self.ran = 0

    def receive(
        self,
        *,
        name: str = "Ask",
        runs: bool = True,
        unsure: bool = False,
        error: Exception | None = None,
        **changes: Any,
    ) -> tuple[ReplyEnvelope, Running]:
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

        def handle() -> ReplyEnvelope:
            if error is not None:
                raise error
            running.executed, running.uncertain = runs, unsure
            self.ran += runs
            return ReplyEnvelope("r-1", is_success=runs, error_message=None if runs else "no")

        return self.once.run("Ask", envelope, Deadline.after(10.0), running, handle, False), running


@pytest.fixture
def world() -> World:
    return World()


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
        world.receive(error=Refused(504, ErrorCode.DEADLINE_EXCEEDED, "too late"))
    world.receive()
    assert world.ran == 1


def test_what_may_have_run_is_not_run_again(world: World) -> None:
    world.receive(runs=False, unsure=True)
    with pytest.raises(Refused) as caught:
        world.receive()
    assert caught.value.code is ErrorCode.ABORTED
    assert world.ran == 0


def test_another_payload_under_the_same_id_is_refused(world: World) -> None:
    world.receive()
    with pytest.raises(Refused) as caught:
        world.receive(payload=b'{"a":1}')
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT

"""What is said of an attempt, where an answer alone does not say it all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import pytest

from catga_sync import Delivery, ErrorCode, Request
from catga_sync._log_limit import LimitedLog
from catga_sync.context import CallContext
from catga_sync.nodes import ClusterNode
from catga_sync.results import NEVER, OTHER_NODE, RETRY
from catga_sync.serialization import MessageRegistry
from catga_sync.transport.outcome import Outcome
from catga_sync.wire.envelope import ResponseEnvelope
from tests.tables import every_row


@dataclass(frozen=True)
class Count(Request[int]):
    """Asks for a number."""


@dataclass(frozen=True)
class Maybe(Request[Optional[int]]):  # noqa: UP045
    """Asks for a number that there may not be."""


@dataclass(frozen=True)
class Nothing(Request[None]):
    """Asks for nothing."""


@dataclass(frozen=True)
class Anything(Request):  # type: ignore[type-arg]
    """Does not say what it asks for."""


def outcome_of(kind: type) -> Outcome:
    entry = MessageRegistry().ensure(kind)
    codec = entry.response_codec
    decode = None if codec is None else codec.decode
    return Outcome(ClusterNode("peer", "http://127.0.0.1:1"), entry.name, decode, CallContext("r-1"), LimitedLog())


@pytest.fixture
def outcome() -> Outcome:
    return outcome_of(Count)


def no(code: ErrorCode = ErrorCode.RESOURCE_EXHAUSTED) -> ResponseEnvelope:
    return ResponseEnvelope("r-1", False, error_message="no", error_code=code)


def test_a_request_that_is_too_long_for_a_node_may_fit_another(outcome: Outcome) -> None:
    result = outcome.responded(no(), 413, "0")
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.RESOURCE_EXHAUSTED)
    assert result.metadata == {RETRY: OTHER_NODE}


def test_a_request_that_is_too_long_to_be_sent_fits_nowhere(outcome: Outcome) -> None:
    result = outcome.too_long(11, 10)
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.RESOURCE_EXHAUSTED)
    assert result.metadata == {RETRY: NEVER}


def test_a_node_that_is_busy_may_have_time_later(outcome: Outcome) -> None:
    assert outcome.responded(no(), 503, "0").metadata == {}


def test_a_batch_that_is_too_long_as_a_whole_is_so_at_this_node_only(outcome: Outcome) -> None:
    assert outcome.refused_whole(no(), 413, "0", "r-1").metadata == {RETRY: OTHER_NODE}
    assert outcome.refused_whole(no(), 503, "0", "r-1").metadata == {}


@pytest.mark.parametrize("payload", [None, b"null", b" null "])
def test_a_success_of_nothing_is_no_answer_where_the_type_of_the_answer_does_not_allow_it(
    outcome: Outcome, payload: bytes | None
) -> None:
    result = outcome.responded(ResponseEnvelope("r-1", True, payload=payload), 200, None)
    assert (result.code, result.delivery, result.value) == (ErrorCode.INTERNAL, Delivery.EXECUTED, None)
    assert (result.error or "").endswith("Count cannot be read: int: may not be null")


@every_row("payload", [None, b"null"])
@every_row("kind", [Maybe, Nothing, Anything])
def test_a_success_of_nothing_is_an_answer_where_its_type_says_so(kind: type, payload: bytes | None) -> None:
    outcome = outcome_of(kind)
    result = outcome.responded(ResponseEnvelope("r-1", True, payload=payload), 200, None)
    assert (result.is_success, result.value) == (True, None)


@pytest.mark.parametrize(
    "reply",
    [
        ResponseEnvelope("r-1", True, payload=b"7"),
        ResponseEnvelope("r-1", True, payload=b'"no number"'),
        ResponseEnvelope("r-1", False, error_message="no", error_code=ErrorCode.NOT_FOUND),
    ],
    ids=["an answer", "an answer that cannot be read", "a refusal"],
)
@pytest.mark.parametrize("named", [None, "peer-7"])
def test_what_has_run_has_run_at_a_node(outcome: Outcome, reply: ResponseEnvelope, named: str | None) -> None:
    named_reply = ResponseEnvelope(
        reply.request_id, reply.is_success, reply.payload, reply.error_message, reply.error_code, named
    )
    result = outcome.responded(named_reply, 200, "1")
    assert result.delivery is Delivery.EXECUTED
    assert result.node_id == (named or "peer")


# -- an answer without the request's id -------------------------------------------------------------------------------


@every_row("request_id", ["unknown", ""])
@every_row("executed", [None, "0", "1", "unknown"])
@every_row(
    ("status", "code"),
    [
        (500, ErrorCode.INTERNAL),
        (400, ErrorCode.INTERNAL),
        (200, ErrorCode.INTERNAL),
        (503, ErrorCode.UNAVAILABLE),
        (401, ErrorCode.UNAUTHENTICATED),
    ],
)
def test_a_failure_that_names_no_request_says_what_the_peer_said_and_proves_nothing(
    outcome: Outcome, status: int, code: ErrorCode, request_id: str, executed: str | None
) -> None:
    reply = ResponseEnvelope(request_id, False, error_message="Object reference not set to an instance of an object.")
    for result in (outcome.responded(reply, status, executed), outcome.refused_whole(reply, status, executed, "r-0")):
        assert (result.delivery, result.code) == (Delivery.UNKNOWN, code)
        assert result.error == (
            f"node peer at http://127.0.0.1:1 reported a failure without the id of the request (HTTP status {status}): "
            "Object reference not set to an instance of an object."
        )


def test_what_a_peer_says_is_printable_and_bounded(outcome: Outcome) -> None:
    said = "At line 1\r\n\x1b[31m\u202e" + "x" * 10_000
    result = outcome.responded(ResponseEnvelope("unknown", False, error_message=said), 500, None)
    assert result.error is not None
    assert result.error.isprintable()
    assert len(result.error) <= 512
    assert "At line 1" in result.error


def test_a_failure_without_any_text_says_so(outcome: Outcome) -> None:
    result = outcome.responded(ResponseEnvelope("unknown", False), 500, None)
    assert result.error == (
        "node peer at http://127.0.0.1:1 reported a failure without the id of the request (HTTP status 500): "
        "no reason was given"
    )


@pytest.mark.parametrize(
    "reply",
    [
        ResponseEnvelope("r-2", False, error_message="hunter2"),
        ResponseEnvelope("unknown", True),
        ResponseEnvelope("", True),
    ],
    ids=["another id", "a success of nobody", "a success without an id"],
)
def test_the_answer_to_another_request_says_nothing_of_this_one(outcome: Outcome, reply: ResponseEnvelope) -> None:
    result = outcome.responded(reply, 500, None)
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.INTERNAL)
    assert result.error == "node peer at http://127.0.0.1:1 responded to another request than was sent"

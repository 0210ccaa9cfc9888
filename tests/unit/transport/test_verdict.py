"""What is said of an attempt, where an answer alone does not say it all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from catga_sync import Delivery, ErrorCode, Request
from catga_sync.envelope import ReplyEnvelope
from catga_sync.nodes import ClusterNode
from catga_sync.results import NEVER, OTHER_NODE, RETRY
from catga_sync.serialization import MessageRegistry
from catga_sync.transport.verdict import Call


@dataclass(frozen=True)
class Count(Request[int]):
    """Asks for a number."""


@pytest.fixture
def call() -> Call:
    return Call(ClusterNode("peer", "http://127.0.0.1:1"), MessageRegistry().ensure(Count), "r-1")


def no(code: ErrorCode = ErrorCode.RESOURCE_EXHAUSTED) -> ReplyEnvelope:
    return ReplyEnvelope("r-1", False, error_message="no", error_code=code)


def test_a_request_that_is_too_long_for_a_node_may_fit_another(call: Call) -> None:
    result = call.answered(no(), 413, "0")
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.RESOURCE_EXHAUSTED)
    assert result.metadata == {RETRY: OTHER_NODE}


def test_a_request_that_is_too_long_to_be_sent_fits_nowhere(call: Call) -> None:
    result = call.too_long(11, 10)
    assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.RESOURCE_EXHAUSTED)
    assert result.metadata == {RETRY: NEVER}


def test_a_node_that_is_busy_may_have_time_later(call: Call) -> None:
    assert call.answered(no(), 503, "0").metadata == {}


def test_a_batch_that_is_too_long_as_a_whole_is_so_at_this_node_only(call: Call) -> None:
    assert call.refused_whole(no(), 413, "0", "r-1").metadata == {RETRY: OTHER_NODE}
    assert call.refused_whole(no(), 503, "0", "r-1").metadata == {}


@pytest.mark.parametrize(
    "reply",
    [
        ReplyEnvelope("r-1", True, payload=b"7"),
        ReplyEnvelope("r-1", True, payload=b'"no number"'),
        ReplyEnvelope("r-1", False, error_message="no", error_code=ErrorCode.NOT_FOUND),
    ],
    ids=["an answer", "an answer that cannot be read", "a refusal"],
)
@pytest.mark.parametrize("named", [None, "peer-7"])
def test_what_has_run_has_run_at_a_node(call: Call, reply: ReplyEnvelope, named: str | None) -> None:
    named_reply = ReplyEnvelope(
        reply.request_id, reply.is_success, reply.payload, reply.error_message, reply.error_code, named
    )
    result = call.answered(named_reply, 200, "1")
    assert result.delivery is Delivery.EXECUTED
    assert result.node_id == (named or "peer")

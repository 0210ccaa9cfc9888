"""What a call knows about itself."""

import contextvars
import threading

import pytest

from catga_sync.context import CallContext, current_call, enter_call, leave_call, new_request_id
from catga_sync.deadline import NESTED_MARGIN, Deadline


def test_there_is_no_call_outside_a_call():
    assert current_call() is None


def test_a_request_id_is_32_hex_digits_and_new_every_time():
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in ids)


def test_calls_nest_and_are_left_in_order():
    outer, inner = CallContext("a"), CallContext("b")
    first = enter_call(outer)
    second = enter_call(inner)
    assert current_call() is inner
    leave_call(second)
    assert current_call() is outer
    leave_call(first)
    assert current_call() is None


def test_a_call_belongs_to_its_thread_unless_the_context_is_handed_over():
    seen = []
    token = enter_call(CallContext("a"))
    try:
        handed = contextvars.copy_context()
        for target in (lambda: seen.append(current_call()), lambda: handed.run(lambda: seen.append(current_call()))):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join(10)
    finally:
        leave_call(token)
    assert seen == [None, CallContext("a")]


def test_a_call_without_a_deadline_has_no_remaining_time():
    assert CallContext("a").remaining() is None


def test_remaining_is_what_the_deadline_leaves():
    call = CallContext("a", Deadline.after(100.0))
    assert 0 < call.remaining() <= 100.0


def test_a_nested_call_has_its_own_id_and_at_most_what_the_outer_one_has_left():
    outer = CallContext("a", Deadline.after(50.0), source_node_id="n", traceparent="t", tracestate="s")
    inner = outer.nested("b", 1000.0)
    assert inner.request_id == "b"
    assert inner.deadline.at == pytest.approx(outer.deadline.at - NESTED_MARGIN)
    assert (inner.traceparent, inner.tracestate) == ("t", "s")
    assert outer.nested("c", 5.0).deadline.at < inner.deadline.at


def test_a_call_nested_in_one_without_a_deadline_has_its_own():
    assert 0 < CallContext("a").nested("b", 5.0).remaining() <= 5.0


def test_a_nested_call_does_not_come_from_the_node_that_sent_the_outer_one():
    assert CallContext("a", source_node_id="node-1").nested("b", 1.0).source_node_id is None


def test_a_call_cannot_be_changed():
    with pytest.raises(AttributeError):
        CallContext("a").request_id = "b"

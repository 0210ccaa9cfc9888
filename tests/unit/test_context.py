"""What a call knows about itself."""

import contextvars
import copy
import pickle
import threading
import uuid

import pytest

from catga_sync.context import (
    MAX_BAGGAGE,
    CallContext,
    call_of,
    call_within,
    current_call,
    enter_call,
    leave_call,
    new_request_id,
    usable_baggage,
)
from catga_sync.deadline import NESTED_MARGIN, Deadline
from tests.tables import every_row

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"


def test_there_is_no_call_outside_a_call():
    assert current_call() is None


def test_a_request_id_is_the_hex_of_a_random_uuid_and_new_every_time():
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    for each in ids:
        read = uuid.UUID(hex=each)
        assert (read.hex, read.version, read.variant) == (each, 4, uuid.RFC_4122)


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


def test_a_deadline_that_is_made_when_it_is_read_is_the_same_at_each_reading_and_in_each_copy():
    call = call_within(12.5, "me")
    copies = (copy.copy(call), pickle.loads(pickle.dumps(call)), call.with_changes(depth=1), call)
    assert [each.deadline for each in copies] == [Deadline(12.5)] * 4
    assert call.deadline is call.deadline
    assert call == CallContext(call.request_id, Deadline(12.5), node_id="me") == pickle.loads(pickle.dumps(call))
    assert call.with_changes(deadline=None).deadline is None
    assert "deadline=Deadline(at=12.5)" in repr(call_within(12.5, "me"))
    assert call_of({"request_id": "a"}).deadline is None


def test_remaining_is_what_the_deadline_leaves():
    call = CallContext("a", Deadline.after(100.0))
    assert 0 < call.remaining() <= 100.0


def test_a_nested_call_has_its_own_id_and_at_most_what_the_outer_one_has_left():
    outer = CallContext("a", Deadline.after(50.0), source_node_id="n", traceparent=GIVEN, tracestate="s", store="b")
    inner = outer.nested("b", 1000.0)
    assert inner.request_id == "b"
    assert inner.deadline.at == pytest.approx(outer.deadline.at - NESTED_MARGIN)
    assert (inner.traceparent, inner.tracestate) == (GIVEN, "s")
    assert inner.store is None, "it is another call, and relies on nothing yet"
    assert outer.nested("c", 5.0).deadline.at < inner.deadline.at


def test_a_call_nested_in_one_without_a_deadline_has_its_own():
    assert 0 < CallContext("a").nested("b", 5.0).remaining() <= 5.0


def test_a_nested_call_does_not_come_from_the_node_that_sent_the_outer_one():
    assert CallContext("a", source_node_id="node-1").nested("b", 1.0).source_node_id is None


def test_a_call_cannot_be_changed():
    with pytest.raises(AttributeError):
        CallContext("a").request_id = "b"


def test_a_call_nested_without_a_timeout_has_all_that_is_left():
    outer = CallContext("a", Deadline.after(50.0))
    assert outer.nested("b", None).deadline is outer.deadline
    assert CallContext("a").nested("b", None).deadline is None


def test_the_parts_of_a_call_have_ids_of_their_own_and_one_deadline():
    outer = CallContext("a", Deadline.after(50.0), source_node_id="n", traceparent=GIVEN, tracestate="s", store="b")
    first, second, third = outer.parts(3, 5.0)
    assert len({"a", first.request_id, second.request_id, third.request_id}) == 4
    assert first.deadline is second.deadline is third.deadline
    assert 0 < first.remaining() <= 5.0
    for part in (first, second, third):
        # But for the id and the time it is what a nested call is.
        alike = outer.nested(part.request_id, 5.0)
        assert part == alike.with_changes(deadline=part.deadline)
    assert outer.parts(0, 5.0) == []


# -- traces ------------------------------------------------------------------------------------------------------------


@every_row("given", [GIVEN, GIVEN[:-2] + "00", "cc" + GIVEN[2:], "01" + GIVEN[2:] + "-what.the.future.brings"])
def test_a_trace_that_came_is_carried_on_as_it_is(given):
    call = CallContext(new_request_id(), traceparent=given, tracestate="vendor=x")
    assert call.trace() == (given, "vendor=x")
    inner = call.nested(new_request_id(), 1.0)
    assert call.trace_id == inner.trace_id == TRACE
    assert inner.trace() == (given, "vendor=x")


@every_row(
    "given",
    [
        None, "", "t", "ff" + GIVEN[2:], GIVEN.upper(), GIVEN[:-3], GIVEN + "0", f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01", f"{GIVEN}\nERROR forged", f" {GIVEN}",
    ],
)  # fmt: skip
def test_a_trace_begins_where_none_came_that_can_be_read(given):
    call = CallContext(new_request_id(), traceparent=given, tracestate="vendor=x")
    assert call.trace_id == call.request_id
    traceparent, tracestate = call.trace()
    assert traceparent == f"00-{call.request_id}-{call.request_id[16:]}-01"
    assert tracestate is None


@every_row("request_id", ["r-1", "0" * 32, "A" * 32, "x" * 128, "a" * 16 + "0" * 16])
def test_a_trace_that_begins_with_a_foreign_id_has_an_id_of_the_right_form_all_the_same(request_id):
    call = CallContext(request_id)
    assert len(call.trace_id) == 32
    assert int(call.trace_id, 16)
    assert call.trace_id == call.nested(new_request_id(), 1.0).trace_id == CallContext(request_id).trace_id
    assert CallContext("other", traceparent=call.trace()[0]).trace_id == call.trace_id


def test_all_calls_that_come_of_one_have_its_trace_and_an_id_of_their_own():
    first = CallContext(new_request_id())
    second = first.nested(new_request_id(), 1.0)
    third = second.nested(new_request_id(), None)
    assert first.trace_id == second.trace_id == third.trace_id == first.request_id
    assert third.ids == f"request_id={third.request_id} trace_id={first.request_id}"
    assert len({first.request_id, second.request_id, third.request_id}) == 3


CARRIED = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"


def test_a_call_takes_from_a_carrier_what_is_well_formed():
    call = CallContext("a", traceparent=GIVEN, tracestate="s", baggage="tenant=1")
    taken = call.carrying({"traceparent": CARRIED, "tracestate": "v=1", "baggage": "tenant=2", "b3": "0"})
    assert (taken.traceparent, taken.tracestate, taken.baggage) == (CARRIED, "v=1", "tenant=2")
    assert (taken.trace_id, taken.span_id) == ("c" * 32, "d" * 16)
    assert taken.nested("b", 1.0).baggage == "tenant=2"
    assert call.carrying({}) == call


@every_row("traceparent", ["", "00-x", CARRIED + "\n", CARRIED.upper(), "01" + CARRIED[2:] + "-\u00e4", 7])
def test_a_traceparent_that_is_none_leaves_the_trace_of_the_call(traceparent):
    taken = CallContext("a", traceparent=GIVEN, tracestate="s").carrying(
        {"traceparent": traceparent, "tracestate": "v"}
    )
    assert (taken.traceparent, taken.tracestate) == (GIVEN, "s")


@every_row("tracestate", [None, "", "v=\u00e4", "v\r\nHost: x", "v" * 3000, b"v"])
def test_a_trace_state_that_is_none_is_left_out(tracestate):
    carrier = {"traceparent": CARRIED} if tracestate is None else {"traceparent": CARRIED, "tracestate": tracestate}
    taken = CallContext("a", traceparent=GIVEN, tracestate="s").carrying(carrier)
    assert (taken.traceparent, taken.tracestate) == (CARRIED, None)


@every_row("baggage", ["", "t=\u00e4", "t=1\r\nHost: x", "t" * 9000, b"t=1", None])
def test_a_baggage_that_is_none_takes_that_of_the_call_away(baggage):
    assert usable_baggage(baggage) is None
    assert CallContext("a", baggage="tenant=1").carrying({"baggage": baggage}).baggage is None


@every_row(
    "lengths", [[1], [MAX_BAGGAGE], [4_000, 4_159], [4_000, 4_160], [4_000, 4_159, 1], [8_000, 100, 100], [1] * 9_000]
)
def test_of_a_baggage_that_is_too_long_the_last_members_are_left_out(lengths):
    given = ",".join("x" * length for length in lengths)
    kept = usable_baggage(given)
    assert kept is None or len(kept) <= MAX_BAGGAGE
    members = [] if kept is None else kept.split(",")
    assert members == given.split(",")[: len(members)]
    left = given.split(",")[len(members) :]
    assert not left or len(",".join([*members, left[0]])) > MAX_BAGGAGE

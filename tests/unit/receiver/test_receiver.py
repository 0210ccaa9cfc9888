"""The receiver by itself: what no request from outside can bring about. The rest is in the contract of receivers."""

import base64
import enum
import hashlib
import io
import json
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from catga_sync.errors import Delivery, ErrorCode
from catga_sync.idempotency import MemoryIdempotency
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from catga_sync.receiver import receiver
from catga_sync.receiver import request as intake
from catga_sync.receiver.authentication import OpenGuard
from catga_sync.receiver.deduplication import Deduplication
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.results import CatgaResult, expired_before_start
from catga_sync.wire.envelope import RequestEnvelope, ResponseEnvelope
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH
from tests.unit.ending import ended_by_server
from tests.unit.serving_node import local_node

SECRET = "hunter2"
NOW = 1_769_860_800.0


@message(name="Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


class Handlers:
    """A local mediator whose answer is given."""

    def __init__(self, answer):
        self.registry = Mediator().registry
        self.registry.register(Ask)
        self.answer = answer
        self.calls = []

    def handles(self, request_type):
        return True

    def dispatch(self, request, call, node_id=None, *, write):
        self.calls.append((request, call, node_id))
        return write(self.answer(request) if callable(self.answer) else self.answer)


class StrictGuard(OpenGuard):
    """Refuses in the way it was given."""

    def __init__(self, admit=None, verify=None):
        self.error = {"admit": admit, "verify": verify}
        self.seen = []

    def admit(self, raw):
        self.seen.append((raw.remote_address, raw.headers.get("x-a")))
        if self.error["admit"]:
            raise self.error["admit"]

    def verify(self, raw, body, node_id, admitted):
        self.seen.append((body, node_id))
        if self.error["verify"]:
            raise self.error["verify"]


@pytest.fixture
def handlers():
    return Handlers(CatgaResult.success(7))


class Telling:
    """A node that says of itself what it is given."""

    node_id = "node-1"

    def __init__(self, to_wire):
        self.to_wire = to_wire


def make(handlers, node=None, **changes):
    return Receiver(handlers, node or local_node(), **{"guard": OpenGuard(), **changes})


def ask(timestamp=NOW, headers=None, **changes):
    body = RequestEnvelope("Ask", "int", b'{"number":1}', "r-1", None, timestamp).encode()
    cells = {
        "method": "POST",
        "path": INVOKE_PATH,
        "headers": {"content-type": "application/json", **(headers or {})},
        "read": io.BytesIO(body).read,
        "content_length": len(body),
    }
    return RawRequest(**{**cells, **changes})


def reply_of(raw):
    return ResponseEnvelope.decode(raw.body)


@pytest.fixture
def held_clock(monkeypatch):
    """Hold the wall clock at NOW, and the other one until it is moved by hand."""
    clock = SimpleNamespace(now=0.0, time=lambda: NOW, monotonic=lambda: clock.now)
    monkeypatch.setattr(intake, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("age", "timeout_ms", "status"),
    [
        (0.0, 1000, 200), (5.0, 2000, 200), (61.0, 1000, 200), (61.001, 1000, 504), (3600.0, 1000, 504),
        (60.5, 1, 504), (60.05, 100, 200), (89.9, 30_000, 200), (90.1, 30_000, 504), (-3600.0, 1000, 200),
    ],
)  # fmt: skip
def test_a_request_is_stale_when_its_time_and_the_minute_for_clocks_have_passed(
    handlers, held_clock, age, timeout_ms, status
):
    raw = make(handlers).handle(ask(NOW - age, {"catga-timeout-ms": str(timeout_ms)}))
    assert raw.status == status
    assert raw.headers["Catga-Executed"] == ("1" if status == 200 else "0")
    assert len(handlers.calls) == (status == 200)


@pytest.mark.parametrize(
    ("age", "timeout_ms", "sent", "says"),
    [
        (62.0, 1000, "2026-01-31T11:58:58.000", "1 s left, and here it is 2026-01-31T12:00:00.000+00:00, 62.0 s later"),
        (
            62.0,
            500,
            "2026-01-31T11:58:58.000",
            "0.5 s left, and here it is 2026-01-31T12:00:00.000+00:00, 62.0 s later",
        ),
        (3600.0, 1000, "2026-01-31T11:00:00.000", "1 s left, and here it is 2026-01-31T12:00:00.000+00:00, 3600.0 s"),
    ],
)
def test_a_refusal_for_age_names_both_times_and_what_lies_between(handlers, held_clock, age, timeout_ms, sent, says):
    raw = make(handlers).handle(ask(NOW - age, {"catga-timeout-ms": str(timeout_ms)}))
    text = reply_of(raw).error_message
    assert f"it was sent at {sent}+00:00 by the sender's clock with {says}" in text
    assert "set both clocks right (they may differ by 60 s)" in text


def test_a_request_of_a_time_that_nobody_can_show_is_refused_and_no_fault_of_the_receiver(handlers, caplog):
    request = ask(NOW, {"catga-timeout-ms": "1000"})
    body = request.read(-1).replace(b"2026-01-31T12:00:00.000000Z", b"0001-01-01T00:00:00+01:00")
    raw = make(handlers).handle(request._replace(read=io.BytesIO(body).read, content_length=len(body)))
    assert (raw.status, raw.headers["Catga-Executed"]) == (400, "0")
    assert reply_of(raw).error_message.startswith("timestamp: ")
    assert "fault" not in caplog.text


@pytest.mark.parametrize("once", [None, "memory"])
def test_a_call_whose_caller_has_hung_up_is_not_started_and_its_id_may_run_another_time(handlers, once):
    receiver = make(handlers, deduplication=None if once is None else Deduplication(MemoryIdempotency()))
    gone = receiver.handle(ask(time.time(), hung_up=lambda: True))
    assert (gone.status, gone.headers["Catga-Executed"], handlers.calls) == (504, "0", [])
    assert reply_of(gone).error_code is ErrorCode.CANCELLED
    assert receiver.handle(ask(time.time())).headers["Catga-Executed"] == "1"


def test_what_relies_on_a_store_is_refused_where_there_is_none(handlers):
    """The node was restarted without one, and the caller has yet to hear of it."""
    raw = make(handlers).handle(ask(time.time(), {"catga-store": "0" * 32}))
    assert (raw.status, raw.headers["Catga-Executed"], handlers.calls) == (412, "0", [])
    assert reply_of(raw).error_code is ErrorCode.FAILED_PRECONDITION


def test_a_caller_that_has_hung_up_is_looked_for_after_the_wait_for_a_duplicate(handlers):
    class Crossed(MemoryIdempotency):
        """The first call of an id ends unexecuted while the second waits for it."""

        def wait(self, key, timeout):
            self.release(key, first.token)
            hung_up.append(True)
            return super().wait(key, timeout)

    store, hung_up = Crossed(), []
    first = store.claim("-\nAsk\nr-1", hashlib.sha256(b'{"number":1}').hexdigest(), 60.0)
    raw = make(handlers, deduplication=Deduplication(store)).handle(ask(time.time(), hung_up=lambda: bool(hung_up)))
    assert hung_up
    assert (raw.headers["Catga-Executed"], handlers.calls) == ("0", [])


def test_a_call_s_time_runs_from_when_it_came_and_not_from_when_its_body_was_read(handlers):
    whole = ask(time.time(), {"catga-timeout-ms": "10000"}, arrived=time.monotonic() - 3.0)
    assert make(handlers).handle(whole).status == 200
    ((_, call, _),) = handlers.calls
    assert 6.0 < call.remaining() <= 7.0


def test_a_timestamp_with_a_zone_is_compared_as_the_instant_it_is(handlers, held_clock):
    fields = json.loads(ask().read(10_000)) | {"timestamp": "2026-01-31T14:00:00+02:00"}
    body = json.dumps(fields).encode()
    raw = ask(headers={"catga-timeout-ms": "1000"}, read=io.BytesIO(body).read, content_length=len(body))
    assert make(handlers).handle(raw).status == 200


def test_the_handler_is_dispatched_once_as_this_node(handlers):
    raw = make(handlers).handle(ask())
    ((request, call, node_id),) = handlers.calls
    assert (request, call.request_id, node_id) == (Ask(1), "r-1", "node-1")
    assert (raw.status, base64.b64encode(b"7").decode()) == (200, json.loads(raw.body)["payloadData"])


def test_the_default_time_is_the_node_s_own(handlers):
    make(handlers, default_timeout=5.0).handle(ask())
    assert 0 < handlers.calls[0][1].remaining() <= 5.0


@pytest.mark.parametrize(
    "result",
    [expired_before_start(), CatgaResult.failure("quota", "RESOURCE_EXHAUSTED", delivery=Delivery.NOT_EXECUTED)],
    ids=["expired between the two checks", "a behaviour's own"],
)
def test_what_the_mediator_did_not_start_is_not_called_executed(result):
    raw = make(Handlers(result)).handle(ask())
    assert raw.headers["Catga-Executed"] == "0"


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "code",
    [
        Color.RED,
        object(),
        7,
    ],
    ids=["enum", "object", "number"],
)
def test_a_code_that_is_no_text_is_still_an_answer_that_can_be_read(code):
    raw = make(Handlers(CatgaResult.failure("no", code))).handle(ask())
    assert raw.headers["Catga-Executed"] == "1"
    assert not reply_of(raw).is_success


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
@pytest.mark.parametrize("part", ["describe", "admit", "verify", "dispatch"])
def test_a_fault_of_a_part_is_500_without_its_text(handlers, part, error, caplog):
    def broken(*args):
        raise error(SECRET)

    if part == "dispatch":
        handlers.answer = broken
        made = make(handlers)
    elif part == "describe":
        made = make(handlers, Telling(broken))
    else:
        made = make(handlers, guard=StrictGuard(**{part: error(SECRET)}))
    raw = made.handle(ask(path=NODE_PATH, method="GET") if part == "describe" else ask())
    assert raw.status == 500
    assert SECRET.encode() not in raw.body
    assert SECRET in caplog.text
    assert reply_of(raw).error_code is ErrorCode.INTERNAL
    # Nobody can tell whether the handler had been started when dispatch() broke.
    assert raw.headers["Catga-Executed"] == ("unknown" if part == "dispatch" else "0")
    assert part == "describe" or made._node.in_flight == 0


def test_what_the_server_raises_to_end_the_process_goes_through_and_leaves_nothing_running(handlers):
    made = make(handlers)
    with ended_by_server() as handlers.answer, pytest.raises(SystemExit):
        made.handle(ask())
    assert made._node.in_flight == 0


def test_every_request_is_noticed_even_one_that_is_refused(handlers):
    noticed = []
    guard = StrictGuard(Refused(Reason.NOT_ALLOWED, "no"))
    made = make(handlers, on_request=lambda: noticed.append(1), guard=guard)
    made.handle(ask())
    made.handle(ask(path="/nowhere"))
    assert len(noticed) == 2


def test_a_stranger_is_refused_before_the_body_is_read(handlers):
    def read(size):
        raise AssertionError("read")

    guard = StrictGuard(Refused(Reason.NOT_ALLOWED, "not you"))
    raw = make(handlers, guard=guard).handle(ask(headers={"x-a": "b"}, read=read, remote_address="10.0.0.1"))
    assert (raw.status, reply_of(raw).error_message) == (403, "not you")
    assert guard.seen == [("10.0.0.1", "b")]


def test_a_request_that_was_read_first_is_let_in_once_by_each_guard(handlers):
    own, other = StrictGuard(), StrictGuard(Refused(Reason.NOT_ALLOWED, "not you"))
    made = make(handlers, guard=own)
    raw, body = made.read_body(ask(headers={"x-a": "b"}))
    assert made.handle(raw).status == 200
    assert own.seen == [(None, "b"), (body, "node-1")]
    assert make(handlers, guard=other).handle(raw).status == 403


def test_a_request_that_was_refused_while_it_was_read_first_is_refused_for_the_same_reason(handlers):
    made = make(handlers, max_body_bytes=10)
    raw, body = made.read_body(ask())
    assert (made.handle(raw).status, body) == (413, b"")
    assert handlers.calls == []


def test_the_raw_body_is_verified_before_it_is_parsed(handlers):
    guard = StrictGuard(verify=Refused(Reason.UNAUTHENTICATED, "not signed"))
    made = make(handlers, guard=guard)
    raw = made.handle(ask(read=io.BytesIO(b"{garbage").read, content_length=8))
    assert (raw.status, reply_of(raw).error_message) == (401, "not signed")
    assert guard.seen[-1] == (b"{garbage", "node-1")
    assert handlers.calls == []
    assert made._node.in_flight == 0


def test_a_stranger_does_not_learn_that_the_node_is_draining(handlers):
    made = make(handlers, guard=StrictGuard(verify=Refused(Reason.UNAUTHENTICATED, "not signed")))
    made._node.drain()
    assert made.handle(ask()).status == 401


def test_a_caller_that_was_not_verified_takes_no_place(handlers):
    made = make(handlers, local_node(max_concurrency=1))
    whole, answers = ask(), []

    def read(size):
        assert (made._node.in_flight, made._node.room) == (0, 1)
        answers.append(made.handle(ask()).status)
        return whole.read(size)

    made.handle(ask(read=read))
    assert answers == [200]


def test_a_request_that_is_still_being_read_when_a_drain_begins_is_refused_and_keeps_nobody_waiting(handlers):
    made, whole = make(handlers), ask()

    def read(size):
        made._node.drain()
        assert made._node.wait_idle(0.0)
        return whole.read(size)

    raw = made.handle(ask(read=read))
    assert (raw.status, raw.headers["Catga-Executed"]) == (503, "0")
    assert handlers.calls == []


def dripping(clock, seconds, whole=None):
    """Return a read that gives one byte after so many seconds."""
    given = ask() if whole is None else whole

    def read(size):
        clock.now += seconds
        return given.read(1)

    return read


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 5.0),
        ({"catga-timeout-ms": "60000"}, 5.0),
        ({"catga-timeout-ms": "2000"}, 2.0),
        ({"catga-timeout-ms": "x"}, 5.0),
    ],
    ids=["no time", "much time", "less time", "a wrong time"],
)
@pytest.mark.parametrize("length", [True, False])
def test_a_body_that_drips_is_cut_off_and_nothing_runs(handlers, held_clock, headers, seconds, length):
    changes = {} if length else {"content_length": None, "terminated": True}
    raw = make(handlers).handle(ask(headers=headers, read=dripping(held_clock, 0.9), **changes))
    assert (raw.status, raw.headers["Catga-Executed"]) == (408, "0")
    assert (reply_of(raw).error_code, reply_of(raw).error_message) == (
        ErrorCode.UNAVAILABLE,
        "the body came too slowly",
    )
    assert seconds <= held_clock.now < seconds + 0.9
    assert handlers.calls == []


@pytest.mark.parametrize("error", [None, OSError("cut off")], ids=["as if it had ended", "with an error"])
def test_a_body_that_the_server_cut_off_at_its_end_came_too_slowly(handlers, held_clock, error):
    whole = ask()
    text = whole.read(10_000)

    def read(size):
        if held_clock.now:
            if error is not None:
                raise error
            return b""
        held_clock.now = 5.0
        return text

    for length in (len(text) + 1, None):
        held_clock.now = 0.0
        raw = make(handlers).handle(ask(read=read, content_length=length, terminated=True))
        assert (raw.status, raw.headers["Catga-Executed"]) == (408, "0")
    assert handlers.calls == []


def test_a_body_that_is_whole_is_never_too_late(handlers, held_clock):
    whole = ask()

    def read(size):
        held_clock.now += 60.0
        return whole.read(size)

    assert make(handlers).handle(ask(read=read)).status == 200


@pytest.mark.parametrize("part", ["body", "error", "signature"])
def test_the_end_of_a_body_is_called_off_when_it_has_been_read(handlers, held_clock, part):
    told = []

    def end_at(at):
        told.append(at)
        return lambda: told.append("off")

    changes = {"read": lambda size: 1 / 0} if part == "error" else {}
    guard = StrictGuard(verify=Refused(Reason.UNAUTHENTICATED, "no") if part == "signature" else None)
    held_clock.now = 7.0
    make(handlers, guard=guard).handle(ask(end_at=end_at, **changes))
    assert told == [12.0, "off"]


@pytest.mark.parametrize("path", [INVOKE_PATH, BATCH_PATH, NODE_PATH, DRAIN_PATH])
def test_what_a_stranger_still_sends_keeps_nobody_waiting(handlers, path):
    cuts = []
    guard = StrictGuard(Refused(Reason.NOT_ALLOWED, "not you"))
    for method in ("POST", "GET"):
        make(handlers, guard=guard).handle(ask(path=path, method=method, cut=lambda: cuts.append(path)))
    assert cuts == [path, path]


def test_a_caller_that_was_let_in_is_heard_out(handlers):
    cuts = []
    make(handlers).handle(ask(headers={"content-type": "text/plain"}, cut=lambda: cuts.append(1)))
    make(handlers, max_body_bytes=10).handle(ask(cut=lambda: cuts.append(1)))
    make(handlers).handle(ask(cut=lambda: cuts.append(1)))
    assert cuts == []


def test_a_read_that_returns_small_pieces_is_gone_on_with(handlers):
    whole = ask()
    data = io.BytesIO(whole.read(10_000))
    raw = make(handlers).handle(ask(read=lambda size: data.read(min(size, 7)), content_length=len(data.getvalue())))
    assert raw.status == 200


def test_a_draining_node_finishes_what_runs_and_takes_nothing_new(handlers):
    started, go_on = threading.Event(), threading.Event()

    def slow(request):
        started.set()
        go_on.wait(10)
        return CatgaResult.success(7)

    handlers.answer = slow
    made = make(handlers)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(made.handle(ask())))
    thread.start()
    assert started.wait(10)
    made._node.drain()
    assert made._node.draining
    assert made._node.in_flight == 1
    assert made.handle(ask()).status == 503
    assert made._node.wait_idle(0.0) is False
    go_on.set()
    assert made._node.wait_idle(10.0) is True
    thread.join(10)
    assert [raw.status for raw in answers] == [200]
    assert made._node.in_flight == 0


def test_an_idle_node_is_idle_at_once(handlers):
    assert make(handlers)._node.wait_idle(0.0) is True


def test_a_forked_child_runs_none_of_its_parent_s_requests(handlers):
    made = make(handlers)

    def inside(request):
        made._node.after_fork_in_child()
        assert made._node.wait_idle(0.0)
        return CatgaResult.success(1)

    handlers.answer = inside
    assert made.handle(ask()).status == 200


def test_a_description_is_what_the_node_says(handlers):
    node = Telling(lambda: {"nodeId": "n", "ü": [1, None]})
    raw = make(handlers, node).handle(ask(path=NODE_PATH, method="GET"))
    assert json.loads(raw.body) == {"nodeId": "n", "ü": [1, None]}
    assert raw.body.isascii()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"catga-timeout-ms": "4000"}, 4.0),
        ({}, 30.0),
        ({"catga-timeout-ms": "10"}, 1.0),
        ({"catga-timeout-ms": "-1"}, 1.0),
    ],
)
def test_a_response_may_be_written_for_as_long_as_its_call_has_time_and_a_second_at_least(
    handlers, monkeypatch, headers, seconds
):
    monkeypatch.setattr(receiver, "time", SimpleNamespace(monotonic=lambda: 100.0, time=lambda: 1_000.0))
    refused = make(handlers).handle(ask(path="/nowhere", headers=headers, arrived=100.0))
    assert (refused.status, refused.seconds) == (404, seconds)


@pytest.mark.parametrize("name", ["catga-context", "catga-chain"])
def test_a_batch_whose_headers_cannot_be_read_is_refused_whole_and_nothing_runs(handlers, name):
    items = [RequestEnvelope("Ask", "int", b'{"number":1}', f"r-{each}", None, NOW).encode() for each in range(2)]
    body = b'{"requests":[%b]}' % b",".join(items)
    headers = {name: "\x7f", "catga-request-id": "r-0"}
    sent = ask(path=BATCH_PATH, read=io.BytesIO(body).read, content_length=len(body), headers=headers)
    given = make(handlers).handle(sent)
    assert (given.status, given.headers["Catga-Executed"]) == (400, "0")
    refusal = ResponseEnvelope.decode(given.body)
    assert refusal.request_id == "r-0"
    assert name in str(refusal.error_message).lower()


@pytest.mark.parametrize(("number", "executed"), [(1, "1"), (2, "0")])
def test_a_batch_ran_if_one_of_its_items_ran(handlers, number, executed):
    items = [
        RequestEnvelope(name, "int", b'{"number":1}', f"r-{number}", None, NOW).encode()
        for number, name in enumerate(["Unknown", "Ask" if number == 1 else "Unknown", "Unknown"])
    ]
    body = b'{"requests":[%b]}' % b",".join(items)
    sent = ask(path=BATCH_PATH, read=io.BytesIO(body).read, content_length=len(body))
    assert make(handlers).handle(sent).headers["Catga-Executed"] == executed

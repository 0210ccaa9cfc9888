"""The memory that large requests may take at once: a weighted semaphore, and what the receiver does with it."""

import base64
import gzip
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from catga_sync.errors import ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from catga_sync.receiver import compression
from catga_sync.receiver.authentication import OpenGuard
from catga_sync.receiver.memory_budget import BUDGET, SMALL, MemoryBudget, weight_of
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.receiver.refusal import Refused
from catga_sync.wire.envelope import ResponseEnvelope
from catga_sync.wire.routes import BATCH_PATH, INVOKE_PATH
from tests.processes import until
from tests.tables import every_row
from tests.unit.serving_node import local_node

#: Seconds that no test waits for.
LONG = 60.0
LARGE = b"[" + b" " * SMALL + b"]"


class Waiter(threading.Thread):
    """Takes a share in a thread of its own, and keeps it until it is told to give it back."""

    def __init__(self, budget, weight, order):
        super().__init__()
        self.budget, self.weight, self.order = budget, weight, order
        self.done = threading.Event()
        before = budget.waiting
        self.start()
        until(lambda: budget.waiting == before + 1 or self in order, "it waits, or has its share")

    def run(self):
        if self.budget.acquire(self.weight, LONG):
            self.order.append(self)
            self.done.wait(LONG)
            self.budget.release(self.weight)

    def give_back(self):
        self.done.set()
        self.join(LONG)


# -- the semaphore -----------------------------------------------------------------------------------------------------


def test_what_fits_goes_at_once_and_what_does_not_is_refused_without_a_wait():
    budget = MemoryBudget(100)
    assert budget.acquire(60, 0.0)
    assert budget.acquire(40, 0.0)
    assert not budget.acquire(1, 0.0)
    assert not budget.acquire(1, -1.0)
    budget.release(40)
    assert budget.acquire(40, 0.0)


def test_shares_are_given_in_the_order_in_which_they_were_asked_for():
    budget, order = MemoryBudget(100), []
    assert budget.acquire(80, 0.0)
    heavy = Waiter(budget, 95, order)
    light = Waiter(budget, 10, order)  # it fits, and if it went, such ones would keep the heavy one waiting for ever
    assert budget.waiting == 2
    budget.release(80)
    until(lambda: order == [heavy], "the heavy one has its share")
    heavy.give_back()
    until(lambda: order == [heavy, light], "the light one has its share")
    light.give_back()
    assert (budget.free, budget.waiting) == (100, 0)


def test_a_share_goes_to_the_first_that_waits_and_not_to_who_comes_just_then():
    budget, order = MemoryBudget(100), []
    assert budget.acquire(60, 0.0)
    heavy = Waiter(budget, 90, order)
    assert not budget.acquire(10, 0.0)
    budget.release(60)
    until(lambda: order == [heavy], "it has its share")
    heavy.give_back()


def test_what_is_heavier_than_all_runs_alone():
    budget, order = MemoryBudget(100), []
    assert budget.acquire(1, 0.0)
    giant = Waiter(budget, 1000, order)
    assert order == []
    budget.release(1)
    until(lambda: order == [giant], "it has its share")
    assert budget.free == 0
    assert not budget.acquire(1, 0.0)
    giant.give_back()
    assert budget.free == 100


def test_who_gives_up_keeps_nobody_waiting_who_is_lighter():
    budget, order = MemoryBudget(100), []
    assert budget.acquire(80, 0.0)
    heavy = threading.Thread(target=lambda: order.append(budget.acquire(90, 1.5)))
    heavy.start()
    until(lambda: budget.waiting == 1, "the heavy one waits")
    light = Waiter(budget, 10, order)
    heavy.join(LONG)
    until(lambda: len(order) == 2, "the light one has its share")
    assert set(order) == {False, light}
    light.give_back()
    budget.release(80)
    assert (budget.free, budget.waiting) == (100, 0)


@pytest.mark.parametrize("given", [False, True])
def test_whatever_ends_a_wait_ends_no_share(monkeypatch, given):
    budget = MemoryBudget(100)
    assert budget.acquire(100, 0.0)

    wait_on, own = threading.Event.wait, threading.current_thread()

    def wait(event, timeout=None):
        if threading.current_thread() is not own:
            return wait_on(event, timeout)
        if given:
            budget.release(100)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Event, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        budget.acquire(50, LONG)
    assert (budget.free, budget.waiting) == (100 if given else 0, 0)


def test_many_threads_never_have_more_than_there_is():
    budget, lock, held, most = MemoryBudget(100), threading.Lock(), [0], [0]

    def work(number):
        weight = 7 + number % 60
        for _ in range(50):
            assert budget.acquire(weight, LONG)
            with lock:
                held[0] += weight
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= weight
            budget.release(weight)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most[0] <= 100
    assert (budget.free, budget.waiting) == (100, 0)


def test_a_forked_child_has_all_of_it_even_if_the_parent_was_just_asking():
    budget = MemoryBudget(100)
    assert budget.acquire(100, 0.0)
    budget._lock.acquire()
    budget.after_fork_in_child()
    assert budget.acquire(100, 0.0)


# -- what a text weighs ------------------------------------------------------------------------------------------------


def test_a_small_text_takes_neither_a_share_nor_a_lock():
    budget = MemoryBudget(100)
    assert budget.acquire(100, 0.0)
    with budget._lock, budget.share(b"x" * (SMALL - 1), lambda: 0.0):
        pass


def test_a_large_text_has_a_share_for_as_long_as_its_block_runs():
    budget = MemoryBudget(10**9)
    with budget.share(LARGE, lambda: LONG):
        assert budget.free == 10**9 - weight_of(LARGE)
    assert budget.free == 10**9
    with pytest.raises(ZeroDivisionError), budget.share(LARGE, lambda: LONG):
        raise ZeroDivisionError
    assert budget.free == 10**9


def test_a_large_text_without_a_share_is_refused_as_a_call_above_the_limit_is():
    budget = MemoryBudget(100)
    assert budget.acquire(1, 0.0)
    with pytest.raises(Refused, match="ask another node") as caught, budget.share(LARGE, lambda: 0.0):
        pytest.fail("it has run")
    assert (caught.value.reason.status, caught.value.reason.code) == (503, ErrorCode.RESOURCE_EXHAUSTED)
    assert budget.free == 99


@every_row("item", [b"{},", b"[],", b'{"a":1},', b'"ab",', b"0.5,"])
def test_many_values_weigh_more_than_a_text(item):
    assert weight_of(item * 1000) > weight_of(b"x" * len(item) * 1000) + 100_000


# -- the receiver ------------------------------------------------------------------------------------------------------


@message(name="Measure")
@dataclass(frozen=True)
class Measure(Query[int]):
    text: str = ""


class Node:
    """A receiver with a handler that is given."""

    def __init__(self, handle, **options):
        local = Mediator()

        @local.handler
        def measure(request: Measure) -> int:
            return handle(request)

        self.local_node = local_node("node-1", local)
        self.receiver = Receiver(local, self.local_node, guard=OpenGuard(), **options)
        self.budget = self.receiver._memory

    def post(self, body, path=INVOKE_PATH, timeout_ms=60_000, **more):
        headers = {"content-type": "application/json", "catga-timeout-ms": str(timeout_ms), **more}
        return self.receiver.handle(RawRequest("POST", path, headers, io.BytesIO(body).read, len(body)))

    def ask(self, length, timeout_ms=60_000):
        """Return status, ``Catga-Executed``, code and payload of the answer."""
        raw = self.post(envelope(length), timeout_ms=timeout_ms)
        reply = ResponseEnvelope.decode(raw.body)
        return raw.status, raw.headers["Catga-Executed"], reply.error_code, reply.payload


def envelope(length):
    payload = b'{"text":"%b"}' % (b"x" * length)
    fields = {
        "requestTypeName": "Measure",
        "responseTypeName": "int",
        "payloadData": base64.b64encode(payload).decode(),
        "requestId": f"r-{length}",
        "timestamp": "2126-01-31T12:00:00Z",
    }
    return json.dumps(fields).encode()


REFUSED = (503, "0", ErrorCode.RESOURCE_EXHAUSTED, None)


def test_a_large_request_has_its_share_while_its_handler_runs_and_not_longer():
    node = Node(lambda request: node.budget.free)
    status, executed, _, payload = node.ask(SMALL)
    assert (status, executed) == (200, "1")
    assert int(payload) == node.budget.size - weight_of(b'{"text":"%b"}' % (b"x" * SMALL))
    assert node.budget.free == node.budget.size == BUDGET * 4 * 1024 * 1024


def test_a_large_request_whose_handler_fails_gives_its_share_back():
    node = Node(lambda request: 1 // 0)
    assert node.ask(SMALL) == (200, "1", ErrorCode.UNKNOWN, None)
    assert node.budget.free == node.budget.size


@pytest.mark.parametrize("waits_for", ["envelope", "payload"])
def test_a_large_request_that_has_no_turn_in_time_is_refused_and_a_small_one_runs(monkeypatch, waits_for):
    node = Node(lambda request: len(request.text))
    if waits_for == "payload":  # the first share is free, the second is not
        real, asked = MemoryBudget.share, []

        def share(budget, raw, seconds):
            asked.append(raw)
            if len(asked) == 2:
                assert budget.acquire(budget.size, 0.0)
            return real(budget, raw, seconds)

        monkeypatch.setattr(MemoryBudget, "share", share)
    else:
        assert node.budget.acquire(node.budget.size, 0.0)
    assert node.ask(SMALL, timeout_ms=1000) == REFUSED
    assert node.ask(5) == (200, "1", None, b"5")
    assert node.local_node.in_flight == 0


def ask_compressed(node, length, timeout_ms):
    more = {"content-encoding": "gzip"}
    raw = node.post(gzip.compress(envelope(length)), timeout_ms=timeout_ms, **more)
    return raw.status, raw.headers["Catga-Executed"]


def test_a_request_that_becomes_large_when_it_is_decompressed_waits_for_memory_and_a_small_one_does_not():
    node = Node(lambda request: len(request.text))
    assert node.budget.acquire(node.budget.size, 0.0)
    assert ask_compressed(node, 4 * SMALL, timeout_ms=200) == (503, "0")
    assert ask_compressed(node, 5, timeout_ms=60_000) == (200, "1")
    node.budget.release(node.budget.size)
    assert ask_compressed(node, 4 * SMALL, timeout_ms=60_000) == (200, "1")
    assert node.budget.free == node.budget.size


def test_memory_is_taken_while_a_large_request_is_decompressed(monkeypatch):
    node = Node(lambda request: len(request.text))
    real, free = compression.decompress, []

    def decompress(coding, body, limit):
        free.append(node.budget.free)
        return real(coding, body, limit)

    monkeypatch.setattr(compression, "decompress", decompress)
    assert ask_compressed(node, 4 * SMALL, timeout_ms=60_000) == (200, "1")
    small, large = free
    assert small == node.budget.size
    assert node.budget.size - large >= len(envelope(4 * SMALL))


def test_a_large_request_waits_for_its_turn():
    node = Node(lambda request: len(request.text))
    assert node.budget.acquire(node.budget.size, 0.0)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(node.ask, SMALL + number) for number in range(2)]
        until(lambda: node.budget.waiting == 2, "both wait")
        assert node.local_node.in_flight == 2  # a drain waits for them
        assert not any(call.done() for call in calls)
        node.budget.release(node.budget.size)
        assert [int(call.result(LONG)[3]) for call in calls] == [SMALL, SMALL + 1]


def test_a_large_call_that_comes_back_to_a_node_full_of_it_ends_with_the_truth_and_in_its_time():
    """The outer handler holds all there is and waits for the inner call: neither waits for ever."""
    inner = []

    def handle(request):
        if len(request.text) == 2 * SMALL:
            assert node.budget.free == 0  # heavier than all, so it runs alone
            inner.append(node.ask(SMALL, timeout_ms=2000))
            inner.append(node.ask(5))
        return len(request.text)

    node = Node(handle, max_body_bytes=4 * SMALL)
    node.budget.size = node.budget._free = SMALL
    assert node.ask(2 * SMALL) == (200, "1", None, b"%d" % (2 * SMALL))
    assert inner == [REFUSED, (200, "1", None, b"5")]
    assert node.budget.free == SMALL


def test_items_of_a_batch_wait_one_by_one_and_are_refused_alone():
    node = Node(lambda request: len(request.text))
    node.budget.size = node.budget._free = weight_of(LARGE)
    body = b'{"requests":[%b,%b,%b]}' % (envelope(SMALL), envelope(5), envelope(SMALL + 1))
    raw = node.post(body, BATCH_PATH)
    assert [item["executed"] for item in json.loads(raw.body)["responses"]] == ["1", "1", "1"]
    assert node.budget.free == node.budget.size

    def handle(request):
        if len(request.text) == 5:
            assert node.budget.acquire(node.budget.size, 0.0)
        return len(request.text)

    node = Node(handle)
    raw = node.post(body, BATCH_PATH, timeout_ms=2000)
    responses = json.loads(raw.body)["responses"]
    assert [item["executed"] for item in responses] == ["1", "1", "0"]
    assert responses[2]["errorCode"] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("path", [INVOKE_PATH, BATCH_PATH])
def test_a_large_body_that_is_refused_gives_its_share_back(path):
    node = Node(lambda request: 0)
    raw = node.post(b'{"requests":["%b"]' % (b"x" * SMALL), path)
    assert (raw.status, raw.headers["Catga-Executed"]) == (400, "0")
    assert node.budget.free == node.budget.size


def test_a_forked_child_has_the_memory_that_its_parent_uses():
    node = Node(lambda request: len(request.text))
    assert node.budget.acquire(node.budget.size, 0.0)
    node.budget.after_fork_in_child()
    assert node.ask(SMALL)[:2] == (200, "1")

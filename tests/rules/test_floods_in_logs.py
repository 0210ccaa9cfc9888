"""One line for a refusal, a few for a flood of them, and none that is as long as a peer likes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from catga_sync import ClusterNode, Mediator, Query, Request, message
from catga_sync._log_limit import LimitedLog
from catga_sync.context import CallContext
from catga_sync.idempotency import MemoryIdempotency
from catga_sync.receiver.authentication import Guard, LoopbackGuard, OpenGuard, SignatureGuard
from catga_sync.receiver.deduplication import Deduplication
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.serialization import MessageRegistry
from catga_sync.testing import FakeClock
from catga_sync.transport import create_invoker
from catga_sync.wire.envelope import RequestEnvelope
from catga_sync.wire.headers import SIGNATURE
from catga_sync.wire.routes import INVOKE_PATH
from catga_sync.wire.signatures import KeyRing, sign_request
from tests.nonces import MemoryNonces
from tests.unit.serving_node import local_node

MANY = 1_000
NOW = 1_800_000_000.0
RING = KeyRing("k" * 32)


@message(name="Do")
@dataclass(frozen=True)
class Do(Request[int]):
    number: int = 0


@message(name="Ask")
@dataclass(frozen=True)
class Ask(Query[int]):
    number: int = 0


class FullNonces(MemoryNonces):
    """A store that cannot be written."""

    def add(self, nonce: str, lifetime: float) -> bool:
        raise OSError("no space left")


class FullIdempotency(MemoryIdempotency):
    """A store that cannot be written."""

    def claim(self, *_: Any) -> Any:
        raise OSError("no space left")


def guard(nonces: MemoryNonces | None = None) -> SignatureGuard:
    store = MemoryNonces() if nonces is None else nonces
    return SignatureGuard(RING, store, cluster="c", incarnation=lambda: "run", clock=FakeClock(NOW))


def receiver(guard: Guard, limited_log: LimitedLog, once: Deduplication | None = None) -> Receiver:
    local = Mediator()
    local.register(Do, lambda request: request.number)
    local.register(Ask, lambda request: request.number)
    return Receiver(local, local_node("n", local), guard=guard, deduplication=once, limited_log=limited_log)


def call(signature: str | None = None, *, name: str = "Do", path: str = INVOKE_PATH, body: bytes = b"") -> RawRequest:
    sent = body or RequestEnvelope(name, "int", b"{}", "r-1", timestamp=NOW).encode()
    headers = {"content-type": "application/json", **({} if signature is None else {SIGNATURE.lower(): signature})}
    return RawRequest("POST", path, headers, io.BytesIO(sent).read, len(sent))


def signed_call() -> RawRequest:
    plain = call()
    body = plain.read(10_000)
    of_call = {"cluster": "c", "audience": "n", "incarnation": "run", "headers": plain.headers, "body": body}
    return call(sign_request(RING, method="POST", path=INVOKE_PATH, now=NOW, nonce="0" * 32, **of_call))  # type: ignore[arg-type]


OF_ANOTHER_KEY = f"catga-hmac-v1 key={'0' * 16};ts=1;nonce={'0' * 32};incarnation=;mac={'0' * 64}"

#: What decides who is let in, what is sent, where ids are kept, and what of the cause is in the log.
REFUSED: dict[str, tuple[Callable[[], Guard], Callable[[], RawRequest], Callable[[], Deduplication | None], str]] = {
    "not signed": (guard, call, lambda: None, "it is not signed"),
    "another key": (guard, lambda: call(OF_ANOTHER_KEY), lambda: None, "with key 0000000000000000"),
    "a replay": (guard, signed_call, lambda: None, "a replay"),
    "no nonces": (lambda: guard(FullNonces()), signed_call, lambda: None, "no space left"),
    "not from here": (LoopbackGuard, call, lambda: None, "loopback"),
    "no such type": (OpenGuard, lambda: call(name="No.Such"), lambda: None, "No.Such"),
    "no envelope": (OpenGuard, lambda: call(body=b"{"), lambda: None, "JSON"),
    "no such route": (OpenGuard, lambda: call(path="/catga/x"), lambda: None, "route"),
    "no idempotency": (OpenGuard, call, lambda: Deduplication(FullIdempotency()), "no space left"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_is_one_line_and_a_thousand_are_few(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    make_guard, make_call, make_once, why = REFUSED[kind]
    clock = FakeClock(NOW)
    limited_log = LimitedLog(clock)
    node = receiver(make_guard(), limited_log, make_once())
    if kind == "a replay":
        assert node.handle(make_call()).status == 200
    assert node.handle(make_call()).headers["Catga-Executed"] == "0"
    (line,) = caplog.messages
    assert line.startswith("refused: request_id=")
    assert why in line
    for _ in range(MANY - 1):
        node.handle(make_call())
    assert len(caplog.messages) == 10
    clock.advance(1.0)
    limited_log.tell_left_out()
    (told,) = caplog.messages[10:]
    assert f"{MANY - 10} x " in told


def test_a_store_that_is_down_is_a_few_lines_where_the_request_runs_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock(NOW)
    limited_log = LimitedLog(clock)
    node = receiver(OpenGuard(), limited_log, Deduplication(FullIdempotency(), limited_log))
    for _ in range(MANY):
        assert node.handle(call(name="Ask")).status == 200
    assert len(caplog.messages) == 10
    clock.advance(1.0)
    limited_log.tell_left_out()
    assert f"{MANY - 10} x " in caplog.messages[-1]


def test_a_thousand_failed_calls_are_a_few_lines_at_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(NOW)
    limited_log = LimitedLog(clock)
    invoker = create_invoker(MessageRegistry(), limited_log=limited_log)
    nobody = ClusterNode("peer", "http://127.0.0.1:1")
    for _ in range(MANY):
        assert not invoker.invoke(nobody, Do(), timeout=0.0, call=CallContext("r-1"))
    assert len(caplog.messages) == 10
    clock.advance(1.0)
    limited_log.tell_left_out()
    assert f"{MANY - 10} x " in caplog.messages[-1]


def test_an_invoker_with_a_log_of_its_own_writes_what_it_has_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(NOW)
    invoker = create_invoker(MessageRegistry(), clock=clock)
    for _ in range(MANY):
        invoker.invoke(ClusterNode("peer", "http://127.0.0.1:1"), Do(), timeout=0.0, call=CallContext("r-1"))
    clock.advance(1.0)
    invoker.tidy([])
    assert f"{MANY - 10} x " in caplog.messages[-1]


@pytest.mark.parametrize("letter", ["a", "\n", "\U0001f600"])
def test_a_line_of_a_refusal_is_never_long(letter: str, caplog: pytest.LogCaptureFixture) -> None:
    envelope = RequestEnvelope("Do", "int", b"{}", "r-1", timestamp=NOW)
    bodies = [
        RequestEnvelope("No." + letter * 500, "int", b"{}", "r-1", timestamp=NOW).encode(),
        RequestEnvelope("Do", letter * 500, b"{}", "r-1", timestamp=NOW).encode(),
        envelope.encode().replace(b'"r-1"', b'"' + b"r" * 900_000 + b'"'),
        RequestEnvelope("Do", "int", f'["{letter * 100_000}"]'.encode(), "r-1", timestamp=NOW).encode(),
    ]
    node = receiver(OpenGuard(), LimitedLog(FakeClock(NOW)))
    for body in bodies:
        node.handle(call(body=body))
    assert len(caplog.messages) == len(bodies)
    assert max(map(len, caplog.messages)) < 1_000

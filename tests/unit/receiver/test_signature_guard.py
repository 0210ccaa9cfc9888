"""Which signed requests a node serves: those for this node, this run of it, and once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from catga_sync.errors import ErrorCode
from catga_sync.receiver.authentication import SignatureGuard
from catga_sync.receiver.refusal import Refused
from catga_sync.receiver.request import RawRequest
from catga_sync.testing import FakeClock
from catga_sync.wire.headers import SIGNATURE
from catga_sync.wire.signatures import REFUSAL, KeyRing, sign_request, verify_response
from tests.nonces import MemoryNonces

RING = KeyRing("k" * 32)
BODY = b"{}"
HEADERS = {"content-type": "application/json", "catga-timeout-ms": "5000"}
PATHS = ["/catga/cluster/invoke", "/catga/cluster/batch", "/catga/cluster/drain", "/catga/cluster/stream"]

every_route = pytest.mark.parametrize("path", PATHS)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def guard(clock: FakeClock, run: str = "run-2", **changes: Any) -> SignatureGuard:
    """Return the guard of a node whose process has just begun, and remembers nothing."""
    given = {"cluster": "default", "incarnation": lambda: run, "clock": clock}
    return SignatureGuard(RING, MemoryNonces(), **{**given, **changes})


def request(clock: FakeClock, incarnation: str, path: str = PATHS[0], **changes: Any) -> RawRequest:
    """Return a request that is signed now, by the clock of its caller."""
    given = {"cluster": "default", "audience": "node-1", "method": "POST", "headers": HEADERS, "body": BODY}
    signed = {**given, **changes}
    signature = sign_request(RING, path=path, incarnation=incarnation, now=clock.time(), **signed)
    headers = {**signed["headers"], SIGNATURE.lower(): signature}
    return RawRequest(signed["method"], path, headers, lambda size: b"", len(BODY))


def serves(guard: SignatureGuard, raw: RawRequest, body: bytes = BODY) -> None:
    assert guard.verify(raw, body, "node-1", guard.admit(raw)).nonce


def refuses(guard: SignatureGuard, raw: RawRequest, status: int, body: bytes = BODY) -> Refused:
    with pytest.raises(Refused) as caught:
        guard.verify(raw, body, "node-1", guard.admit(raw))
    assert caught.value.reason.status == status
    assert (caught.value.caller is None) == (status != 421), "only a caller that is known gets a signed refusal"
    return caught.value


@every_route
def test_what_is_signed_for_the_present_run_is_served_however_early_it_was_signed(clock: FakeClock, path: str) -> None:
    raw = request(clock, "run-2", path)
    clock.advance(59.0)
    serves(guard(clock), raw)


@every_route
@pytest.mark.parametrize("former", ["run-1", "run-3", "RUN-2", "run-2x"])
def test_what_is_signed_for_another_run_is_refused_in_a_way_that_is_signed_and_names_the_true_one(
    clock: FakeClock, path: str, former: str
) -> None:
    node = guard(clock)
    clock.advance(1.0)
    raw = request(clock, former, path)
    refusal = refuses(node, raw, 421)
    assert refusal.reason.code is ErrorCode.UNAVAILABLE
    sealed = node.seal(refusal.caller, 421, "0", "node-1", b"no")
    told = verify_response(
        RING,
        sealed[SIGNATURE],
        nonce=refusal.caller.nonce,
        status=421,
        executed="0",
        content_type="application/json",
        content_encoding=None,
        body=b"no",
    )
    assert told == ("node-1", "run-2")
    # A second time it is a replay: a signed "has not run" might be believed of the first one.
    refuses(node, raw, 401)


@every_route
@pytest.mark.parametrize("run", ["run-2", ""])
def test_what_is_signed_for_no_run_is_served_if_it_was_signed_after_the_process_began(
    clock: FakeClock, path: str, run: str
) -> None:
    captured = request(clock, "", path)
    clock.advance(1.0)
    node = guard(clock, run)
    refuses(node, captured, 421)
    clock.advance(0.01)
    serves(node, request(clock, "", path))


@every_route
def test_a_node_without_a_run_serves_nothing_that_is_for_one(clock: FakeClock, path: str) -> None:
    node = guard(clock, "")
    clock.advance(1.0)
    refuses(node, request(clock, "run-1", path), 421)


def test_a_forked_worker_begins_to_remember_when_it_is_forked(clock: FakeClock) -> None:
    node = guard(clock, "")
    clock.advance(1.0)
    captured = request(clock, "")
    clock.advance(1.0)
    node.after_fork_in_child()
    refuses(node, captured, 421)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("incarnation", ["", "run-1", "run-2"])
def test_a_description_is_for_any_run_and_once(clock: FakeClock, method: str, incarnation: str) -> None:
    raw = request(clock, incarnation, "/catga/cluster/node", method=method)
    clock.advance(1.0)
    node = guard(clock)
    serves(node, raw)
    refuses(node, raw, 401)


@every_route
@pytest.mark.parametrize("other", [{"cluster": "staging"}, {"audience": "node-2"}, {"method": "GET"}, {"body": b"{ }"}])
def test_what_is_for_another_cluster_or_node_is_refused_as_anybody_s_is(
    clock: FakeClock, path: str, other: dict[str, Any]
) -> None:
    node = guard(clock)
    clock.advance(1.0)
    for run in ("run-2", "run-1", ""):
        raw = request(clock, run, path, **other)._replace(method="POST")
        assert str(refuses(node, raw, 401)) == REFUSAL


CONTEXT = {
    "catga-chain": "web=5",
    "catga-request-id": "r-1",
    "content-encoding": "gzip",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    "tracestate": "vendor=x",
    "catga-store": "5ca1ab1e" * 4,
    "baggage": "tenant=7",
    "catga-context": "tenant=7",
}


@pytest.mark.parametrize("name", [*CONTEXT, *HEADERS])
@pytest.mark.parametrize("change", [lambda value: value + "0", lambda value: None], ids=["changed", "taken away"])
def test_no_header_on_which_a_node_acts_can_be_changed_on_the_way(
    clock: FakeClock, name: str, change: Callable[[str], str | None]
) -> None:
    headers = {**HEADERS, **CONTEXT}
    raw = request(clock, "run-2", headers=headers)
    other = {**raw.headers, name: change(headers[name])}
    forged = raw._replace(headers={key: value for key, value in other.items() if value is not None})
    assert str(refuses(guard(clock), forged, 401)) == REFUSAL
    serves(guard(clock), raw)


@pytest.mark.parametrize("name", CONTEXT)
def test_no_header_on_which_a_node_acts_can_be_added_on_the_way(clock: FakeClock, name: str) -> None:
    raw = request(clock, "run-2")
    refuses(guard(clock), raw._replace(headers={**raw.headers, name: CONTEXT[name]}), 401)


def test_the_caller_of_a_former_run_is_no_cause_for_a_warning_of_the_guard(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    node = guard(clock)
    refuses(node, request(clock, "run-1"), 421)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_without_a_memory_the_same_call_is_let_in_again_and_none_that_has_another_key_or_run(clock: FakeClock) -> None:
    node = SignatureGuard(RING, None, cluster="default", incarnation=lambda: "run-2", clock=clock)
    clock.advance(1.0)
    raw = request(clock, "run-2")
    serves(node, raw)
    node.after_fork_in_child()
    serves(node, raw)
    refuses(node, request(clock, "run-1"), 421)
    refuses(node, request(clock, "run-2", audience="node-2"), 401)
    stranger = SignatureGuard(KeyRing("s" * 32), None, cluster="default", incarnation=lambda: "run-2", clock=clock)
    refuses(stranger, raw, 401)
    clock.advance(61.0)
    refuses(node, raw, 401)

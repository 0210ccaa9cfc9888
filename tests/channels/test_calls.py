"""One battery for all ways to a node, POST, streams and gRPC: a caller cannot tell which of them its call took."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode, Request
from catga_sync.hooks import ServedDetails
from catga_sync.receiver.receiver import Receiver
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.routes import INVOKE_PATH
from tests.channels.nodes import WAYS, Ask, Fail, Happened, Served, Shout, Tell, Ways, calling, every_way, serving
from tests.faults.tap import tapped
from tests.processes import free_port, until

SECRET = "s" * 32
TRUSTS: dict[str, dict[str, Any]] = {"insecure": {"insecure": True}, "secret": {"secret": SECRET}, "shared key": {}}
every_trust = pytest.mark.parametrize("trust", TRUSTS.values(), ids=TRUSTS)


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    made: str = request.param
    return made


@pytest.fixture(scope="module")
def node(way: str) -> Iterator[Served]:
    """A node that no test changes."""
    with serving(way, secret=SECRET) as served:
        yield served


@pytest.fixture
def served(node: Served) -> Served:
    node.ran.clear()
    node.started.clear()
    node.go.clear()
    return node


def told(result: CatgaResult[Any]) -> tuple[Any, ...]:
    """Return what is the same, whatever carried the call."""
    return result.is_success, result.value, result.error, result.code, result.delivery, result.node_id


MESSAGES: list[Request[Any]] = [
    Ask("tea"),
    Shout("\u00fc\u2603"),
    Fail("own"),
    Fail("code"),
    Fail("odd"),
    Fail("raise"),
    Ask("x" * 300_000),
]


@every_trust
def test_every_message_has_the_result_that_it_has_by_any_other_way(trust: dict[str, Any]) -> None:
    alone, together = {}, {}
    for way in WAYS:
        ways = Ways()
        with serving(way, **trust) as served, calling(way, served.endpoint, hooks=[ways], **trust) as caller:
            alone[way] = [told(caller.send(each)) for each in MESSAGES]
            together[way] = [told(each) for each in caller.send_batch(MESSAGES)]
        assert set(ways.seen) == {way}
    assert alone["post"][0][:2] == (True, "tea")
    assert alone["stream"] == alone["grpc"] == alone["post"] == together["post"]
    assert together["stream"] == together["grpc"] == together["post"]


def test_explain_says_by_which_way_a_call_would_go(way: str, served: Served) -> None:
    with calling(way, served.endpoint, secret=SECRET) as caller:
        explanation = caller.explain(Ask("tea"))
    told = {"post": "by POST (streams are off)", "stream": "over a stream", "grpc": "over gRPC"}[way]
    assert explanation.way == told
    assert f"the call would go {told}" in str(explanation)


def test_an_event_reaches_its_subscriber(way: str, served: Served) -> None:
    with calling(way, served.endpoint, secret=SECRET) as caller:
        until(lambda: caller.nodes()[0].subscribes, "the node has described itself")
        assert caller.publish(Happened("rain"))["users"]
    assert served.ran == ["rain"]


def test_the_context_of_the_application_goes_with_a_call_alone_and_in_a_batch(way: str, served: Served) -> None:
    with calling(way, served.endpoint, secret=SECRET) as caller:
        given = {"tenant": "J\u00f6rg, 7 %", "empty": ""}
        assert caller.send(Tell(), context=given).unwrap() == given
        batch = caller.send_batch([Tell(), Tell()], context=given)
        assert [each.unwrap() for each in batch] == [given, given]
        assert caller.send(Tell()).unwrap() == {}


# -- what is refused, and proven not to have run -----------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"secret": "t" * 32}, {"insecure": True}], ids=["another secret", "no secret"])
def test_a_caller_without_the_secret_is_refused_and_nothing_runs(
    way: str, served: Served, other: dict[str, Any]
) -> None:
    # A node that lets nobody see what it offers is not known to offer streams.
    with calling("post" if way == "stream" else way, served.endpoint, **other) as caller:
        for result in (caller.send(Ask("tea")), *caller.send_batch([Ask("tea"), Ask("milk")])):
            assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED)
    assert served.ran == []


@every_way
def test_a_request_that_is_too_long_for_the_node_is_refused_with_proof(way: str) -> None:
    # Unsigned: a refusal of what was not read cannot be signed, and would prove nothing to who expects a signature.
    options = {"insecure": True, "max_body_bytes": 200_000}
    with serving(way, **options) as served, calling(way, served.endpoint, insecure=True) as caller:
        result = caller.send(Ask("x" * 300_000))
        assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)
        assert served.ran == []
        assert caller.send(Ask("short")).unwrap() == "short"
        batch = caller.send_batch([Ask(str(number) * 50_000) for number in range(5)])
        assert all(batch), batch


def test_a_call_without_time_is_not_sent(way: str, served: Served) -> None:
    with calling(way, served.endpoint, secret=SECRET) as caller:
        result = caller.send(Ask("tea"), timeout=0)
    assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)
    assert served.ran == []


@every_way
def test_a_busy_node_refuses_with_proof_what_has_waited_for_half_of_its_time(way: str) -> None:
    with serving(way, max_concurrency=1) as served, calling(way, served.endpoint) as caller:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(caller.send, Ask("wait"))
            assert served.started.wait(20)
            result = caller.send(Ask("tea"), timeout=1.0)
            assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)
            served.go.set()
            assert running.result(30).unwrap() == "wait"
        assert caller.send(Ask("tea")).unwrap() == "tea"
    assert served.ran == ["wait", "tea"]


@every_way
def test_a_draining_node_refuses_with_proof(way: str) -> None:
    with serving(way) as served, calling(way, served.endpoint, retry_delay=0) as caller:
        assert caller.send(Ask("tea"))
        served.mediator._local_node.drain()
        result = caller.send(Ask("late"))
        assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
        assert "going offline" in (result.error or "")
    assert served.ran == ["tea"]


@every_way
def test_a_node_that_was_restarted_is_called_again_with_a_new_signature(way: str) -> None:
    options = {"endpoint": f"{'grpc' if way == 'grpc' else 'http'}://127.0.0.1:{free_port()}", "secret": SECRET}
    with contextlib.ExitStack() as stack:
        with serving(way, **options) as first:
            caller = stack.enter_context(calling(way, options["endpoint"], secret=SECRET))
            assert caller.send(Ask("one"))
            assert first.ran == ["one"]
        until(lambda: caller.send(Ask("between")).delivery is Delivery.NOT_EXECUTED, "nothing is sent to it")
        with serving(way, **options) as second:
            until(lambda: caller.send(Ask("two")).is_success, "it is called")
            assert second.ran == ["two"]


# -- what may have run -------------------------------------------------------------------------------------------------


def test_a_response_that_is_too_long_for_the_caller_is_unknown(way: str, served: Served) -> None:
    with calling(way, served.endpoint, secret=SECRET, max_body_bytes=2000) as caller:
        result = caller.send(Shout("long"))
        assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.UNKNOWN)
        assert caller.send(Shout("short")).unwrap() == "SHORT"


class Exchanges(list[ServedDetails]):
    """A hook that keeps what it is told of exchanges."""

    on_served = list.append

    def of_calls(self) -> list[ServedDetails]:
        return [each for each in self if each.route == "invoke"]


def noted(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> list[RawRequest]:
    """Return the list to which each call that a receiver gets is added."""
    calls: list[RawRequest] = []
    for name in ("handle", "serve_call"):
        real = getattr(receiver, name)

        def note(raw: RawRequest, *more: Any, real: Any = real) -> Any:
            if raw.path == INVOKE_PATH:
                calls.append(raw)
            return real(raw, *more)

        monkeypatch.setattr(receiver, name, note)
    return calls


def through(wire: contextlib.ExitStack, served: Served) -> str:
    """Return the endpoint of a wire to a node; closing the stack cuts it."""
    scheme, _, port = served.endpoint.partition("://127.0.0.1:")
    return wire.enter_context(tapped(int(port))).endpoint.replace("http", scheme)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        *((way, "its connection is gone") for way in WAYS),
        # It is waited for: "make soak" has the other ways.
        pytest.param("post", "its time is up", marks=pytest.mark.slow),
        ("stream", "its time is up"),
        pytest.param("grpc", "its time is up", marks=pytest.mark.slow),
    ],
)
def test_a_response_that_nobody_is_there_to_read_is_told_as_none(
    way: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = Exchanges()
    with (
        serving(way, insecure=True, hooks=[exchanges]) as served,
        contextlib.ExitStack() as wire,
        calling(way, through(wire, served), insecure=True) as caller,
        ThreadPoolExecutor(1) as pool,
    ):
        calls = noted(served.mediator.receiver, monkeypatch)
        assert caller.send(Ask("tea")).unwrap() == "tea"
        running = pool.submit(caller.send, Ask("wait"), timeout=2.0 if why == "its time is up" else 60.0)
        assert served.started.wait(20)
        if why == "its connection is gone":
            wire.close()
        result = running.result(30)
        hung_up = calls[-1].hung_up
        assert hung_up is not None
        until(hung_up, "the node sees it")
        served.go.set()
        until(lambda: len(exchanges.of_calls()) == 2, "both exchanges are told")
    code = ErrorCode.DEADLINE_EXCEEDED if why == "its time is up" else ErrorCode.UNAVAILABLE
    assert (result.code, result.delivery) == (code, Delivery.UNKNOWN)
    there, gone = exchanges.of_calls()
    assert (there.way, there.status, there.refusals) == (way, 200, ())
    assert there.bytes_out > 0
    # It has run, and no response was written.
    assert served.ran == ["tea", "wait"]
    assert (gone.way, gone.status, gone.refusals, gone.bytes_out) == (way, 499, (), 0)

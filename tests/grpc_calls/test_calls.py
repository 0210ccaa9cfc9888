"""A call over gRPC has the result that it has over HTTP, signed or not."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.integrations.wsgi import ClusterMiddleware
from tests import processes
from tests.conftest import require_module

require_module("grpc")

from tests.grpc_calls.nodes import (  # noqa: E402
    Ask,
    Fail,
    Happened,
    Served,
    Shout,
    Tell,
    calling,
    sent_to_nobody,
    serving,
    wait_for,
)

TRUSTS: list[dict[str, Any]] = [{"insecure": True}, {"secret": "s" * 32}, {}]
every_trust = pytest.mark.parametrize("trust", TRUSTS, ids=["insecure", "secret", "shared key"])


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def over_http(**options: Any) -> Iterator[tuple[Served, str]]:
    with make_server("127.0.0.1", 0, None, handler_class=_Quiet) as server:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        served = Served(node_id="users", discovery="memory://", endpoint=endpoint, **options)
        server.set_app(ClusterMiddleware(lambda *_: [], served.mediator))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served, endpoint
        finally:
            server.shutdown()
            thread.join(10)
            served.mediator.close()


def told(result: CatgaResult[Any]) -> tuple[Any, ...]:
    """Return what is the same, whatever carried the call."""
    return result.is_success, result.value, result.error, result.code, result.delivery, result.node_id


MESSAGES = [
    Ask("tea"),
    Shout("\u00fc\u2603"),
    Fail("own"),
    Fail("code"),
    Fail("odd"),
    Fail("raise"),
    Ask("x" * 300_000),
]


@every_trust
def test_every_message_is_answered_as_over_http(trust: dict[str, Any]) -> None:
    with serving(**trust) as (served, _), over_http(**trust) as (_, http):
        with calling(served.mediator.options.endpoint or "", **trust) as by_grpc, calling(http, **trust) as by_post:
            for message in MESSAGES:
                assert told(by_grpc.send(message)) == told(by_post.send(message))
            batch = [told(each) for each in by_grpc.send_batch(MESSAGES)]
            assert batch == [told(each) for each in by_post.send_batch(MESSAGES)]
            assert batch[0][:2] == (True, "tea")


@every_trust
def test_an_event_reaches_its_subscriber(trust: dict[str, Any]) -> None:
    with serving(**trust) as (served, _), calling(served.mediator.options.endpoint or "", **trust) as caller:
        wait_for(lambda: caller.nodes() and caller.nodes()[0].subscribes)
        assert caller.publish(Happened("rain"))["users"]
        assert served.ran == ["rain"]


@every_trust
def test_the_context_of_the_application_goes_over_grpc_alone_and_in_a_batch(trust: dict[str, Any]) -> None:
    with serving(**trust) as (served, _), calling(served.mediator.options.endpoint or "", **trust) as caller:
        given = {"tenant": "J\u00f6rg, 7 %", "empty": ""}
        assert caller.send(Tell(), context=given).unwrap() == given
        batch = caller.send_batch([Tell(), Tell()], context=given)
        assert [each.unwrap() for each in batch] == [given, given]
        assert caller.send(Tell()).unwrap() == {}


def test_a_caller_with_another_secret_is_refused_and_nothing_runs() -> None:
    with serving(secret="s" * 32) as (served, _):
        with calling(served.mediator.options.endpoint or "", secret="t" * 32) as caller:
            result = caller.send(Ask("tea"))
        assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED)
        with calling(served.mediator.options.endpoint or "", insecure=True) as caller:
            result = caller.send(Ask("tea"))
        assert (result.code, result.delivery) == (ErrorCode.UNAUTHENTICATED, Delivery.NOT_EXECUTED)
        assert served.ran == []


def test_a_node_that_was_restarted_is_called_again_with_a_new_signature() -> None:
    options = {"secret": "s" * 32, "endpoint": f"grpc://127.0.0.1:{processes.free_port()}"}
    with calling(options["endpoint"], secret=options["secret"]) as caller:
        with serving(**options) as (first, _):
            assert caller.send(Ask("one"))
            assert first.ran == ["one"]
        result = sent_to_nobody(caller, Ask("between"))
        assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
        assert first.ran == ["one"]
        with serving(**options) as (second, _):
            wait_for(lambda: caller.send(Ask("two")))
            assert second.ran == ["two"]


def test_a_request_that_is_too_long_for_the_node_is_refused_with_proof() -> None:
    with serving(insecure=True, max_body_bytes=2000) as (served, _):
        with calling(served.mediator.options.endpoint or "", insecure=True) as caller:
            result = caller.send(Ask("x" * 3000))
            assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)
            # Beyond twice the limit grpcio ends the call, and nothing proves what became of it.
            result = caller.send(Ask("x" * 30_000))
            assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.UNKNOWN)
            assert served.ran == []
            batch = caller.send_batch([Ask(str(number) * 500) for number in range(5)])
            assert all(batch), batch


def test_a_response_that_is_too_long_for_the_caller_is_unknown() -> None:
    with serving(insecure=True) as (served, _):
        with calling(served.mediator.options.endpoint or "", insecure=True, max_body_bytes=2000) as caller:
            result = caller.send(Shout("long"))
            assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.UNKNOWN)
            assert caller.send(Shout("short")).unwrap() == "SHORT"


def test_a_draining_node_refuses_with_proof() -> None:
    with serving(insecure=True) as (served, _):
        with calling(served.mediator.options.endpoint or "", insecure=True, retry_delay=0) as caller:
            served.mediator._local_node.drain()
            result = caller.send(Ask("tea"))
            assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)
            assert "going offline" in (result.error or "")


def test_a_deadline_that_ends_at_the_node_is_unknown_and_one_that_is_up_is_not_sent() -> None:
    with serving(insecure=True) as (served, _):
        with calling(served.mediator.options.endpoint or "", insecure=True) as caller:
            result = caller.send(Ask("wait"), timeout=0.5)
            assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.UNKNOWN)
            assert served.started.is_set()


def test_stopping_waits_for_the_call_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its files are new, and it is one process: nobody is waited for.
    monkeypatch.setattr("catga_sync.cluster.group_files._SETTLED", 0.1)
    with serving(insecure=True) as (served, server):
        with calling(served.mediator.options.endpoint or "", insecure=True) as caller:
            results: list[CatgaResult[str]] = []
            thread = threading.Thread(target=lambda: results.append(caller.send(Ask("wait"))))
            thread.start()
            assert served.started.wait(20)
            stopping = threading.Thread(target=server.stop, args=(20,))
            stopping.start()
            wait_for(lambda: served.mediator._local_node.draining)
            served.go.set()
            for each in (thread, stopping):
                each.join(30)
            assert results[0].unwrap() == "wait"
            assert server.wait(0)


def test_a_node_beside_http_is_called_over_grpc_and_over_http_where_that_fails() -> None:
    with over_http(insecure=True, grpc_endpoint="grpc://127.0.0.1:1") as (served, http):
        with calling(http, insecure=True) as caller:
            wait_for(lambda: caller.nodes() and caller.nodes()[0].grpc_endpoint)
            assert caller._sender._invoker.way_to(caller.nodes()[0]) == "grpc"
            assert caller.send(Ask("tea")).unwrap() == "tea"
            assert all(caller.send_batch([Ask("a"), Ask("b")]))
            assert caller._sender._invoker.way_to(caller.nodes()[0]) == "post"
        assert served.ran == ["tea", "a", "b"]


def test_a_node_is_seen_by_others_through_its_own_grpc_endpoint() -> None:
    with serving(insecure=True, cluster_name="seen") as (served, _):
        wait_for(served.mediator.nodes)
        assert served.mediator.trouble is None
        (node,) = served.mediator.nodes()
        assert node.grpc_address == served.mediator.options.endpoint

"""What is said of calls over gRPC alone; what is said of all ways is in ``tests/channels``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.conftest import require_module

require_module("grpc")

from tests.channels.nodes import Ask, Served  # noqa: E402
from tests.grpc_calls.nodes import calling, serving, wait_for  # noqa: E402


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


def test_of_a_request_beyond_twice_the_limit_nothing_proves_what_became() -> None:
    with serving(insecure=True, max_body_bytes=2000) as (served, _):
        with calling(served.endpoint, insecure=True) as caller:
            # grpcio ends the call.
            result = caller.send(Ask("x" * 30_000))
            assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.UNKNOWN)
            assert served.ran == []


def test_a_deadline_that_ends_at_the_node_is_unknown_and_one_that_is_up_is_not_sent() -> None:
    with serving(insecure=True) as (served, _):
        with calling(served.endpoint, insecure=True) as caller:
            result = caller.send(Ask("wait"), timeout=0.5)
            assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.UNKNOWN)
            assert served.started.is_set()


def test_stopping_waits_for_the_call_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its files are new, and it is one process: nobody is waited for.
    monkeypatch.setattr("catga_sync.cluster.group_files._SETTLED", 0.1)
    with serving(insecure=True) as (served, server):
        with calling(served.endpoint, insecure=True) as caller:
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

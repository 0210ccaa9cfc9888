"""What a call over gRPC that failed is told to have done: it did not run only where that is proven."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from catga_sync import CatgaResult, ClusterNode, Delivery, ErrorCode
from catga_sync.context import CallContext, new_request_id
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import create_invoker
from tests import processes
from tests.conftest import require_module

grpc = require_module("grpc")

from tests.channels.nodes import Ask, Shout  # noqa: E402
from tests.grpc_calls.nodes import calling, serving  # noqa: E402
from tests.misbehaviour import peers  # noqa: E402
from tests.misbehaviour.grpc_peers import never_speaks  # noqa: E402


def send(endpoint: str, timeout: float = 20.0) -> CatgaResult[str]:
    """Send one request once, with nothing else on its way."""
    invoker = create_invoker(MessageRegistry())
    try:
        node = ClusterNode("users", endpoint)
        return invoker.invoke(node, Ask("tea"), timeout=timeout, call=CallContext(new_request_id()))
    finally:
        invoker.close()


def test_a_port_where_nothing_listens_and_a_name_that_is_unknown_are_not_sent() -> None:
    for endpoint in (f"grpc://127.0.0.1:{processes.free_port()}", "grpc://no-such-host.invalid:7001"):
        result = send(endpoint)
        assert (result.code, result.delivery) == (ErrorCode.UNAVAILABLE, Delivery.NOT_EXECUTED)


def test_a_time_that_is_up_before_there_is_a_connection_is_not_sent() -> None:
    with peers.serving(never_speaks) as peer:
        result = send(peer.endpoint, timeout=0.3)
        assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)


@contextlib.contextmanager
def foreign(handle: Callable[[bytes, Any], bytes], service: str = "catga.cluster.v1.Cluster") -> Iterator[str]:
    """Serve a method of a program that is not ours."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        method = grpc.unary_unary_rpc_method_handler(handle)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Invoke": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


def aborts(code: str, executed: str | None = None) -> Callable[[bytes, Any], bytes]:
    def handle(message: bytes, context: Any) -> bytes:
        if executed is not None:
            context.set_trailing_metadata((("catga-executed", executed),))
        context.abort(grpc.StatusCode[code], "no")
        raise AssertionError

    return handle


@pytest.mark.parametrize(
    ("executed", "delivery"),
    [("0", Delivery.NOT_EXECUTED), ("1", Delivery.EXECUTED), ("unknown", Delivery.UNKNOWN), (None, Delivery.UNKNOWN)],
)
@pytest.mark.parametrize("code", ["UNAVAILABLE", "PERMISSION_DENIED", "INTERNAL"])
def test_the_trailing_metadata_of_a_node_prove_what_became_of_the_call(
    code: str, executed: str | None, delivery: Delivery
) -> None:
    with foreign(aborts(code, executed)) as endpoint:
        result = send(endpoint)
        assert result.delivery is delivery
        assert result.code == (ErrorCode[code] if executed is not None else ErrorCode.UNAVAILABLE)


def test_without_a_signature_they_prove_nothing_where_one_is_needed() -> None:
    with foreign(aborts("UNAVAILABLE", "0")) as endpoint:
        peers = {"users": {"url": endpoint, "signed": True}}
        with calling(endpoint, peers=peers, secret="s" * 32) as caller:
            assert caller.send(Ask("tea")).delivery is Delivery.UNKNOWN


@pytest.mark.parametrize("answer", [b"", b"\xff\xff", b"\x0a\x05other"], ids=["empty", "no message", "another id"])
def test_a_response_that_cannot_be_trusted_is_unknown(answer: bytes) -> None:
    with foreign(lambda message, context: answer) as endpoint:
        result = send(endpoint)
        assert (result.is_success, result.delivery) == (False, Delivery.UNKNOWN)


def test_a_server_without_the_service_is_named() -> None:
    with foreign(lambda message, context: b"", "some.Other") as endpoint:
        result = send(endpoint)
        assert (result.code, result.delivery) == (ErrorCode.UNIMPLEMENTED, Delivery.UNKNOWN)
        assert "serve_grpc" in (result.error or "")


NODE = """
    import os, sys
    from catga_sync import Mediator, create_cluster
    from catga_sync.integrations.grpc import serve_grpc
    from tests.channels.nodes import Ask, Shout

    local = Mediator()

    @local.handler
    def ask(request: Ask) -> str:
        print("runs", flush=True)
        sys.stdin.readline()
        return request.text

    @local.handler
    def shout(request: Shout) -> str:
        return request.text.upper()

    options = {"endpoint": sys.argv[1], "discovery": "memory://", "insecure": True}
    mediator = create_cluster(local, node_id="users", environ={}, **options)
    server = serve_grpc(mediator)
    print("serves", flush=True)
    server.wait()
"""


@contextlib.contextmanager
def process(endpoint: str) -> Iterator[subprocess.Popen[str]]:
    """Run a node in a process of its own."""
    node = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(NODE), endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert node.stdin is not None
    assert node.stdout is not None
    with node:
        try:
            assert node.stdout.readline() == "serves\n"
            yield node
        finally:
            node.kill()
            node.wait(20)


def test_a_connection_that_is_given_up_is_closed_when_its_last_call_has_ended() -> None:
    with serving(insecure=True) as (served, _), ThreadPoolExecutor(1) as pool:
        with calling(served.endpoint, insecure=True) as caller:
            running = pool.submit(caller.send, Ask("wait"))
            assert served.started.wait(20)
            channel = caller._sender._invoker._channel._made["grpc"]
            ((endpoint, link),) = channel._links.items()
            channel.drop(endpoint, link)
            assert link.is_ready
            assert caller.send(Shout("tea")).unwrap() == "TEA"
            served.go.set()
            assert running.result(30).unwrap() == "wait"
            assert not link.is_ready
            with pytest.raises(ValueError, match="closed"):
                link.call("/catga/cluster/node", b"", 1.0, ())


def test_a_node_whose_node_id_is_another_is_not_believed() -> None:
    endpoint = f"grpc://127.0.0.1:{processes.free_port()}"
    options = {"secret": "s" * 32}
    with serving(node_id="other", endpoint=endpoint, **options) as (served, _), calling(endpoint, **options) as caller:
        assert not caller.send(Ask("tea"))
        assert served.ran == []

"""What ``serve_grpc`` accepts, and what a caller is told that lacks grpcio."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from catga_sync import ClusterOptions, ConfigurationError, Mediator, create_cluster
from catga_sync.nodes import ClusterNode, NodeRecord
from tests import processes
from tests.conftest import require_module


def test_a_port_that_is_taken_is_an_error_unless_it_is_shared() -> None:
    require_module("grpc")
    from catga_sync.integrations.grpc import serve_grpc
    from tests.grpc_calls.nodes import serving

    with serving(insecure=True) as (served, server):
        with pytest.raises(ConfigurationError, match=r"^address: "):
            serve_grpc(served.mediator, address=f"127.0.0.1:{server.port}")
    options: dict[str, Any] = {"endpoint": "grpc://127.0.0.1:7001", "discovery": "memory://", "insecure": True}
    with create_cluster(Mediator(), environ={}, **options) as mediator:
        first = serve_grpc(mediator, address="127.0.0.1:0", shared_port=True)
        second = serve_grpc(mediator, address=f"127.0.0.1:{first.port}", shared_port=True)
        assert first.port == second.port
        first.stop()
        second.stop()


def test_calls_that_send_no_message_give_the_threads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    grpc = require_module("grpc")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from catga_sync.integrations import _grpc_messages
    from tests.grpc_calls.nodes import serving

    monkeypatch.setattr(_grpc_messages, "BODY_TIME", 0.1)
    sent: queue.Queue[bytes | None] = queue.Queue()
    methods = ("/catga.cluster.v1.Cluster/Invoke", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
    with serving(insecure=True) as (_, server), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        held = [channel.stream_unary(methods[i % 3]).future(iter(sent.get, None), timeout=60) for i in range(45)]
        found = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
        assert {call.code() for call in held} == {grpc.StatusCode.CANCELLED}
        empty = channel.stream_unary(methods[0])
        with pytest.raises(grpc.RpcError) as failed:
            empty(iter(()), timeout=30)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        for _ in held:
            sent.put(None)


def test_a_caller_of_watch_is_told_that_the_node_goes_offline() -> None:
    grpc = require_module("grpc")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from tests.grpc_calls.nodes import serving

    with serving(insecure=True) as (served, server), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        served.mediator.drain(0)
        # Without a call or a check that would find it out.
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watched.cancel()


@pytest.mark.parametrize(
    ("options", "arguments", "starts"),
    [
        ({"endpoint": "http://127.0.0.1:1"}, {}, "grpc_endpoint: "),
        ({"endpoint": None}, {}, "grpc_endpoint: "),
        ({"endpoint": "grpc://127.0.0.1:1"}, {"max_workers": 0}, "max_workers: "),
        ({"endpoint": "grpc://127.0.0.1:1"}, {"max_workers": True}, "max_workers: "),
    ],
)
def test_what_cannot_be_served_is_an_error_that_names_it(
    options: dict[str, Any], arguments: dict[str, Any], starts: str
) -> None:
    require_module("grpc")
    from catga_sync.integrations.grpc import serve_grpc

    with create_cluster(Mediator(), environ={}, discovery="memory://", **options) as mediator:
        with pytest.raises(ConfigurationError, match=f"^{starts}"):
            serve_grpc(mediator, **arguments)
    with pytest.raises(ConfigurationError, match=r"^mediator: "):
        serve_grpc(Mediator())  # type: ignore[arg-type]


def test_grpc_endpoint_is_an_option_and_a_part_of_the_record() -> None:
    options = ClusterOptions.from_env({"CATGA_GRPC_ENDPOINT": "grpc://localhost:7001"}, endpoint="http://localhost:1")
    assert options.grpc_endpoint == "grpc://localhost:7001"
    for wrong in ("http://localhost:1", "grpc://localhost:1/x", 7):
        with pytest.raises(ConfigurationError, match=r"^grpc_endpoint: "):
            ClusterOptions(grpc_endpoint=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^grpc_endpoint: .*secret"):
        ClusterOptions(endpoint="http://localhost:1", grpc_endpoint="grpc://users:7001")
    node = ClusterNode("users", "http://users:1", grpc_endpoint="grpcs://users:7001")
    assert node.grpc_address == "grpcs://users:7001"
    assert NodeRecord.from_text(NodeRecord(node).to_text()).node == node
    with pytest.raises(ConfigurationError, match=r"^grpcEndpoint: "):
        NodeRecord.from_mapping({"nodeId": "a", "endpoint": "http://a:1", "grpcEndpoint": "http://a:2"})
    assert ClusterNode("users", "grpc://users:1").grpc_address == "grpc://users:1"
    assert ClusterNode("users", "http://users:1").grpc_address is None


@pytest.mark.process
def test_without_grpcio_a_node_is_called_over_http_or_the_error_says_what_to_install() -> None:
    program = f"""
        import json, sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("grpc", "google"):
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Blocked())
        from catga_sync import ClusterNode, Mediator, Request, create_cluster
        from catga_sync.context import CallContext, new_request_id
        from catga_sync.serialization import MessageRegistry
        from catga_sync.transport import create_invoker
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Ask(Request[str]):
            text: str

        invoker = create_invoker(MessageRegistry())
        said = []
        for endpoint in ("grpc://127.0.0.1:{processes.free_port()}", "http://127.0.0.1:{processes.free_port()}"):
            node = ClusterNode("users", endpoint, grpc_endpoint="grpc://127.0.0.1:1")
            result = invoker.invoke(node, Ask("tea"), timeout=10, call=CallContext(new_request_id()))
            said.append([result.code, result.delivery, result.error])
        peers = {{"users": "grpc://127.0.0.1:{processes.free_port()}"}}
        with create_cluster(Mediator(), node_id="web", peers=peers, secret="s" * 40, environ={{}}) as web:
            result = web.send(Ask("tea"), timeout=10)
            said.append([result.code, result.delivery, result.error])
        try:
            import catga_sync.integrations.grpc
        except ImportError as exc:
            said.append(str(exc))
        print(json.dumps(said))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    by_grpc, by_post, with_secret, imported = json.loads(ran.stdout)
    assert by_grpc[:2] == by_post[:2] == with_secret[:2] == ["UNAVAILABLE", "NOT_EXECUTED"]
    assert "pip install catga-sync[grpc]" in by_grpc[2]
    assert "pip install catga-sync[grpc]" in with_secret[2]
    assert "Connection refused" in by_post[2]
    assert "pip install catga-sync[grpc]" in imported

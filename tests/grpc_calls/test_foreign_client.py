"""A program that was written from ``catga.proto`` alone calls a node; and the proto is what the code was made from."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import require_module

grpc = require_module("grpc")
protoc = require_module("grpc_tools.protoc")

from google.protobuf import descriptor_pb2  # noqa: E402

from catga_sync import Delivery, ErrorCode, Mediator, create_cluster  # noqa: E402
from catga_sync.context import current_call  # noqa: E402
from catga_sync.integrations.grpc import SERVICE, serve_grpc  # noqa: E402
from catga_sync.wire import catga_pb2  # noqa: E402
from tests import processes  # noqa: E402
from tests.channels.nodes import Ask, Shout  # noqa: E402
from tests.grpc_calls.nodes import calling, serving, wait_for  # noqa: E402

PROTO = importlib.resources.files("catga_sync") / "wire" / "catga.proto"


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    """The messages as a user compiles them, in a package without name."""
    (tmp_path / "catga.proto").write_text(PROTO.read_text())
    folders = [f"-I{tmp_path}", f"-I{importlib.resources.files('grpc_tools') / '_proto'}"]
    outputs = [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", f"--descriptor_set_out={tmp_path / 'set'}"]
    assert protoc.main(["protoc", *folders, *outputs, "catga.proto"]) == 0
    return tmp_path


def test_the_committed_messages_are_those_of_the_proto(compiled: Path) -> None:
    fresh = descriptor_pb2.FileDescriptorSet.FromString((compiled / "set").read_bytes()).file[0]
    committed = descriptor_pb2.FileDescriptorProto.FromString(catga_pb2.DESCRIPTOR.serialized_pb)
    committed.name = fresh.name
    for each in (fresh, committed):
        for message in each.message_type:
            for field in message.field:
                field.ClearField("json_name")  # protoc writes it into the one and not into the other
    assert committed == fresh
    assert catga_pb2.DESCRIPTOR.services_by_name["Cluster"].full_name == SERVICE


@pytest.mark.process
def test_a_foreign_client_calls_a_node(compiled: Path) -> None:
    with serving(insecure=True) as (served, server):
        wait_for(served.mediator.nodes)
        client = Path(__file__).with_name("foreign_client.py")
        ran = subprocess.run(
            [sys.executable, "-I", str(client), str(server.port), str(compiled)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        said = json.loads(ran.stdout)
    received, sent = map(int, said["metadata"].pop("catga-times").split(","))
    assert 0 < received <= sent
    assert said == {
        "invoke": "TEA",
        "metadata": {"catga-executed": "1", "catga-status": "200", "catga-node-id": "users"},
        "batch": [[True, "", "1"], [False, "UNIMPLEMENTED", "0"]],
        "description": ["users", None],
        "refusal": [
            "INVALID_ARGUMENT",
            "request_id: give 1 to 128 characters of A-Z a-z 0-9 . _ : -",
            "0",
            "INVALID_ARGUMENT",
        ],
        "health": "SERVING",
        "services": [SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"],
        "methods": ["Invoke", "InvokeBatch", "Describe", "Drain"],
        "health after drain": "NOT_SERVING",
        "ours": [],
    }


def test_a_message_that_is_compressed_is_not_decompressed() -> None:
    bomb = catga_pb2.InvokeRequest(payload=b"0" * 20_000_000, request_id="1").SerializeToString()
    options = [("grpc.max_send_message_length", -1)]
    with serving(insecure=True, max_body_bytes=100_000) as (served, server):
        target = f"127.0.0.1:{server.port}"
        with grpc.insecure_channel(target, options, compression=grpc.Compression.Gzip) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/{SERVICE}/Invoke")(bomb, timeout=20)
            assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT)
        assert served.ran == []


def test_what_shows_a_proxy_is_refused_without_a_key() -> None:
    message = catga_pb2.InvokeRequest(request_id="1").SerializeToString()
    with serving(insecure=True) as (_, server), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/Invoke")(message, metadata=(("x-forwarded-for", "10.0.0.1"),), timeout=20)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_call_whose_time_was_up_when_it_was_sent_is_refused_with_proof() -> None:
    message = catga_pb2.InvokeRequest(
        request_type_name="tests.channels.nodes.Ask",
        response_type_name="str",
        payload=b'{"text": "late"}',
        request_id="1",
    ).SerializeToString()
    with serving(insecure=True) as (served, server), grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/Invoke")(message, metadata=(("catga-timeout-ms", "0"),), timeout=20)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert dict(caught.value.trailing_metadata())["catga-executed"] == "0"
        assert served.ran == []


def test_descriptions_get_through_while_every_call_waits() -> None:
    with serving(insecure=True) as (served, _):
        endpoint = served.endpoint
        with calling(endpoint, insecure=True) as caller, ThreadPoolExecutor(32) as pool:
            running = [pool.submit(caller.send, Ask("wait")) for _ in range(32)]
            wait_for(lambda: served.mediator._local_node.in_flight == 32)
            with calling(endpoint, insecure=True, node_id="other") as other:
                wait_for(lambda: other.nodes() and other.nodes()[0].concurrency == 32)
                result = other.send(Shout("tea"), timeout=20)
                assert (result.code, result.delivery) == (ErrorCode.RESOURCE_EXHAUSTED, Delivery.NOT_EXECUTED)
            served.go.set()
            assert all(each.result(30) for each in running)


def test_the_deadline_of_grpc_is_that_of_the_call_and_an_id_that_was_seen_gets_its_response_again() -> None:
    left: list[float | None] = []

    def noting(request: Ask) -> str:
        call = current_call()
        left.append(None if call is None else call.remaining())
        return request.text

    port = processes.free_port()
    local = Mediator()
    local.register(Ask, noting)
    options = {"endpoint": f"grpc://127.0.0.1:{port}", "discovery": "memory://", "insecure": True}
    message = catga_pb2.InvokeRequest(
        request_type_name="tests.channels.nodes.Ask",
        response_type_name="str",
        payload=b'{"text": "tea"}',
        request_id="once",
    ).SerializeToString()
    with create_cluster(local, node_id="users", environ={}, **options) as mediator, serve_grpc(mediator):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            invoke = channel.unary_unary(f"/{SERVICE}/Invoke")
            _, first = invoke.with_call(message, timeout=100)
            assert left[0] is not None
            # gRPC rounds the time up as it writes it.
            assert 30 < left[0] <= 110
            assert "catga-replayed" not in dict(first.trailing_metadata())
            body, second = invoke.with_call(message, timeout=100)
            assert catga_pb2.InvokeResponse.FromString(body).payload == b'"tea"'
            replayed = dict(second.trailing_metadata()).get("catga-replayed")
    assert (len(left), replayed) == (1, "1")

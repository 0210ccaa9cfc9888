"""What the contracts of a receiver say that is not about HTTP holds over gRPC as well: by the same tests."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH
from tests.conftest import require_module
from tests.contracts.adapter import AdapterContract
from tests.contracts.receiver import Answer, Call, Exchanges, ReceiverContract

grpc = require_module("grpc")

from catga_sync.integrations.grpc import GrpcServer  # noqa: E402
from catga_sync.wire.catga_pb2 import InvokeBatchRequest, InvokeRequest, NodeDescription  # noqa: E402
from catga_sync.wire.protobuf import PROTOBUF  # noqa: E402

METHODS = {INVOKE_PATH: "Invoke", BATCH_PATH: "InvokeBatch", NODE_PATH: "Describe", DRAIN_PATH: "Drain"}

#: The tests that are left out are about what gRPC has not: methods, lengths, media types, codings, bodies in JSON,
#: headers of pages and proxies, and how long a body in JSON is.
RECEIVER = """
    a_request_is_handled_and_answered
    an_answer_may_be_nothing
    an_answer_may_be_a_plain_value
    a_handler_that_says_no_is_an_answer_like_any_other
    an_answer_of_another_type_is_a_fault_of_the_handler
    an_answer_that_is_too_long_says_so
    a_type_that_nobody_knows_is_looked_up_and_nothing_else
    a_response_type_is_no_request_type
    a_type_without_a_handler_says_what_to_do
    a_local_type_is_not_for_other_nodes
    a_response_type_that_does_not_belong_to_the_request_is_refused
    a_payload_that_does_not_fit_is_refused
    a_payload_is_read_as_dotnet_writes_it
    a_node_says_what_it_is
    a_call_whose_time_is_up_is_504_and_not_started
    a_handler_has_the_time_that_the_caller_has_left_and_five_minutes_at_most
    a_request_that_was_sent_too_long_ago_is_504_and_not_started
    clocks_may_differ
    the_clock_of_a_sender_that_gives_no_time_does_not_matter
    a_draining_node_is_503_and_names_itself
    a_busy_node_is_503_and_takes_the_next_call_when_it_has_room
    a_request_id_runs_once_and_is_answered_twice
    a_request_id_is_good_for_one_payload
    a_handler_knows_its_call
    an_event_reaches_every_subscriber
    a_subscriber_that_fails_is_a_failure_as_it_is_locally
    a_subscriber_knows_its_call
    a_batch_is_answered_in_order_and_each_item_fails_alone
    an_item_that_raises_keeps_no_other_from_its_answer
    the_items_of_a_batch_share_its_time
"""
ADAPTER = """
    status_headers_and_body_of_a_response_come_through
    a_response_that_is_replayed_says_so
    a_batch_comes_through
    a_node_describes_itself
    a_node_goes_offline_when_it_is_asked_to
    a_fault_of_the_node_is_500_without_a_word_of_the_inside
    the_text_of_an_exception_stays_with_the_node
    calls_at_once_get_their_own_answers
    the_headers_of_a_call_reach_its_handler
"""


def borrowed(contract: type[Exchanges], names: str) -> dict[str, Callable[..., None]]:
    return {f"test_{name}": getattr(contract, f"test_{name}") for name in names.split()}


def message_of(item: Any) -> InvokeRequest:
    """Return the message for an envelope in JSON; an empty one for what is none."""
    if not isinstance(item, dict):
        return InvokeRequest()
    try:
        payload = base64.b64decode(item["payloadData"], validate=True)
    except binascii.Error:
        payload = item["payloadData"].encode()
    made = InvokeRequest(
        request_type_name=item["requestTypeName"],
        response_type_name=item["responseTypeName"],
        payload=payload,
        source_node_id=item["sourceNodeId"],
        request_id=item["requestId"],
    )
    made.timestamp.FromJsonString(item["timestamp"].removesuffix("Z") + "Z")
    return made


def body_of(call: Call) -> bytes:
    if call.path not in (INVOKE_PATH, BATCH_PATH):
        return b""
    assert isinstance(call.body, bytes)
    given = json.loads(call.body)
    if call.path == INVOKE_PATH:
        return message_of(given).SerializeToString()
    return InvokeBatchRequest(requests=map(message_of, given["requests"])).SerializeToString()


def json_of(path: str, body: bytes) -> bytes:
    """Return in JSON what a message says."""
    if path == INVOKE_PATH:
        return PROTOBUF.read_response(body).encode()
    if path == BATCH_PATH:
        items = PROTOBUF.read_batch_response(body)
        told = [{**json.loads(each.encode()), "executed": executed} for each, executed in items]
        return json.dumps({"responses": told}).encode()
    return NodeDescription.FromString(body).json.encode()


class OverGrpc(Exchanges):
    """Calls a node over gRPC, and gives back what came as HTTP would have given it."""

    @pytest.fixture(autouse=True)
    def _servers(self) -> Iterator[None]:
        self.channels: dict[ClusterMediator, tuple[GrpcServer, Any]] = {}
        self.lock = threading.Lock()
        yield
        for server, channel in self.channels.values():
            channel.close()
            server.stop()
        # pytest keeps this object to its end, and a server that is kept keeps its sockets.
        self.channels.clear()

    def exchange(self, node: ClusterMediator, call: Call) -> Answer:
        with self.lock:  # several threads of a test may be the first to call
            if node not in self.channels:
                server = GrpcServer(node, "127.0.0.1:0", 8, None, shared_port=False)
                self.channels[node] = server, grpc.insecure_channel(f"127.0.0.1:{server.port}")
        method = self.channels[node][1].unary_unary(f"/catga.cluster.v1.Cluster/{METHODS[call.path]}")
        metadata = [(name.lower(), value) for name, value in call.headers.items()]
        try:
            body, done = method.with_call(body_of(call), metadata=metadata)
            path = call.path
        except grpc.RpcError as error:
            done, path = error, INVOKE_PATH
            body = dict(done.trailing_metadata())["catga-response-bin"]
        headers = CaseInsensitiveDict(done.trailing_metadata())
        told = json_of(path, body)
        headers.update({"Content-Type": "application/json", "Content-Length": str(len(told))})
        return Answer(int(headers["catga-status"]), headers, told)


TestReceiverOverGrpc = type("TestReceiverOverGrpc", (OverGrpc,), borrowed(ReceiverContract, RECEIVER))
TestAdapterOverGrpc = type("TestAdapterOverGrpc", (OverGrpc,), borrowed(AdapterContract, ADAPTER))

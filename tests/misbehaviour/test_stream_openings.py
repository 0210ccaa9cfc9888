"""Which calls open a stream, and which ones use those that are there."""

from __future__ import annotations

from catga_sync.context import CallContext
from catga_sync.nodes import STREAM, ClusterNode
from tests.misbehaviour.calls import REQUEST_ID, Order
from tests.misbehaviour.peers import serving
from tests.misbehaviour.test_streams import answers, invoking, kinds, send, streaming


def test_a_stream_carries_no_call_to_another_node_that_has_the_same_endpoint() -> None:
    with serving(streaming(answers)) as peer, invoking(signed=True) as invoker:
        assert send(invoker, peer).is_success
        other = ClusterNode("other", peer.endpoint, handles=frozenset({"x"}), features=frozenset({STREAM}))
        result = invoker.invoke(other, Order(), timeout=5.0, call=CallContext(REQUEST_ID))
        # What is there proves to be "peer", and runs nothing that was meant for another node.
        assert kinds(peer) == ["GET", "CALL", "GET", "POST"]
        assert not result.is_success
        streams = invoker._streams
        assert streams is not None
        assert len(streams._streams) == 1
        # The node at an endpoint is another one now: its predecessor's streams are closed.
        invoker.tidy([other])
        assert streams._streams == set()

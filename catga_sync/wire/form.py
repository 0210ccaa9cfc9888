"""The form in which requests and responses travel: as JSON over HTTP, as protobuf messages over gRPC.

A form writes and reads bytes; what they say is the same in each: ``RequestEnvelope`` and ``ResponseEnvelope``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from catga_sync.wire.envelope import (
    STAMP_LENGTH,
    EnvelopeError,
    RequestEnvelope,
    RequestHead,
    ResponseEnvelope,
    read_batch,
    read_batch_response,
    stamped,
    write_batch_response,
)

__all__ = ["JSON", "Head", "JsonForm", "WireForm"]


class Head(Protocol):
    """What the envelopes of all requests of one type from one node have in common. Immutable."""

    def unstamped(self, payload: bytes, request_id: str, traceparent: str | None = None) -> bytes:
        """
        Return an envelope without its time, for ``WireForm.stamped``: it may wait before it is sent.

        Args:
            payload: The request.
            request_id: Its id.
            traceparent: That of an item of a batch; None where it is that of the headers.
        """


class WireForm(Protocol):
    """Writes and reads what travels. Immutable, thread-safe. All that reads raises ``EnvelopeError``."""

    #: The media type of every body; it is signed.
    content_type: str
    #: The most bytes that ``stamped``, and then ``write_batch``, add to an envelope.
    added: int

    # At the caller.

    def head(self, request_type_name: str, response_type_name: str, source_node_id: str | None) -> Head:
        """Return what the requests of one type have in common."""

    def stamped(self, unstamped: bytes, now: float) -> bytes:
        """Return an envelope that is sent now, in seconds since the epoch."""

    def write_batch(self, requests: Iterable[bytes]) -> bytes:
        """Return a batch of envelopes."""

    def read_response(self, body: bytes) -> ResponseEnvelope:
        """Read the response to one request, or the refusal of a batch."""

    def read_batch_response(self, body: bytes) -> Sequence[tuple[ResponseEnvelope, str | None]]:
        """Read the responses to a batch, each with what ``Catga-Executed`` would be."""

    # At the receiver.

    def read_request(self, body: bytes) -> RequestEnvelope:
        """Read one request."""

    def read_batch(self, body: bytes) -> Sequence[RequestEnvelope | EnvelopeError]:
        """Read a batch: for each item the request, or the error that made it unreadable."""

    def write_response(self, response: ResponseEnvelope) -> bytes:
        """Return the response to one request."""

    def batch_item(self, response: ResponseEnvelope, executed: str) -> bytes:
        """Return a response as a part of a batch; ``executed`` is what ``Catga-Executed`` would be."""

    def write_batch_response(self, items: Iterable[bytes]) -> bytes:
        """Return the responses that ``batch_item`` has made, as one body."""

    def write_description(self, description: str) -> bytes:
        """Return the description of a node, which is a JSON object."""


class JsonForm:
    """The envelopes of Catga.Cluster (.NET). Immutable, thread-safe."""

    content_type = "application/json"
    added = STAMP_LENGTH + 1

    # As they are: a function around each would be one more on the way of every call.
    head = staticmethod(RequestHead)
    stamped = staticmethod(stamped)
    read_response = staticmethod(ResponseEnvelope.decode)
    read_batch_response = staticmethod(read_batch_response)
    read_request = staticmethod(RequestEnvelope.decode)
    read_batch = staticmethod(read_batch)
    write_response = staticmethod(ResponseEnvelope.encode)
    batch_item = staticmethod(ResponseEnvelope.encode)
    write_batch_response = staticmethod(write_batch_response)

    def write_batch(self, requests: Iterable[bytes]) -> bytes:
        """See ``WireForm``."""
        return b'{"requests":[%b]}' % b",".join(requests)

    def write_description(self, description: str) -> bytes:
        """See ``WireForm``."""
        return description.encode("ascii")


JSON: WireForm = JsonForm()

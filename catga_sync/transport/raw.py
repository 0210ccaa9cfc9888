"""Requests whose classes this process does not have: the payload goes out, and the answer comes back, as JSON bytes."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from catga_sync.nodes import ClusterNode
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry, jsontext
from catga_sync.transport.invoker import HttpInvoker
from catga_sync.transport.outcome import Call
from catga_sync.wire.envelope import RequestEnvelope

__all__ = ["RawInvoker"]


class RawInvoker(HttpInvoker):
    """
    Carry ready payloads to nodes, over the same connections and with the same signatures. Thread-safe.

    Args:
        options: As for ``HttpInvoker``, but for the registry.

    .. versionadded:: 0.1
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(MessageRegistry(), **options)

    def invoke_raw(
        self,
        node: ClusterNode,
        type_name: str,
        payload: bytes,
        *,
        response_name: str,
        timeout: float,
        request_id: str,
    ) -> CatgaResult[bytes]:
        """
        Send a payload to a node once; never anywhere else and never again.

        Args:
            node: Where to.
            type_name: What the node calls the request type.
            payload: JSON in UTF-8; it is sent as it is.
            response_name: What the node calls the type of the answer; "" where there is none.
            timeout: Seconds in which it must return.
            request_id: The id of the call.

        Returns:
            The JSON of the answer, checked but not read, or a failure. It raises nothing.
        """
        expires = time.monotonic() + timeout
        # All that a call asks of the registry's record: how to name the type, and how to read an answer.
        entry: Any = SimpleNamespace(name=type_name, response_codec=_JSON)
        call = Call(node, entry, request_id, self._failures)
        answer = response_name or "none"
        envelope = RequestEnvelope(type_name, answer, payload, request_id, self._source_node_id)
        return self._post_one(call, envelope, expires)


class _Json:
    """Reads an answer by leaving it as it is."""

    def decode(self, raw: bytes) -> bytes:
        jsontext.loads(raw)
        return raw


_JSON = _Json()

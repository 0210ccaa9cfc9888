"""Checks every request against its schema before it is sent, as the receiving node does."""

from __future__ import annotations

from typing import Any

from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.pipeline import Behavior, Handler, limit_text
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry

__all__ = ["validation_behavior"]


def validation_behavior(registry: MessageRegistry) -> Behavior:
    """
    Return a behaviour that refuses a request that its own schema cannot write and read. Thread-safe.

    The node that runs a request checks it in any case. Around the sends of a ``ClusterMediator`` this behaviour avoids
    sending an invalid request; around handlers it also checks types that are never sent (``@message(remote=False)``).
    It costs writing and reading the request once.

    Args:
        registry: The registry with the schemas; usually ``mediator.registry``.

    .. versionadded:: 0.1
    """

    def behavior(next_: Handler) -> Handler:
        def handle(request: Any) -> CatgaResult[Any]:
            codec = registry.ensure(type(request)).codec
            try:
                codec.decode(codec.encode(request))
            except SerializationError as exc:
                return CatgaResult.failure(
                    limit_text(str(exc)), ErrorCode.INVALID_ARGUMENT, delivery=Delivery.NOT_EXECUTED
                )
            return next_(request)

        return handle

    return behavior

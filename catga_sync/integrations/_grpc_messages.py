"""Ends gRPC calls whose message does not come: grpcio waits for it without end, in a thread of the server's pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from catga_sync.integrations._grpc_extra import grpc
from catga_sync.receiver.request import BODY_TIME

__all__ = ["MessagesInTime"]


class MessagesInTime(grpc.ServerInterceptor):
    """
    Has each method that takes one message wait for it for ``BODY_TIME`` only. Thread-safe.

    Such a method is served as one that takes a stream of messages, of which the first is read: the two look alike on
    the wire, and the wait for a stream ends when its call is cancelled.
    """

    def __init__(self) -> None:
        #: The context of a call that waits for its message -> the monotonic time until which it may.
        self._until: dict[Any, float] = {}

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """See ``grpc.ServerInterceptor``."""
        handler = continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        forms = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if not handler.response_streaming:
            return grpc.stream_unary_rpc_method_handler(self._with_message(handler.unary_unary), **forms)
        behavior = self._with_message(handler.unary_stream)
        # The thread is free again once the callback is registered, as with the method itself.
        behavior.experimental_non_blocking = getattr(handler.unary_stream, "experimental_non_blocking", False)
        return grpc.stream_stream_rpc_method_handler(behavior, **forms)

    def end_overdue(self) -> None:
        """Cancel the calls whose message has not come in time. To be called again and again."""
        now = time.monotonic()
        for context, until in list(self._until.items()):
            if until <= now:
                context.cancel()

    def _with_message(self, behavior: Callable[..., Any]) -> Any:
        def with_message(messages: Iterator[Any], context: Any, *callback: Any, **named: Any) -> Any:
            self._until[context] = time.monotonic() + BODY_TIME
            try:
                message = next(messages, _NONE)
            finally:
                del self._until[context]
            if message is _NONE:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this method takes one message; none came")
            return behavior(message, context, *callback, **named)

        return with_message


_NONE = object()

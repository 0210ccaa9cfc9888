"""The steps of one request type in this process. That of a local call accepts and returns what a remote call would.

Rules of this file:
1. A value that would come back from JSON equal is passed on as it is; any other goes through its codec.
2. ``direct_step`` returns the response of a success itself: whoever runs it makes the result once, with all that it
   knows of the call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from catga_sync.context import CallContext, current_call
from catga_sync.errors import Delivery, ErrorCode, SerializationError, ends_process
from catga_sync.hooks import Hooks
from catga_sync.pipeline import (
    Behavior,
    Handler,
    Step,
    build_chain,
    failure_of,
    for_others,
    handler_step,
    limit_text,
    unreadable_answer,
    unwritable_answer,
    watched_step,
)
from catga_sync.results import CatgaResult

if TYPE_CHECKING:
    from catga_sync.serialization import Codec, MessageType

__all__ = ["handle_step", "local_step", "sent_step"]

_log = logging.getLogger(__name__)


def handle_step(entry: MessageType, function: Callable[[Any], Any], behaviors: Sequence[Behavior]) -> Handler:
    """Return the step that runs the user's handler of a type inside these behaviours, whoever has sent the request."""
    step = handler_step(function, entry.name, entry.response_check, entry.response_may_be_none)
    return build_chain(step, behaviors, entry.name, lambda request: entry.response_may_be_none)


def local_step(chain: Handler, request_codec: Codec | None, response_codec: Codec | None, name: str) -> Handler:
    """
    Return a step of a local call: it accepts and returns what a remote call would.

    Args:
        chain: Runs the request.
        request_codec: Of the request; None accepts it as it is.
        response_codec: Of its response; None returns it as it is.
        name: Wire name of the request type, for texts.
    """

    def run(request: Any) -> CatgaResult[Any]:
        try:
            certain = request_codec is None or request_codec.round_trips(request)
        except BaseException as exc:  # such as a missing attribute: the codec makes the error text
            if ends_process(exc):
                raise
            certain = False
        if not certain and request_codec is not None:
            try:
                request = request_codec.decode(request_codec.encode(request))
            except SerializationError as exc:
                return _unfit_request(exc)
        result = chain(request)
        value = result.value
        if response_codec is None or (value is None and (response_codec.nullable or not result.is_success)):
            return result
        try:
            certain = response_codec.round_trips(value)
        except BaseException as exc:  # as above
            if ends_process(exc):
                raise
            certain = False
        return result if certain else _carried(result, response_codec, name)

    return run


def sent_step(
    entry: MessageType,
    function: Callable[[Any], Any],
    handle: Handler,
    hooks: Hooks,
    local: Callable[[Handler, Codec | None, Codec | None, str], Handler],
    *,
    bare: bool,
) -> Step:
    """
    Return the step of a request that is sent here; no behaviour of a send is called.

    Args:
        entry: The type of the request.
        function: The user's handler.
        handle: The same inside the behaviours of handlers.
        hooks: Watch it. Of a request that is unfit to travel they are told nothing, since no handler has run. A
            response is to them what its caller gets.
        local: ``local_step``, or what stands in its place.
        bare: Whether there are no behaviours of handlers.

    Returns:
        The step; of a success it may return the response itself: see the second rule.
    """
    name, response_codec = entry.name, entry.response_codec
    if not entry.remote:
        return watched_step(hooks, name, handle)
    codec = None if hooks.handle else entry.codec
    if bare and response_codec is not None and entry.response_check and local is local_step:
        step: Step = direct_step(function, entry, codec, response_codec)
    else:
        step = local(handle, codec, response_codec, name)
    return step if codec is not None else local(watched_step(hooks, name, step), entry.codec, None, name)


def direct_step(
    function: Callable[[Any], Any], entry: MessageType, request_codec: Codec | None, response_codec: Codec
) -> Step:
    """
    Return ``local_step`` of ``handler_step``, for a handler that nothing stands around: in one function.

    Args:
        function: The user's handler.
        entry: The type of the request.
        request_codec: Of the request; None accepts it as it is.
        response_codec: Of its response.
    """
    name, check, answers_none = entry.name, entry.response_check, response_codec.nullable
    usual = check[0] if check else None
    # For what is unusual: the steps themselves, for the request or, once the handler has run, for its response alone.
    whole = local_step(handler_step(function, name, check, answers_none), request_codec, response_codec, name)
    rest = local_step(handler_step(_itself, name, check, answers_none), None, response_codec, name)

    def run(request: Any) -> Any:
        try:
            certain = request_codec is None or request_codec.round_trips(request)
        except BaseException as exc:
            if ends_process(exc):
                raise
            certain = False
        if not certain:
            return whole(request)
        try:
            response = function(request)
        except BaseException as exc:
            if ends_process(exc):
                raise
            return for_others(failure_of(exc, name), name)
        if response is None and answers_none:
            return None
        if type(response) is usual:
            try:
                if response_codec.round_trips(response):
                    return response
            except BaseException as exc:
                if ends_process(exc):
                    raise
        return rest(response)

    return run


def _itself(response: Any) -> Any:
    return response


def _call_of(result: CatgaResult[Any]) -> CallContext:
    """Return the call of a result of this process, whose id may have been read already."""
    return current_call() or CallContext(result.request_id)


def _unfit_request(exc: SerializationError) -> CatgaResult[Any]:
    _log.debug("a request does not fit its class", exc_info=exc)
    return CatgaResult.failure(limit_text(str(exc)), ErrorCode.INVALID_ARGUMENT, delivery=Delivery.NOT_EXECUTED)


def _carried(result: CatgaResult[Any], codec: Codec, name: str) -> CatgaResult[Any]:
    try:
        raw = codec.encode(result.value)
    except SerializationError as exc:
        return unwritable_answer(name, exc, _call_of(result))
    try:
        return result._with(value=codec.decode(raw))
    except SerializationError as exc:
        return unreadable_answer(name, exc, _call_of(result))

"""One call shape for handlers and behaviours, and the chain that is built from them once per type.

    Handler  = (request) -> CatgaResult
    Behavior = (next handler) -> handler        the first one added is the outermost

Rules of this file:
1. A chain is built when it is first needed and after a behaviour was added, never per send.
2. Whatever user code does, a chain returns a ``CatgaResult``: values are wrapped, exceptions become failures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import date, datetime
from time import perf_counter, time
from types import MappingProxyType
from typing import Any, TypeVar

from catga_sync._evidence import Evidence
from catga_sync.context import CallContext, current_call, enter_call, leave_call, new_request_id, within_call
from catga_sync.errors import CallError, Delivery, ErrorCode, SerializationError, ends_process, parse_code
from catga_sync.hooks import CUT_SHORT, HandleDetails, Hooks, carried, made, queue_ms
from catga_sync.results import INSIDE, CatgaResult, succeeded

__all__ = [
    "MAX_ERROR_TEXT",
    "Behavior",
    "Handler",
    "Step",
    "WriteResponse",
    "build_chain",
    "error_text",
    "failure_of",
    "for_others",
    "handler_step",
    "limit_text",
    "raised_in_call",
    "run_subscribers",
    "run_watched",
    "unreadable_answer",
    "unwritable_answer",
    "watched_step",
]

T = TypeVar("T")

Handler = Callable[[Any], CatgaResult[Any]]
#: The same, or the response itself where that is no ``CatgaResult``: whoever runs it makes the result.
Step = Callable[[Any], Any]
#: Writes the response of a handler for another node, and returns the result that the node gets.
WriteResponse = Callable[[CatgaResult[Any]], CatgaResult[Any]]
Behavior = Callable[[Handler], Callable[[Any], Any]]

#: Characters of an error text that a caller gets to see; the same here as over the wire.
MAX_ERROR_TEXT = 512

#: What stands for an empty error text.
NO_REASON = "no reason was given"

_log = logging.getLogger(__name__)


def limit_text(text: str) -> str:
    """Return ``text``, cut to ``MAX_ERROR_TEXT`` characters."""
    text = str.__str__(text)  # a subclass of str may do anything where a str is used
    return text if len(text) <= MAX_ERROR_TEXT else text[: MAX_ERROR_TEXT - 1] + "…"


def error_text(text: str) -> str:
    """Return an error text as callers get it, locally and remotely: limited, never empty, and fit for UTF-8."""
    text = limit_text(text)
    # Half of a surrogate pair could go by POST, and not over gRPC.
    return (text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")) or NO_REASON


def build_chain(
    innermost: Handler,
    behaviors: Sequence[Behavior],
    name: str,
    answers_none: Callable[[Any], bool],
    *,
    sends: bool = False,
) -> Handler:
    """
    Return the handler that runs ``behaviors``, the first one outermost, around ``innermost``.

    Args:
        innermost: Runs the request.
        behaviors: What goes around it.
        name: What to call it all in texts.
        answers_none: Tells whether None is a response to a request.
        sends: Whether ``innermost`` sends the request to a node; else it is the handler.
    """
    if not behaviors:
        return innermost
    evidence = Evidence(sends=sends)
    chain = evidence.innermost(innermost)
    for behavior in reversed(behaviors):
        chain = _guarded(behavior, chain, name, answers_none, evidence)
    return evidence.outermost(chain)


def handler_step(
    function: Callable[[Any], Any], name: str, check: tuple[type, ...] | None, answers_none: bool
) -> Handler:
    """
    Return the innermost step: run the user's handler and turn what it did into a result.

    Args:
        function: The user's handler.
        name: Wire name of the request type, for texts.
        check: What a response that is not None must be an instance of; None means anything.
        answers_none: Whether None is a response.
    """
    not_meant = _not_meant(check)
    allowed = (*check, type(None)) if check is not None and answers_none else check
    # The class that nearly every response has: it fits, and is asked for nothing.
    usual = check[0] if check else None

    def run(request: Any) -> CatgaResult[Any]:
        started = perf_counter()
        try:
            response = function(request)
            if type(response) is usual:
                return succeeded(response, (perf_counter() - started) * 1000.0)
            # Looking at the response runs code of its class, such as a property __class__.
            if isinstance(response, CatgaResult):
                fits = not response.is_success or _fits(response.value, allowed, not_meant)
                result = _own(response) if fits else _wrong_response(response.value, name, check)
            elif allowed is None or (isinstance(response, allowed) and not isinstance(response, not_meant)):
                return succeeded(response, (perf_counter() - started) * 1000.0)
            else:
                result = _wrong_response(response, name, check)
        except BaseException as exc:
            if ends_process(exc):
                raise
            result = failure_of(exc, name)
        return for_others(result, name)._with(processing_time_ms=(perf_counter() - started) * 1000.0)

    return run


def watched_step(hooks: Hooks, name: str, handle: Step) -> Step:
    """Return the step of what is sent here, watched by hooks; without any at this moment, the step itself."""
    if not hooks.handle:
        return handle

    def run(request: Any) -> CatgaResult[Any]:
        call = current_call()
        if call is None:  # a hook was added between a look at the hooks and the look-up of the handler
            return within_call(lambda _: run(request))
        return run_watched(hooks, name, handle, request, call, received=False)

    return run


def run_watched(
    hooks: Hooks, name: str, handle: Step, request: Any, call: CallContext, *, received: bool
) -> CatgaResult[Any]:
    """
    Run a handler that hooks watch.

    Its result has the id of the call, the node, and the time that the run took, as hooks are told it. What the end of
    the process cuts short has the result CANCELLED for hooks.

    Args:
        hooks: The hooks.
        name: Wire name of the message type.
        handle: Runs the handler or subscribers, and whatever hooks are told the result of.
        request: The message.
        call: The current call.
        received: Whether another node has sent the message.
    """
    sent = call.sent
    waited = None if sent is None else queue_ms(sent, time())
    carrier: dict[str, str] = {}
    details = made(HandleDetails, (name, call, received, waited, carrier))
    told = hooks.begin(tuple(hooks.handle), details)
    token = enter_call(carried(details)) if carrier else None
    found: Any = CUT_SHORT
    began = perf_counter()
    try:
        found = handle(request)
    finally:
        took = (perf_counter() - began) * 1e3
        if type(found) is CatgaResult:
            result = found._of_call(call, call.node_id, took)
        else:
            result = succeeded(found, took, call, call.node_id)
        if token is not None:
            leave_call(token)
        hooks.end(told, result)
    return result


def run_subscribers(steps: Sequence[Handler], event: Any, call: CallContext | None = None) -> CatgaResult[None]:
    """Run subscribers; return one result for all. Where there is a call, it has its id and node, and the time taken."""
    began = perf_counter()
    results = [step(event) for step in steps]
    failed = next((result for result in results if not result.is_success), None)
    result: CatgaResult[None] = CatgaResult(True) if failed is None else failed
    return result if call is None else result._of_call(call, call.node_id, (perf_counter() - began) * 1e3)


def unwritable_answer(name: str, exc: SerializationError, call: CallContext) -> CatgaResult[Any]:
    """Return the failure of a call whose response does not fit the response type of the request."""
    return _broken_response(f"the response of the handler of {name} cannot be written: {exc}", call)


def unreadable_answer(name: str, exc: SerializationError, call: CallContext) -> CatgaResult[Any]:
    """Return the failure of a call whose response was written and cannot be read."""
    return _broken_response(f"the response of the handler of {name} cannot be read: {exc}", call)


def _broken_response(text: str, call: CallContext) -> CatgaResult[Any]:
    text = limit_text(text)
    _log.error("%s: %s layer=serialization", text, call.ids)
    return CatgaResult.failure(text, ErrorCode.INTERNAL)._with(request_id=call.request_id)


def _this_call() -> CallContext:
    """Return the current call; one with an id of its own for a local send that is no part of another, and has none."""
    return current_call() or CallContext(new_request_id())


def _guarded(
    behavior: Behavior, next_: Handler, name: str, answers_none: Callable[[Any], bool], evidence: Evidence
) -> Handler:
    """Return the step of a behaviour. The delivery in its results is not used: see ``_evidence.py``."""

    def named(request: Any) -> CatgaResult[Any]:
        result = next_(request)
        call = current_call()
        # Behaviours log the same request id as the caller and the other nodes.
        return result if call is None or result._request_id is not None else result._with(request_id=call.request_id)

    step = behavior(named)

    def shown_to_caller(result: CatgaResult[Any]) -> CatgaResult[Any]:
        # Around a send, the caller is in this process.
        if evidence.sends:
            return result
        text = None if result.is_success else error_text(result.error or "")
        return for_others(result if text == result.error else result._with(error=text), name)

    def run(request: Any) -> CatgaResult[Any]:
        try:
            response = step(request)
            if isinstance(response, CatgaResult):
                delivery = Delivery.EXECUTED if response.is_success else evidence.delivery(request)
                # One of a subclass does not get through a behaviour, as it does not through a handler.
                kept = response.delivery is delivery and type(response) is CatgaResult
                return shown_to_caller(response if kept else response._with(delivery=delivery))
            if response is not None or answers_none(request):
                return CatgaResult(True, response)
        except BaseException as exc:
            if ends_process(exc):
                raise
            return shown_to_caller(failure_of(exc, name, evidence.delivery(request)))
        text = f"a behaviour around {name} returned None; have it return next_(request), or a result"
        return _broken_response(text, _this_call())._with(delivery=evidence.delivery(request))

    return run


def _fits(value: Any, allowed: tuple[type, ...] | None, not_meant: tuple[type, ...]) -> bool:
    return allowed is None or (isinstance(value, allowed) and not isinstance(value, not_meant))


def _not_meant(check: tuple[type, ...] | None) -> tuple[type, ...]:
    """Return the types that pass ``isinstance`` but not the wire: bool is an int there, and datetime a date."""
    pairs = ((int, bool), (date, datetime))
    return tuple(narrow for wide, narrow in pairs if check is not None and wide in check and narrow not in check)


def _own(response: CatgaResult[Any]) -> CatgaResult[Any]:
    """Return a handler's result as its own: it ran, whatever the results of the calls that it made."""
    own = response._with(delivery=Delivery.EXECUTED, attempts=(), node_id=None, request_id=None)
    # A success has no error, and a failure no value: the wire carries neither.
    if own.is_success:
        return own._with(error=None, code=None)
    return own._with(error=error_text(own.error or ""), value=None)


#: The list to which an exception of the current handler is added; see ``receiver/surroundings.py``.
raised_in_call: ContextVar[list[BaseException] | None] = ContextVar("catga_sync_raised", default=None)


def failure_of(exc: BaseException, name: str, delivery: Delivery = Delivery.EXECUTED) -> CatgaResult[Any]:
    """Return the failure for what the handler of a type has raised; it is logged here."""
    raised = raised_in_call.get()
    if raised is not None:
        raised[:] = [exc]
    call = _this_call()
    metadata = None
    if isinstance(exc, CallError):
        inner = _read(exc, lambda error: error.result, None)
        if isinstance(inner, CatgaResult) and INSIDE in inner.metadata:
            metadata = {INSIDE: True}
        text = error_text(_read(exc, str, type(exc).__name__))
        code = _read(exc, _code_of, None)
        _log.info("%s returned an error: %s code=%s layer=business", name, call.ids, code)
    else:
        # The text of any other exception may hold paths, SQL or secrets: it stays in this log.
        _log.error("the handler of %s raised: %s layer=business", name, call.ids, exc_info=exc)
        text, code = f"the handler of {name} raised an error; the log of the node that ran it has the details", None
    code = ErrorCode.UNKNOWN if code is None else code
    failed: CatgaResult[Any] = CatgaResult.failure(text, code, delivery=delivery, metadata=metadata)
    return failed._with(request_id=call.request_id)


def for_others(result: CatgaResult[Any], name: str) -> CatgaResult[Any]:
    """Return the result for a caller on another node: it names no store and no address of the nodes around this one."""
    if INSIDE not in result.metadata:
        return result
    _log.warning("a call that the handler of %s made has failed: %s: %s", name, _this_call().ids, result.error)
    text = f"a call that the handler of {name} made has failed; the log of the node that ran it has the details"
    kept = {key: value for key, value in result.metadata.items() if key != INSIDE}
    return result._with(error=text, metadata=MappingProxyType(kept))


def _code_of(error: CallError) -> ErrorCode | str | None:
    return parse_code(error.code)


def _read(error: CallError, read: Callable[[CallError], T], otherwise: T) -> T:
    """Return what ``read`` finds in an error of the application, whose class may raise from any attribute."""
    try:
        return read(error)
    except BaseException as exc:
        if ends_process(exc):
            raise
        _log.warning("the text or the code of %s cannot be read", type(error).__qualname__, exc_info=exc)
        return otherwise


def _wrong_response(value: Any, name: str, check: tuple[type, ...] | None) -> CatgaResult[Any]:
    expected = " or ".join(kind.__name__ for kind in check or ()) or "a value"
    if value is None:
        text = f"the handler of {name} returned None, not {expected}; add a return, or make the response type Optional"
    else:
        text = f"the handler of {name} returned {type(value).__name__}, not {expected}"
    return _broken_response(text, _this_call())

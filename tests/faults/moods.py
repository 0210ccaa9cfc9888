"""Behaviours that misbehave, each call as its text says: ``"<id>.<mood>"``, such as ``"7f3a-12.twice"``.

Serving node: ``twice``, ``never``, ``other``, ``liar``, ``raises``, ``exits``.   Caller: ``retry``, ``swallow``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from catga_sync.behaviors import retry_behavior
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.pipeline import Behavior, Handler
from catga_sync.results import CatgaResult
from tests.faults.messages import Come

__all__ = ["CALLING", "SERVING", "calling", "mood_of", "serving"]

SERVING = ("twice", "never", "other", "liar", "raises", "exits")
CALLING = ("retry", "swallow")


class Abandoned(BaseException):
    """No ``Exception``, so that ``except Exception`` does not see it."""


def mood_of(text: str) -> str:
    """Return the mood of a call, "" for a good one."""
    return text.partition(".")[2]


def serving(send: Callable[[Any], CatgaResult[Any]]) -> Behavior:
    """
    Return the behaviour of a serving node.

    Args:
        send: Sends another request, of a type that has no handler, whose failure is returned.
    """

    def behavior(next_: Handler) -> Callable[[Any], Any]:
        def handle(request: Any) -> Any:
            mood = mood_of(getattr(request, "text", ""))
            if mood == "never":
                return CatgaResult.failure("not today", code=ErrorCode.FAILED_PRECONDITION)
            if mood == "liar":
                return CatgaResult.failure("a lie", code=ErrorCode.INTERNAL, delivery=Delivery.EXECUTED)
            result = next_(request)
            if mood == "twice":
                return next_(request)
            if mood == "other":
                return send(Come("another request", 0))
            if mood == "raises":
                raise ValueError("after the handler")
            if mood == "exits":
                raise Abandoned
            return result

        return handle

    return behavior


def calling() -> Behavior:
    """Return the behaviour of a caller."""
    retry = retry_behavior(delay=0.01)

    def behavior(next_: Handler) -> Callable[[Any], Any]:
        again = retry(next_)

        def handle(request: Any) -> Any:
            mood = mood_of(request.text)
            if mood == "retry":
                return again(request)
            result = next_(request)
            return None if mood == "swallow" else result

        return handle

    return behavior

"""Behaviours that a careful author would not write, chosen by the text of the request, so that the check knows which.

well      as usual (half of all)
refuses   a failure, without a call of ``next_``
raises    ``next_``, then an exception
exits     ``next_``, then ``SystemExit``
forwards  ``next_``, then the failed result of another call
twice     ``next_`` two times: the handler runs as often, as docs/reliability.md says
"""

from __future__ import annotations

import zlib
from typing import Any

from catga_sync import CatgaResult, ClusterMediator
from catga_sync.pipeline import Behavior, Handler
from tests.faults.messages import Ask, Come, Do

__all__ = ["conduct", "misbehaving"]

_CONDUCTS = ("refuses", "raises", "exits", "forwards", "twice", "well", "well", "well", "well", "well")


def conduct(text: str) -> str:
    """Return how a request with this text is treated."""
    return _CONDUCTS[zlib.crc32(text.encode()) % len(_CONDUCTS)]


def misbehaving(mediator: ClusterMediator) -> Behavior:
    """
    Return the behaviour.

    Args:
        mediator: Makes the other call that fails.
    """

    def behavior(next_: Handler) -> Handler:
        def handle(request: Any) -> CatgaResult[Any]:
            how = conduct(request.text) if isinstance(request, (Ask, Do)) else "well"
            if how == "refuses":
                return CatgaResult.failure("not today", code="REFUSED")
            result = next_(request)
            if how == "raises":
                raise RuntimeError("after the handler")
            if how == "exits":
                raise SystemExit(3)
            if how == "forwards":
                return mediator.send(Come("no node handles it", 0))
            return next_(request) if how == "twice" else result

        return handle

    return behavior

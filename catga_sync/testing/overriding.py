"""Another handler for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.mediator import Mediator
from catga_sync.messages import Request

__all__ = ["in_force", "local_of", "override_handler"]

_lock = threading.Lock()
#: Guarded by _lock: by mediator and key what was there before the first block, then the entries of the open blocks.
_open: WeakKeyDictionary[Mediator, dict[Any, list[Any]]] = WeakKeyDictionary()


@contextmanager
def override_handler(
    mediator: Mediator | ClusterMediator, request_type: type[Request[Any]], handler: Any
) -> Iterator[None]:
    """
    Have another handler for a request type until the block is left. Thread-safe; calls that run go on.

    Blocks may overlap in any order: the one that was entered last, of those that are open, is in force.

    Args:
        mediator: Where the handler is registered. Of a cluster's mediator it is the handler of its own node.
        request_type: The class of the request. It may be without a handler, and is again afterwards.
        handler: As in ``Mediator.register``.

    Raises:
        RegistrationError: As ``Mediator.register``; the handler then stays as it was.

    .. versionadded:: 0.1
    """
    local = local_of(mediator)
    checked = Mediator(local.registry)
    checked.register(request_type, handler)
    with in_force(local, request_type, checked._steps[request_type], lambda step: _put(local, request_type, step)):
        yield


@contextmanager
def in_force(local: Mediator, key: Any, entry: Any, put: Callable[[Any], Any]) -> Iterator[None]:
    """
    Have an entry in force until the block is left, unless a block that was entered later is open. Thread-safe.

    Args:
        local: Where it is in force.
        key: What it is in force for; blocks of the same mediator and key may overlap.
        entry: An object of this block alone.
        put: Puts an entry in place of the one that is there, and returns that one.
    """
    with _lock:
        before = put(entry)
        entries = _open.setdefault(local, {}).setdefault(key, [before])
        entries.append(entry)
    try:
        yield
    finally:
        with _lock:
            del entries[next(index for index, each in enumerate(entries) if each is entry)]
            put(entries[-1])
            if len(entries) == 1:
                del _open[local][key]


def local_of(mediator: Mediator | ClusterMediator) -> Mediator:
    """Return the mediator that has the handlers of this process."""
    return mediator.local if isinstance(mediator, ClusterMediator) else mediator


def _put(local: Mediator, request_type: type, step: Any) -> Any:
    """Put the step of a type in place of the one that is there, and return that one; None means that there is none."""
    with local._lock:
        steps = dict(local._steps)
        before = steps.pop(request_type, None)
        if step is not None:
            steps[request_type] = step
        local._steps = steps
        local._rebuild_locked(local._behaviors)
    return before

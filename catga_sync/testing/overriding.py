"""Another handler for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.mediator import Mediator
from catga_sync.messages import Request

__all__ = ["local_of", "override_handler"]


@contextmanager
def override_handler(
    mediator: Mediator | ClusterMediator, request_type: type[Request[Any]], handler: Any
) -> Iterator[None]:
    """
    Have another handler for a request type until the block is left. Thread-safe; calls that run go on.

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
    before = _put(local, request_type, checked._steps[request_type])
    try:
        yield
    finally:
        _put(local, request_type, before)


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

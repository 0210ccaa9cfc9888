"""Events of the cluster: nodes that join, leave, fail and recover."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from catga_sync import _fork
from catga_sync._text_enum import TextEnum
from catga_sync.errors import ends_process
from catga_sync.nodes import ClusterNode

__all__ = ["ClusterEvent", "EventBoard", "EventKind"]

#: How many past events are kept.
KEPT = 256

_log = logging.getLogger(__name__)


@enum.unique
class EventKind(TextEnum):
    """Kinds of events."""

    NODE_JOINED = "NODE_JOINED"
    NODE_LEFT = "NODE_LEFT"
    NODE_FAULTED = "NODE_FAULTED"
    NODE_RECOVERED = "NODE_RECOVERED"
    #: It has missed its heartbeats, so it is used only where there is no better one.
    NODE_SUSPECTED = "NODE_SUSPECTED"


@dataclass(frozen=True)
class ClusterEvent:
    """
    One thing that happened to one node, as this process saw it. Immutable.

    .. versionadded:: 0.1
    """

    kind: EventKind
    node: ClusterNode
    #: Seconds since the epoch.
    at: float = field(default_factory=time.time, compare=False)

    NODE_JOINED: ClassVar[EventKind] = EventKind.NODE_JOINED
    NODE_LEFT: ClassVar[EventKind] = EventKind.NODE_LEFT
    NODE_FAULTED: ClassVar[EventKind] = EventKind.NODE_FAULTED
    NODE_RECOVERED: ClassVar[EventKind] = EventKind.NODE_RECOVERED
    NODE_SUSPECTED: ClassVar[EventKind] = EventKind.NODE_SUSPECTED


class EventBoard:
    """Keeps the last events and passes them to listeners. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._past: deque[ClusterEvent] = deque(maxlen=KEPT)
        self._listeners: tuple[Callable[[ClusterEvent], object], ...] = ()
        _fork.watch(self)

    def listen(self, listener: Callable[[ClusterEvent], object]) -> None:
        """Call ``listener`` with every event from now on, in the thread that noticed it; it must be quick."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def past(self) -> tuple[ClusterEvent, ...]:
        """Return the last events, the newest last."""
        with self._lock:
            return tuple(self._past)

    def tell_ejected(self, node: ClusterNode, ejected: bool) -> None:
        """Report that a node is ejected, or has recovered."""
        self.tell(ClusterEvent(EventKind.NODE_FAULTED if ejected else EventKind.NODE_RECOVERED, node))

    def tell(self, event: ClusterEvent) -> None:
        """Keep an event and call the listeners, outside the lock; one that raises is logged."""
        _log.info("%s: node=%s endpoint=%s", event.kind.name, event.node.node_id, event.node.endpoint)
        with self._lock:
            self._past.append(event)
            listeners = self._listeners
        for listener in listeners:
            try:
                listener(event)
            except BaseException as exc:
                if ends_process(exc):
                    raise
                _log.exception("a listener failed on %s", event.kind.name)

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self._lock = threading.Lock()

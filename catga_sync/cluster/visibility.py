"""The reason why this node is not visible to others: readable at any time, and logged once for each cause.

A cause is logged when it is noted again after some time: a server that is about to listen, or to end, is not logged.
"""

from __future__ import annotations

import logging

from catga_sync import _fork
from catga_sync._clock import Clock

__all__ = ["GRACE", "Visibility"]

#: Seconds between the first time that a cause is noted and the warning.
GRACE = 2.0
#: Causes that are remembered, and so logged, between two times that the node is visible.
_MOST = 20

_log = logging.getLogger(__name__)


class Visibility:
    """
    Keeps the reason why a node is not visible. One thread notes, any thread may read.

    Args:
        node_id: Of this node.
        clock: Measures how old a cause is.
    """

    def __init__(self, node_id: str, clock: Clock) -> None:
        self._node_id = node_id
        self._clock = clock
        #: Cause -> when it was noted first, since the node was visible last; and those that were logged.
        self._since: dict[str, float] = {}
        self._told: set[str] = set()
        self._was_visible = False
        #: The reason in a sentence; None when the node is visible, or when no reason is known.
        self.trouble: str | None = None
        _fork.watch(self)

    def note(self, cause: object, *, at_once: bool = False) -> None:
        """
        Note why the node is not visible, and warn of it once.

        Args:
            cause: Its text is the reason.
            at_once: Whether to warn of it the first time.
        """
        self.trouble = text = str(cause)
        now = self._clock.monotonic()
        if text not in self._since and len(self._since) < _MOST:
            self._since[text] = now
        due = at_once or now - self._since.get(text, now) >= GRACE
        if due and text in self._since and text not in self._told:
            self._told.add(text)
            state = "may no longer be" if self._was_visible else "is not"
            _log.warning("node %s %s visible to other nodes: %s", self._node_id, state, text)

    def note_waiting(self, cause: str) -> None:
        """Note what the node waits for, without a warning."""
        self.trouble = cause

    def done(self) -> None:
        """Note that the node is visible."""
        if self._told:
            _log.info("node %s is visible to other nodes now", self._node_id)
        self.reset()
        self._was_visible = True

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        self.reset()

    def reset(self) -> None:
        """Clear everything, as for a process that is no longer to serve."""
        self.trouble = None
        self._since.clear()
        self._told.clear()
        self._was_visible = False

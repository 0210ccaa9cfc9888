"""Which store a node has: read from the store itself, and kept for everybody who must not wait for it.

Two URLs, or two objects, that look alike may lead to two stores: a file of the same name on two machines, one host
name for two servers. A plain request that was sent again from one node to the other would run twice.
"""

from __future__ import annotations

import hashlib
import logging

from catga_sync import _fork
from catga_sync._redaction import shown
from catga_sync.errors import ends_process
from catga_sync.idempotency.base import IdempotencyStore

__all__ = ["StoreIdentity"]

_log = logging.getLogger(__name__)


class StoreIdentity:
    """
    The identity of an idempotency store. ``refresh`` is called by one thread; the rest is thread-safe.

    Args:
        store: The store; one without a method ``identity`` is shared with no other node.
    """

    def __init__(self, store: IdempotencyStore) -> None:
        self._store = store
        #: What ``read`` has returned to the last ``refresh``; None before, and while it fails.
        self.known: str | None = None
        # The cause of the failure that was logged; None while there is none.
        self._logged: str | None = None
        _fork.watch(self)

    def read(self) -> str | None:
        """
        Ask the store which one it is. May take about a second.

        Returns:
            32 hex digits, the same for every node that has this very store; None where no other node has it.

        Raises:
            Exception: The store is down, or returns no text.
        """
        identity = getattr(self._store, "identity", None)
        told = None if identity is None else identity()
        if told is None:
            return None
        if not isinstance(told, str) or not told:
            raise TypeError(f"identity() of the idempotency store returned {shown(told)}; return a text, or None")
        # Of one length and spelling, whatever the store says: it travels in a header.
        return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:32]

    def refresh(self) -> None:
        """Read the identity and keep it. Why it fails is logged once for each cause, and raised never."""
        try:
            self.known = self.read()
        except BaseException as exc:  # a store of the application's own
            if ends_process(exc):
                raise
            self.known = None
            cause = shown(exc)
            if cause != self._logged:
                self._logged = cause
                _log.warning(
                    "the idempotency store does not tell which one it is: %s; until it does, a plain request that may "
                    "have run here is not sent again to another node",
                    cause,
                )
            return
        if self._logged is not None:
            self._logged = None
            _log.info("the idempotency store tells again which one it is")

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: what the parent knows, this process still has to read."""
        self.known = self._logged = None

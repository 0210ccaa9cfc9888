"""The identity of a node's store, read from the store itself and kept for threads that must not wait for the store.

Two equal URLs may lead to two stores: a file of the same name on two machines, one host name for two servers. A plain
request that is sent again to a node with another store would run twice.
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
    Read and keep the identity of a store. ``refresh`` is called by one thread; the rest is thread-safe.

    Args:
        store: The store. Without a method ``identity`` it is shared with no other node.
    """

    def __init__(self, store: IdempotencyStore) -> None:
        self._store = store
        #: The identity as of the last ``refresh``; None before, and while it fails.
        self.known: str | None = None
        # The cause of the failure that was logged; None while there is none.
        self._logged: str | None = None
        _fork.watch(self)

    def read(self) -> str | None:
        """
        Read the identity from the store. May take about a second.

        Returns:
            32 hex digits, the same for every node that shares this store; None when no other node does.

        Raises:
            Exception: The store is down, or returns something else than a text.
        """
        identity = getattr(self._store, "identity", None)
        found = None if identity is None else identity()
        if found is None:
            return None
        if not isinstance(found, str) or not found:
            raise TypeError(f"identity() of the idempotency store returned {shown(found)}; return a text, or None")
        # Hashed to one length and alphabet: it is sent in a header.
        return hashlib.sha256(found.encode("utf-8", "replace")).hexdigest()[:32]

    def refresh(self) -> None:
        """Read the identity and keep it. A failure is logged once for each cause, and never raised."""
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
                    "the identity of the idempotency store cannot be read: %s; until it can, a plain request that may "
                    "have run here is not sent again to another node",
                    cause,
                )
            return
        if self._logged is not None:
            self._logged = None
            _log.info("the identity of the idempotency store can be read again")

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. Drops the identity that the parent has read."""
        self.known = self._logged = None

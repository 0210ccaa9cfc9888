"""What an idempotency store does: let one of several identical requests run, and keep its response for the others.

    unclaimed --claim--> RUNNING --complete--> DONE
                            |                   ^
             lease is over  '-> LOST --complete-'

    release:      RUNNING, LOST --> unclaimed
    ttl is over:     DONE, LOST --> unclaimed

A claim belongs to the caller that has its token, for as long as the store knows it. The end of its lease takes nothing
from that caller: it only tells others that the caller may be dead.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple, Protocol

from catga_sync._clock import Clock

__all__ = [
    "MAX_BODY_BYTES",
    "Claim",
    "ClaimState",
    "IdempotencyStore",
    "SharedIdempotencyStore",
    "poll",
]

#: Bytes of the longest response that is kept; of a longer one only the fact is.
MAX_BODY_BYTES = 256 * 1024

#: Seconds between two looks at a claim that is waited for: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


@enum.unique
class ClaimState(enum.Enum):
    """The state of a key in a store."""

    #: The key was unclaimed. If there is a token with it, it now belongs to the caller.
    NEW = "NEW"
    #: Another caller has claimed it, and its lease lasts.
    RUNNING = "RUNNING"
    #: It was completed; the response is stored.
    DONE = "DONE"
    #: Another caller has claimed it, and its lease is over: the request may have run once. It is not claimed again.
    LOST = "LOST"
    #: It was claimed with another fingerprint: the same key for another request.
    MISMATCH = "MISMATCH"


class Claim(NamedTuple):
    """The outcome of a claim. Immutable."""

    state: ClaimState
    #: With ``NEW`` only, and "" where nothing was claimed.
    token: str = ""
    #: The response, with ``DONE`` only; None there means that it was too long to be kept.
    body: bytes | None = None


class IdempotencyStore(Protocol):
    """
    A memory of which requests have run or run, and of their responses.

    Every method may be called by any thread and after a fork. All but ``wait`` return or raise within about a second.
    A store that is down may raise anything: the request is refused then, since it may have run before. A ``claim`` that
    raised may have been made all the same; it is ``LOST`` at the end of its lease.

    .. versionadded:: 0.1
    """

    def claim(self, key: str, fingerprint: str, lease: float) -> Claim:
        """
        Claim a key if it is unclaimed. Of any number of callers at once exactly one gets ``NEW``.

        Args:
            key: The caller, the type of the request and its id, so that no caller is given another one's response.
            fingerprint: A digest of the request. If it differs from that of the first claim, the claim is a
                ``MISMATCH`` in any state, and no response is shown.
            lease: Seconds within which the caller completes the claim.
        """

    def complete(self, key: str, token: str, body: bytes | None) -> bool:
        """
        Store the response of a claim for ``ttl`` from now, also after its lease.

        Returns:
            Whether the store has the response of this token: False when the key is no longer this token's. A second
            call changes nothing, the first response stays.
        """

    def release(self, key: str, token: str) -> None:
        """Give up a claim whose request provably did not run. A completed claim stays."""

    def wait(self, key: str, timeout: float) -> Claim:
        """
        Wait until a claim is no longer ``RUNNING``, for ``timeout`` seconds at most, and return its state.

        ``NEW``, without a token, means that the key is unclaimed: it was released, and may be claimed. No fingerprint
        is compared here; claim again to be sure that the response belongs to the same request.
        """

    def close(self) -> None:
        """Close files and connections. Safe to call twice; a later call opens them again."""


class SharedIdempotencyStore(IdempotencyStore, Protocol):
    """
    A store that several nodes can share. Only with such a store are plain requests sent again.

    .. versionadded:: 0.1
    """

    def identity(self) -> str | None:
        """
        Return the identity of the store, within about a second.

        It is called before each heartbeat, and after each new claim of a request whose caller relies on the store.

        The identity is kept in the store itself, made at random at its first use, so that two stores have different
        ones whatever their addresses are. A store that is emptied or replaced gets another one, since its
        claims are lost.

        Returns:
            A text, not empty, the same for every worker and node that sees the same claims. None means that no other
            node sees them, as for a store without this method.
        """


def poll(look: Callable[[], Claim], timeout: float, clock: Clock, sleep: Callable[[float], object]) -> Claim:
    """Look at a claim, with growing pauses, until it is no longer ``RUNNING`` or ``timeout`` seconds have passed."""
    end, slept, pause = clock.monotonic() + timeout, 0.0, _FIRST_PAUSE
    while True:
        found = look()
        # Both ways of counting: the clock of a test may stand still during a sleep, and a look takes time too.
        left = min(end - clock.monotonic(), timeout - slept)
        if found.state is not ClaimState.RUNNING or left <= 0:
            return found
        pause = min(pause, left)
        sleep(pause)
        slept += pause
        pause = min(pause * 1.5, _LONGEST_PAUSE)

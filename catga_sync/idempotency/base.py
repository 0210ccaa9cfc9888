"""What every idempotency store does: let one caller of many in, and keep the answer for the others.

    nobody's --claim--> RUNNING --complete--> DONE
                         |   ^                  ^
            lease is up  v   | renew            |
                          LOST ----complete-----'

    release:      RUNNING, LOST --> nobody's
    ttl is up:       DONE, LOST --> nobody's

A claim belongs to whoever has its token, for as long as the store knows it. A lease that is up takes nothing away
from him: it only tells the others that he may be dead.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from catga_sync._clock import Clock

__all__ = [
    "MAX_BODY_BYTES",
    "Claim",
    "ClaimState",
    "IdempotencyStore",
    "SharedIdempotencyStore",
    "StoredReply",
    "poll",
]

#: Bytes of an answer that are kept; of a longer one only the fact is.
MAX_BODY_BYTES = 256 * 1024

#: Seconds between two looks at a claim that is waited for: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


@enum.unique
class ClaimState(enum.Enum):
    """What a store knows of a key."""

    #: Nobody had it. Now the caller has, if there is a token with it.
    NEW = "NEW"
    #: Somebody has it, and his lease is alive.
    RUNNING = "RUNNING"
    #: It was completed; the answer is there.
    DONE = "DONE"
    #: Somebody had it and let his lease run out: it may have run once. It is not given to anybody again.
    LOST = "LOST"
    #: It was claimed with another fingerprint: the same key for another request.
    MISMATCH = "MISMATCH"


@dataclass(frozen=True, slots=True)
class StoredReply:
    """The answer that was given. Immutable. None as ``body``: it was given, and is not kept, since it is too long."""

    body: bytes | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of a claim. Immutable. ``token`` comes with ``NEW`` and ``reply`` with ``DONE`` only."""

    state: ClaimState
    token: str = ""
    reply: StoredReply | None = None


class IdempotencyStore(Protocol):
    """
    A memory of which requests were let in, and of their answers.

    Every call may be made by any thread and after a fork. All but ``wait`` return or raise within about a second. A
    store that is down raises whatever it likes: the request is refused then, for nobody can tell whether it ran
    before. A ``claim`` that raised may have been made all the same; nobody has its token, so it is ``LOST`` once its
    lease is up.

    .. versionadded:: 0.1
    """

    def claim(self, key: str, fingerprint: str, lease: float) -> Claim:
        """
        Claim a key, if nobody has it. Of any number of callers at once exactly one gets ``NEW``.

        Args:
            key: Who calls, the type of the request and its id, so that no caller is given another one's answer.
            fingerprint: A digest of the request. With another one than the first time the claim is a ``MISMATCH``,
                whatever its state, and no answer is shown.
            lease: Seconds within which the caller completes or renews.
        """

    def complete(self, key: str, token: str, body: bytes | None) -> bool:
        """
        Store the answer of a claim, for ``ttl`` from now, also when its lease is up.

        Returns:
            Whether the store has the answer of this token: False when the key is no longer this token's. Doing it again
            changes nothing, the first answer stays.
        """

    def renew(self, key: str, token: str, lease: float) -> bool:
        """Give a claim ``lease`` seconds from now; False when it is completed or no longer this token's."""

    def release(self, key: str, token: str) -> None:
        """Forget a claim: what it was made for provably did not start. One that is completed stays."""

    def wait(self, key: str, timeout: float) -> Claim:
        """
        Wait until a claim is no longer ``RUNNING`` or the time is up, and return what it is then.

        ``NEW``, without a token, says that nobody has the key (any more): it was released, and may be claimed. No
        fingerprint is looked at here. Whoever wants to be sure that the answer is that of his request claims again.
        """

    def close(self) -> None:
        """Let go of files and connections. Safe to call twice; a later call opens them again."""


class SharedIdempotencyStore(IdempotencyStore, Protocol):
    """
    A store that several nodes can have in common. Only such a store lets plain requests be sent again.

    .. versionadded:: 0.1
    """

    def identity(self) -> str | None:
        """
        Return which store this is, within about a second.

        It is called before each heartbeat, and after each new claim of a request whose caller relies on the store.

        The identity has to be kept inside the store, so that two stores never have the same one, whatever their
        addresses are: made at random when it is first asked for, by one of all who ask at once. A store that is
        emptied or replaced has to get another one, since it no longer knows what has run.

        Returns:
            Any text but the empty one, the same for every worker and node that sees the same claims. None means that
            no other node sees them, as for a store without this method.
        """


def poll(look: Callable[[], Claim], timeout: float, clock: Clock, sleep: Callable[[float], object]) -> Claim:
    """Look at a claim, with growing pauses, until it is not ``RUNNING`` or the time is up."""
    end, slept, pause = clock.monotonic() + timeout, 0.0, _FIRST_PAUSE
    while True:
        found = look()
        # Both ways of counting: a clock that is held does not go on while this sleeps, and a look takes its time too.
        left = min(end - clock.monotonic(), timeout - slept)
        if found.state is not ClaimState.RUNNING or left <= 0:
            return found
        pause = min(pause, left)
        sleep(pause)
        slept += pause
        pause = min(pause * 1.5, _LONGEST_PAUSE)

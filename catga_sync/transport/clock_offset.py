"""Estimates how far a node's clock is from this one, and what of a round trip was the wire and what the backlog.

As NTP does (RFC 5905, section 8), from four times of one exchange: sent and came by the clock here, received and
responded by the clock there.

    delay  = (came - sent) - (responded - received)              the exchange without the work there
    offset = ((received - sent) + (responded - came)) / 2        the clock there, less the clock here

The sample with the smallest delay of the last seconds is the best one: it has waited least, so its offset is the most
exact, and its delay is the wire alone. What another exchange takes longer than that, it has waited: for a thread of the
server, or for a new connection.

What a node says is not trusted: a text that cannot be read, times that the exchange contradicts, and clocks that are
more than a day apart give no sample.
"""

from __future__ import annotations

import re

__all__ = ["FARTHEST", "ClockOffset"]

#: Seconds for which a sample counts at least; at most twice as long.
WINDOW = 30.0
#: Seconds by which two clocks may differ; an offset beyond is no offset.
FARTHEST = 86_400.0
#: Two times in microseconds; the digits are enough for the next two hundred years.
_TIMES = re.compile(r"([0-9]{1,16}),([0-9]{1,16})")
#: Seconds by which rounding may make a delay negative.
_ROUNDING = 0.001


class ClockOffset:
    """
    The clock of one node, as its exchanges show it. Thread-safe without a lock: each attribute is swapped whole.

    Attributes:
        offset: Seconds that the clock there is ahead of the clock here; None while it is unknown.

    .. versionadded:: 0.1
    """

    __slots__ = ("_best", "_earlier", "_since", "offset")

    def __init__(self) -> None:
        self.offset: float | None = None
        #: The smallest delay, and its offset, of this window and of the one before; None where there is no sample.
        self._best: tuple[float, float] | None = None
        self._earlier: tuple[float, float] | None = None
        self._since = float("-inf")

    def sample(self, sent: float, came: float, times: str) -> tuple[float, float] | None:
        """
        Learn from an exchange.

        Args:
            sent: When it began, in seconds since the epoch by the clock here.
            came: When its response came, by the same clock.
            times: What the node said: ``received,responded`` in microseconds since the epoch, by the clock there.

        Returns:
            Seconds on the wire, and in the backlog. None where the text cannot be read or cannot be true.
        """
        found = _TIMES.fullmatch(times)
        if found is None:
            return None
        received, responded = int(found[1]) / 1e6, int(found[2]) / 1e6
        delay = (came - sent) - (responded - received)
        offset = ((received - sent) + (responded - came)) / 2.0
        if responded < received or delay < -_ROUNDING or abs(offset) > FARTHEST:
            return None
        delay = max(0.0, delay)
        if not self._since <= came < self._since + WINDOW:  # or the clock here was set back
            is_next = self._since + WINDOW <= came < self._since + 2 * WINDOW
            self._earlier, self._best, self._since = (self._best if is_next else None), None, came
        best, earlier = self._best, self._earlier
        if best is None or delay <= best[0]:
            best = self._best = (delay, offset)
        if earlier is not None and earlier[0] < best[0]:
            best = earlier
        self.offset = best[1]
        return best[0], delay - best[0]

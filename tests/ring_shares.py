"""The share of all keys that each node of a ring owns, exactly; for figures and tests."""

from __future__ import annotations

import operator

from catga_sync.routing.ring import Ring


def ring_shares(ring: Ring) -> dict[str, float]:
    """
    Return node id -> its share.

    A look ends ``t`` before a point with equal chance for all ``t`` up to the gap before it, and that point wins if the
    seven other looks end further away: ``gap -> integral of 8 * left(t)**7``, where ``left(t)`` is the sum of what the
    gaps have beyond ``t``. Between two gaps of neighbouring length it is linear, so the integral is a difference of
    eighth powers.
    """
    gaps = sorted(zip(map(operator.sub, ring._places[1:], ring._places), ring._owners[1:], strict=True))
    shares = dict.fromkeys(ring.members, 0.0)
    left, reached, share = 1.0, 0.0, 0.0
    for at, (gap, owner) in enumerate(gaps):
        longer = len(gaps) - at
        rest = left - longer * (gap - reached)
        share += (left**8 - rest**8) / longer
        left, reached = rest, gap
        shares[owner] += share
    return shares

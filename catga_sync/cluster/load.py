"""How loaded this node is, from 0 to 100, as it tells the others with its heartbeats."""

from __future__ import annotations

import math
import os

__all__ = ["default_load", "rounded"]

#: Reported in steps of this size: a change of nothing but noise is no news to a thousand nodes.
STEP = 5.0


def default_load(in_use: float) -> float:
    """
    Return the larger of two shares: of the calls that this process takes, and of the machine's processors.

    Args:
        in_use: The share of this process's room that is taken, 0 to 1.
    """
    return 100.0 * max(in_use, _processors())


def rounded(load: float) -> float:
    """Return a load within 0 to 100, in steps. What is no number counts as 100: a broken report attracts nobody."""
    if math.isnan(load):
        return 100.0
    return min(100.0, max(0.0, round(load / STEP) * STEP))


def _processors() -> float:
    try:
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except (AttributeError, OSError):
        return 0.0

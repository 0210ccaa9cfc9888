"""The load of this node, from 0 to 100, as its heartbeats report it."""

from __future__ import annotations

import math
import os

__all__ = ["default_load", "rounded"]

#: Reported in steps of this size, so that noise changes nothing for a thousand nodes.
STEP = 5.0


def default_load(in_use: float) -> float:
    """
    Return the larger of two shares: of the calls that this process takes, and of the machine's processors.

    Args:
        in_use: The share of this process's concurrency limit that is in use, 0 to 1.
    """
    return 100.0 * max(in_use, _processors())


def rounded(load: float) -> float:
    """Return a load within 0 to 100, in steps. NaN counts as 100: a broken report attracts no calls."""
    if math.isnan(load):
        return 100.0
    return min(100.0, max(0.0, round(load / STEP) * STEP))


def _processors() -> float:
    try:
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except (AttributeError, OSError):
        return 0.0

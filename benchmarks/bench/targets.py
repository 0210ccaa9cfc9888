"""What is promised: how one case compares with another, as in the issue that asks for it.

A target is kept if the median over the rounds is within its bound. ``stretch`` is a bound that is wished for. A target
with neither ``most`` nor ``least`` promises nothing: the ratio is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.bench.measure import Measured, Spread, excess, ratio


@dataclass(frozen=True)
class Target:
    """
    One promise.

    Args:
        part: The part whose figures it is about.
        over: The case that is compared.
        under: What it is compared with.
        most: The highest ratio that keeps it; None means that there is none.
        least: The lowest one.
        stretch: The bound that is wished for, in the same direction; None means that there is none.
        unit: What ``over`` and ``under`` are subtracted in; None means that they are divided.
    """

    part: str
    over: str
    under: str
    most: float | None = None
    least: float | None = None
    stretch: float | None = None
    unit: str | None = None

    @property
    def bound(self) -> str:
        """The bound, as one reads it."""
        words = []
        if self.most is not None:
            words.append(f"<= {self.most:g}")
        if self.least is not None:
            words.append(f">= {self.least:g}")
        if self.unit is not None:
            words.append(self.unit)
        if self.stretch is not None:
            words.append(f"[{self.stretch:g}]")
        return " ".join(words)


@dataclass(frozen=True)
class Verdict:
    """How a target was met: ``ok``, ``missed``, ``shown``, or ``not measured`` where a case has no figures."""

    target: Target
    found: Spread | None
    status: str


def judge(target: Target, measured: Measured) -> Verdict:
    """Compare the two cases of a target in each round."""
    over, under = (measured.figures.get(name) for name in (target.over, target.under))
    if not over or not under:
        return Verdict(target, None, "not measured")
    found = (ratio if target.unit is None else excess)(over, under)
    if target.least is None and target.most is None:
        return Verdict(target, found, "shown")
    least = -math.inf if target.least is None else target.least
    most = math.inf if target.most is None else target.most
    return Verdict(target, found, "ok" if least <= found.median <= most else "missed")


TARGETS = (
    Target("remote", "stream, p50", "grpcio, p50", most=0.30, stretch=0.20),
    Target("remote", "stream, p50", "Pyro5, p50", most=1.0),
    Target("remote", "stream, p50", "rpyc, p50", stretch=1.0),
    Target("remote", "stream, secret, p50", "stream, insecure, p50", most=1.2),
    Target("remote", "stream, 8", "grpcio, 8", least=2.0, stretch=2.75),
    Target("remote", "stream, 8", "rpyc, 8", least=1.2, stretch=1.5),
    Target("remote", "stream, 32", "stream, 8", least=0.85),
    Target("remote", "stream, 4 workers, 8", "stream, 8", least=1.0),
    Target("remote", "POST, p50", "grpcio, p50", most=1.0),
    Target("remote", "POST, p50", "floor, p50", most=2.2, stretch=1.5),
    Target("remote", "POST, 8", "grpcio, 8", least=0.8),
    Target("remote", "POST, blueprint, p50", "POST, p50", most=1.25),
    Target("remote", "gRPC, p50", "grpcio, p50"),
    Target("remote", "gRPC, 8", "grpcio, 8"),
    # Of times: 1 to 3, 1 to 15.
    Target("batch", "stream, one by one", "stream, batch", least=3.0),
    Target("batch", "POST, one by one", "POST, batch", least=15.0),
    Target("batch", "stream, batch", "Pyro5, batch", most=1.0),
    Target("codec", "marshmallow", "catga_sync", least=6.0),
    Target("codec", "catga_sync", "msgspec", most=5.0),
    Target("local", "catga_sync", "a dict", most=8.0),
    Target("local", "catga_sync", "mediatr", most=0.8),
    Target("local", "catga_sync", "python-cqrs", most=0.1),
    Target("local", "catga_sync", "diator", most=0.1),
    Target("local", "catga_sync", "python-cqrs, bare container"),
    Target("local", "catga_sync", "diator, bare container"),
    Target("local", "catga_sync, in a cluster", "catga_sync", most=2.0),
    Target("idle", "a node, MB", "Flask alone, MB", most=60.0, unit="MB"),
    Target("idle", "import catga_sync", "import what it brings along"),
    Target("idle", "import catga_sync", "import all it depends on", most=1.1),
)

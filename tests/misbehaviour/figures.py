"""How long ``send(timeout=2)`` takes with every peer that misbehaves: ``python -m tests.misbehaviour.figures``."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass

from catga_sync import Mediator, Request, create_cluster
from tests.misbehaviour.peers import PEERS, serving


@dataclass(frozen=True)
class Ask(Request[None]):
    """A plain request, which may not be sent twice."""

    text: str = "x"


def main() -> None:
    """Print a line a peer: seconds, delivery and code."""
    logging.disable(logging.CRITICAL)
    print(f"{'peer':32} {'seconds (median of 3, max)':28} {'delivery':14} code")
    for script in PEERS:
        seconds, result = [], None
        for _ in range(3):
            with serving(script) as peer, create_cluster(Mediator(), peers={"peer": peer.endpoint}) as mediator:
                mediator.nodes()
                started = time.monotonic()
                result = mediator.send(Ask(), timeout=2)
                seconds.append(time.monotonic() - started)
        assert result is not None
        code = getattr(result.code, "name", result.code)
        figures = f"{statistics.median(seconds):.3f}  {max(seconds):.3f}"
        print(f"{script.__name__:32} {figures:28} {result.delivery.name:14} {code}")


if __name__ == "__main__":
    main()

"""What a part is, and how much of it is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.bench.measure import Measured
from benchmarks.bench.progress import Progress


@dataclass(frozen=True)
class Settings:
    """
    How much is measured.

    Args:
        rounds: Figures of each case.
        calls: Calls of one caller in a round.
        seconds: For how long threads call in a round.
        quick: Whether it is only to be seen that everything runs: large cases become small ones.
    """

    rounds: int = 7
    calls: int = 300
    seconds: float = 0.25
    quick: bool = False

    def progress(self, title: str, total: int) -> Callable[[], None]:
        """Return the function that moves the bar of a part, and removes it in the end."""
        bar, left = Progress(title, total), [total]

        def tick() -> None:
            bar.tick()
            left[0] -= 1
            if left[0] == 0:
                bar.clear()

        return tick


@dataclass(frozen=True)
class Part:
    """One part: its name on the command line, its title, and what measures it."""

    name: str
    title: str
    run: Callable[[Settings], Measured]

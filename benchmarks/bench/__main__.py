"""Measures, tells, and keeps the results: ``make bench``, ``make bench ARGS=remote``, ``make bench ARGS=--help``.

Ends with status 1 if anything could not be measured; a target that is missed is told, and is no failure of the run.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
from pathlib import Path

from benchmarks.bench import report
from benchmarks.bench.measure import Measured
from benchmarks.bench.part import Part, Settings

PARTS = ("remote", "batch", "codec", "local", "growth", "idle")
QUICK = Settings(rounds=2, calls=20, seconds=0.05, quick=True)


def main(words: list[str] | None = None) -> int:
    """Run the parts that are named; return the status of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description="Measures us beside our peers.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, help=f"figures of each case; {Settings.rounds} by default")
    parser.add_argument("--quick", action="store_true", help="only see that all runs; keeps nothing")
    parser.add_argument("--results", type=Path, help="where files and plots go; benchmarks/results by default")
    given = parser.parse_args(words)
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; the parts are {', '.join(PARTS)}")
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds: one at least")
    settings = QUICK if given.quick else Settings()
    if given.rounds is not None:
        settings = Settings(given.rounds, settings.calls, settings.seconds, settings.quick)
    folder = given.results or (None if given.quick else report.RESULTS)
    # The servers end with their "with" blocks.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.disable(logging.CRITICAL)  # a server takes a moment to start, and we know
    failed = [name for name in given.parts or PARTS if not _run(name, settings, folder)]
    if folder is not None:
        _plot(folder)
    return 1 if failed else 0


def _run(name: str, settings: Settings, folder: Path | None) -> bool:
    """Run a part; return whether all of it was measured."""
    part: Part = importlib.import_module(f"benchmarks.bench.{name}").PART
    try:
        measured = part.run(settings)
    except Exception as exc:
        measured = Measured()
        measured.fail(name, exc)
    print(f"== {part.title} ({name})\n{report.table(name, measured)}")
    if folder is not None:
        print(f"written to {report.write(name, measured, folder)}")
    print(flush=True)
    return not measured.failures


def _plot(folder: Path) -> None:
    try:
        from benchmarks.bench import plots
    except ImportError as exc:
        print(f"no plots: {exc}; pip install matplotlib", file=sys.stderr)
        return
    for path in plots.write(folder):
        print(f"drawn: {path}")


if __name__ == "__main__":
    sys.exit(main())

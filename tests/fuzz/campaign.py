"""All targets within one time: a process for each, as many at once as there are processors, and a table at the end.

The processes are forks of this one, which has imported everything already: to watch the imports takes seconds.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.engine import Engine, Job
from tests.fuzz.target import Target

__all__ = ["Outcome", "fuzz_all", "table"]

_RUNS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_FEATURES = re.compile(r"\bft: (\d+)")
#: Seconds that a process has to end by itself, and between two looks at it.
_GRACE, _PAUSE = 20.0, 0.05
#: Characters of what a failed process wrote that are shown: libFuzzer's report is at the end.
_SHOWN = 6000


@dataclass(frozen=True)
class Outcome:
    """What came of one target. Immutable."""

    name: str
    runs: int
    #: Coverage features of libFuzzer: branches, and how often they were taken. None without coverage.
    features: int | None
    #: Inputs that break a promise; they are kept.
    found: tuple[Path, ...]
    #: Whether the process ended badly.
    failed: bool
    #: The end of what the process wrote.
    output: str


class _Process:
    """A process that fuzzes one target. Not thread-safe."""

    def __init__(self, target: Target, engine: Engine, kept: Path, ends: float) -> None:
        self.name = target.name
        self._kept, self._ends = kept, ends
        self._around = contextlib.ExitStack()
        work = Path(self._around.enter_context(tempfile.TemporaryDirectory(prefix="catga-fuzz-")))
        self._output, self._found = work / "output", work / "found"
        self._found.mkdir()
        job = Job(target, self._around.enter_context(target.place()), work, self._found, ends)
        self._pid = os.fork()
        if self._pid == 0:
            _fuzz_here(engine, job, self._output)

    def end(self) -> None:
        """End it, with what it has open, before it has an outcome."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._around.close()

    def outcome(self) -> Outcome | None:
        """Return what came of it when it has ended; end it when it does not."""
        if time.time() > self._ends + _GRACE:
            os.kill(self._pid, signal.SIGKILL)
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        output = self._output.read_text("utf-8", "replace")
        found = tuple(Path(shutil.move(file, self._kept / file.name)) for file in sorted(self._found.iterdir()))
        self._around.close()
        runs, features = _RUNS.findall(output), _FEATURES.findall(output)
        return Outcome(
            self.name,
            int(runs[-1]) if runs else 0,
            int(features[-1]) if features else None,
            found,
            status != 0,
            output[-_SHOWN:],
        )


def _fuzz_here(engine: Engine, job: Job, output: Path) -> None:
    """Fuzz in this process, a fork, and end it."""
    code = 1
    try:
        with output.open("wb") as file:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(file.fileno(), stream.fileno())
        engine.fuzz(job)
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # what the parent has open is the parent's to close


def fuzz_all(
    targets: Sequence[Target], engine: Engine, *, ends: float, kept: Path, workers: int | None = None
) -> list[Outcome]:
    """
    Fuzz every target and return what came of each, in their order.

    Args:
        targets: What to fuzz.
        engine: How.
        ends: When the time for all of them is up, in seconds since the epoch.
        kept: Folder for the inputs of findings.
        workers: Processes at a time. None means one for each processor.
    """
    kept.mkdir(parents=True, exist_ok=True)
    at_once = min(len(targets), workers or os.cpu_count() or 1)
    waiting, running, ended = list(targets), list[_Process](), dict[str, Outcome]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                rounds = math.ceil(len(waiting) / at_once)
                share = max(0.0, ends - time.time()) / rounds
                running.append(_Process(waiting.pop(0), engine, kept.resolve(), time.time() + share))
            time.sleep(_PAUSE)
            for process in tuple(running):
                outcome = process.outcome()
                if outcome is not None:
                    running.remove(process)
                    ended[outcome.name] = outcome
    finally:
        for process in running:  # it was interrupted
            process.end()
    return [ended[each.name] for each in targets]


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the summary."""
    width = max(len(each.name) for each in outcomes)
    lines = [f"{'target':{width}}  {'runs':>10}  {'features':>8}  findings"]
    lines += [
        f"{each.name:{width}}  {each.runs:>10,}  {'-' if each.features is None else each.features:>8}  "
        + ("did not run to its end" if each.failed and not each.found else str(len(each.found)))
        for each in outcomes
    ]
    runs, found = sum(each.runs for each in outcomes), sum(len(each.found) for each in outcomes)
    return "\n".join([*lines, f"{len(outcomes)} targets, {runs:,} runs, {found} findings"])

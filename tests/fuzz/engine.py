"""Fuzzing one target in a process of its own: led by coverage (atheris, libFuzzer), or by mutations alone.

Both engines write what ``campaign.py`` reads: libFuzzer's lines of statistics, and an exit code that is not 0 where
something was found.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.target import Target, judged

__all__ = ["ENGINES", "Engine", "Job"]

#: The most bytes of an input.
_MAX_BYTES = 4096
#: The most seconds for one input; an input that takes longer is a finding.
_LONGEST = 5
_MEMORY_MB = 2048
#: What libFuzzer's process returns for a finding.
_FOUND = 77


@dataclass(frozen=True)
class Job:
    """One target, and what its process is given. Immutable."""

    target: Target
    #: What the target's ``place`` gave.
    place: str
    #: An empty folder of its own.
    work: Path
    #: Folder for the input of a finding, also its own.
    kept: Path
    #: When the time is up, in seconds since the epoch.
    ends: float


@dataclass(frozen=True)
class Engine:
    """A way to fuzz. Immutable."""

    #: Watches the imports of its block.
    watching: Callable[[], AbstractContextManager[object]]
    #: Fuzzes until the time is up or something is found; ends the process where something is.
    fuzz: Callable[[Job], None]


def _watching() -> AbstractContextManager[object]:
    import atheris

    watching: AbstractContextManager[object] = atheris.instrument_imports(include=["catga_sync"])
    return watching


def _with_coverage(job: Job) -> None:
    import atheris

    check = _keeping(job)
    corpus = job.work / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(job.target.seeds()):
        (corpus / f"{number:04}").write_bytes(seed)
    options = [
        f"-artifact_prefix={job.kept}/{job.target.name}-",
        f"-max_len={_MAX_BYTES}",
        f"-max_total_time={max(1, int(job.ends - time.time()))}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-timeout={_LONGEST}",
        "-len_control=0",
        "-print_final_stats=1",
    ]

    if job.target.words:
        words = job.work / "words"
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in job.target.words), "ascii")
        options.append(f"-dict={words}")
    atheris.Setup([sys.argv[0], *options, str(corpus)], check)
    atheris.Fuzz()  # ends the process


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def _with_mutations(job: Job) -> None:
    check = _keeping(job)
    seeds = list(job.target.seeds())
    rng = random.Random()
    runs = 0
    while runs < len(seeds) or time.time() < job.ends:
        check(seeds[runs] if runs < len(seeds) else _mutated(rng, seeds, job.target.words))
        runs += 1
    _tell_runs(runs)


def _keeping(job: Job) -> Callable[[bytes], None]:
    """Return what runs one input. It keeps an input that is a finding, and ends the process with it."""
    check = judged(job.target.prepare(job.place))
    runs = 0

    def run(data: bytes) -> None:
        nonlocal runs
        runs += 1
        began = time.monotonic()
        try:
            check(data)
            taken = time.monotonic() - began
            if taken > _LONGEST:
                raise TimeoutError(f"an input took {taken:.1f} s")
        except Exception:
            # libFuzzer would do so at the end of the process, which a fork does not live to see.
            traceback.print_exc()
            (job.kept / f"{job.target.name}-crash-{hashlib.sha256(data).hexdigest()[:40]}").write_bytes(data)
            _tell_runs(runs)
            sys.stderr.flush()
            os._exit(_FOUND)

    return run


def _tell_runs(runs: int) -> None:
    print(f"stat::number_of_executed_units: {runs}", file=sys.stderr)


def _mutated(rng: random.Random, seeds: Sequence[bytes], words: Sequence[str]) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(data))
        end = min(len(data), start + rng.choice((0, 1, 1, 2, 8)))
        other = rng.choice(seeds)
        at = rng.randint(0, len(other))
        data[start:end] = rng.choice(
            (
                rng.randbytes(rng.randint(0, 3)),
                rng.choice(words).encode() if words else b"",
                other[at : at + rng.randint(1, 40)],
                data[start:end] * rng.choice((2, 2, 40)),
            )
        )
    return bytes(data[:_MAX_BYTES])


ENGINES = {
    "atheris": Engine(_watching, _with_coverage),
    "mutations": Engine(contextlib.nullcontext, _with_mutations),
}

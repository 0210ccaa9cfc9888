"""What is fuzzed: a target reads bytes as an attacker or a peer would send them, and checks what comes of it.

Rules of this file:
1. An exception that ``check`` raises is a finding, whatever its class. A documented refusal is caught by the check.
2. A check returns whether it accepted the input, so that a test can tell whether the seeds reach what is fuzzed.
3. Every record that the library logs can be formatted, and is one printable line: nobody can forge a line of a log.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Check", "Finding", "OfTheApplication", "Target", "edited", "edits", "join", "judged", "pure", "split"]

#: Takes one input; returns whether it was accepted, and raises where something is wrong.
Check = Callable[[bytes], bool]


class Finding(AssertionError):
    """An input breaks a promise of the library."""


class OfTheApplication(Exception):
    """Raised by a handler of a target: the library logs it, as it should."""


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    memory = Path("/dev/shm")  # a file system without a disk
    with tempfile.TemporaryDirectory(prefix="catga-fuzz-", dir=memory if memory.is_dir() else None) as folder:
        yield folder


@dataclass(frozen=True)
class Target:
    """One thing that reads bytes. Immutable."""

    name: str
    #: Returns the check; called once in the process that fuzzes, with what ``place`` gave.
    prepare: Callable[[str], Check]
    #: Returns the inputs to start from.
    seeds: Callable[[], Iterable[bytes]]
    #: Words that mutations insert.
    words: tuple[str, ...] = ()
    #: Makes what outlives the fuzzing process, such as a server: the fuzzing process ends without cleaning up.
    place: Callable[[], AbstractContextManager[str]] = _folder
    #: Packages and programs without which it cannot run.
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


def pure(check: Check) -> Callable[[str], Check]:
    """Return the ``prepare`` of a check that needs no place."""
    return lambda place: check


def join(*parts: bytes | str) -> bytes:
    """Return an input of several parts."""
    return b"\0".join(part.encode() if isinstance(part, str) else part for part in parts)


def edited(data: bytes, seeds: Sequence[bytes], count: int) -> bytes:
    """
    Return an input as it is or, where its first byte says so, one of the seeds with one part replaced by the rest.

    So that what is signed is met with near misses, which mutations of all the bytes seldom make.
    """
    if len(data) < 3 or data[0] >= 2 * len(seeds):
        return data
    parts = split(seeds[data[0] % len(seeds)], count)
    place, rest = data[1] % count, data[2:]
    parts[place] = rest if data[0] < len(seeds) else parts[place][: rest[0]] + rest[1:] + parts[place][rest[0] + 1 :]
    return b"\0".join(parts)


def edits(seeds: Sequence[bytes], count: int) -> list[bytes]:
    """Return inputs of which ``edited`` makes near misses when they are mutated: a whole part, and its last byte."""
    made = []
    for number, seed in enumerate(seeds):
        for place, part in enumerate(split(seed, count)):
            if part:
                last = min(len(part) - 1, 255)
                made += [bytes([number, place]) + part]
                made += [bytes([len(seeds) + number, place, last]) + part[last : last + 1]]
    return made


def split(data: bytes, count: int) -> list[bytes]:
    """Return the parts of an input; missing ones are empty, and only the last may have a NUL in it."""
    parts = data.split(b"\0", count - 1)
    return parts + [b""] * (count - len(parts))


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.held: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.held.append(record)


def judged(check: Check) -> Check:
    """Return the check that judges what the library logs meanwhile, too. Not thread-safe."""
    records = _Records()
    log = logging.getLogger("catga_sync")
    log.setLevel(logging.INFO)
    log.propagate = False

    def run(data: bytes) -> bool:
        records.held.clear()
        log.addHandler(records)
        try:
            accepted = check(data)
        finally:
            log.removeHandler(records)
        for record in records.held:
            text = record.getMessage()
            if not text.isprintable():
                raise Finding(f"a line of the log is not one printable line: {text!a}")
            if record.exc_info and not isinstance(record.exc_info[1], OfTheApplication):
                raise Finding(f"the library logged a fault of its own: {text}") from record.exc_info[1]
        return accepted

    return run

"""The part ``codec``: a message of 27 values, written and read. Figures are microseconds of the processor for both.

The message and the libraries are those of ``benchmarks/codec.py``.
"""

from __future__ import annotations

import functools

from benchmarks import codec
from benchmarks.bench import measure
from benchmarks.bench.part import Part, Settings

WANTED = ("catga_sync", "marshmallow", "msgspec", "json alone")


def run(settings: Settings) -> measure.Measured:
    tried = codec.libraries()
    cases = {name: functools.partial(_both, *tried[name]) for name in WANTED if name in tried}
    rounds = settings.rounds if settings.quick else 10 * settings.rounds
    tick = settings.progress("codec", (rounds + 1) * len(cases))
    measured = measure.in_turns(cases, rounds, tick=tick)
    for name in WANTED:
        if name not in tried:
            measured.fail(name, "it is not installed")
    return measured


def _both(write: codec.Write, read: codec.Read) -> float:
    raw = write()
    return codec.microseconds(write) + codec.microseconds(lambda: read(raw))


PART = Part("codec", "A message of 27 values, written and read", run)

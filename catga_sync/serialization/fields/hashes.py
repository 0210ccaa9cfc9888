"""Refuses values that were chosen so that a set or a dict of them takes minutes to build.

The hash of a text depends on a secret of the process; the hash of a number does not. Every multiple of 2**61 - 1 has
the hash 0, and a set compares each value with all others of the same hash: 3.8 MB of such numbers block the interpreter
for half a minute. Values with different hashes do the same harm if their hashes lead through the same cells of the
table, which is as easy to arrange: 40,000 such keys take two seconds, and four times as many take thirty.

So before such a set or dict is built, its hashes are put through a simulated table of the same size, and the steps are
counted: 1.5 for each random value, 70 for the worst regular values (390,000 multiples of a power of two), and thousands
for chosen values.

Rules of this file:
1. Received values are put into lists and arrays only. Every set and dict in this file has texts as its keys.
2. The steps are those of CPython's ``dictobject.c`` and ``setobject.c``, which are the same from 3.10 to 3.13.
3. The check takes a bounded time for each value, whatever the values are.

Every function is pure and thread-safe.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection
from itertools import compress, pairwise
from typing import Any, NamedTuple

from marshmallow import ValidationError

__all__ = ["DICT", "FEW", "SET", "Layout", "check_hashes", "crowded"]

#: So few values do no harm, whatever their hashes are; nor do so many of the same hash in a larger collection.
FEW = 32
#: Steps per value, on average, that a collection may need. A step takes some nanoseconds.
MOST_STEPS = 256

_SMALLEST = 8
_PERTURB_SHIFT = 5
_UNSIGNED = 2**64 - 1


class Layout(NamedTuple):
    """How CPython lays out the table of a kind of collection. Immutable."""

    #: Returns how many values a table with so many cells holds before it grows.
    capacity: Callable[[int], int]
    #: Returns how many cells, at least, a table has after it has grown for so many values.
    growth: Callable[[int], int]
    #: Adjacent cells that are probed in one step.
    side_by_side: int
    #: Whether a growing table moves the values in the order of their cells; otherwise in the order of insertion.
    by_cell: bool


DICT = Layout(lambda cells: cells * 2 // 3, lambda used: used * 3, 1, by_cell=False)
SET = Layout(
    lambda cells: -(-(cells - 1) * 3 // 5), lambda used: used * (2 if used > 50_000 else 4) + 1, 10, by_cell=True
)


def check_hashes(values: Collection[Any], layout: Layout) -> None:
    """
    Refuse values if a collection of them would take very long to build.

    Args:
        values: The values, in the order of insertion.
        layout: ``SET`` for a set or frozenset, ``DICT`` for the keys of a dict.

    Raises:
        ValidationError: The collection would take very long to build.
        TypeError: One of the values cannot be hashed.
    """
    if crowded(values, layout):
        raise ValidationError(
            "has values that collide with each other in its hash table, as if they were chosen to make it slow"
        )


def crowded(values: Collection[Any], layout: Layout) -> bool:
    """Return whether a collection of these values would take very long to build; see ``check_hashes``."""
    if len(values) <= FEW:
        return False
    # An array needs eight bytes per hash, a list of ints forty.
    hashes = array("q", map(hash, values))
    ordered = sorted(hashes)
    repeated = {str(one) for one, following in pairwise(ordered) if one == following}
    del ordered
    distinct = _distinct(values, hashes, repeated) if repeated else hashes
    return distinct is None or build(distinct, layout)[0] > MOST_STEPS * len(distinct)


def _distinct(values: Collection[Any], hashes: array[int], repeated: set[str]) -> array[int] | None:
    """Return the hashes of the values that differ from all others; None if too many have the same hash."""
    known: dict[str, list[Any]] = {}
    distinct = array("q")
    for value, number in zip(values, hashes, strict=True):
        text = str(number)
        if text in repeated:
            alike = known.setdefault(text, [])
            if value in alike:
                continue
            if len(alike) == FEW:
                return None
            alike.append(value)
        distinct.append(number)
    return distinct


def build(hashes: array[int], layout: Layout) -> tuple[int, array[int]]:
    """
    Put values of these hashes into a growing table.

    Returns:
        The steps over occupied cells, and the hashes in the order of their cells.
    """
    steps, cells, waiting = 0, _SMALLEST, hashes
    while True:
        room = layout.capacity(cells)
        table = _Table(cells, layout.side_by_side)
        steps += table.fill(waiting[:room])
        if room >= len(hashes):
            return steps, table.by_cell()
        # All values are inserted again into the larger table.
        if layout.by_cell:
            waiting = table.by_cell() + waiting[room:]
        wanted, cells = layout.growth(room), _SMALLEST
        while cells < wanted:
            cells *= 2


class _Table:
    """The cells of one table. Not thread-safe."""

    def __init__(self, cells: int, side_by_side: int) -> None:
        self._mask = cells - 1
        self._bits = cells.bit_length() - 1
        self._taken = bytearray(cells)
        self._hashes = array("q", bytes(8 * cells))
        self._side_by_side = side_by_side
        self._shortcuts = array("q")

    def fill(self, hashes: array[int]) -> int:
        """Insert values; return the steps."""
        taken, held, mask, free_at = self._taken, self._hashes, self._mask, self._free_at
        alone = self._side_by_side == 1
        steps = 0
        for number in hashes:
            cell = number & mask
            if taken[cell]:
                rest = number & _UNSIGNED
                while True:
                    free = -1 if alone else free_at(cell)
                    if free >= 0:
                        cell = free
                        break
                    rest >>= _PERTURB_SHIFT
                    cell = (cell * 5 + rest + 1) & mask
                    steps += 1
                    if not taken[cell]:
                        break
                    if not rest:
                        cell, walked = self._walk(cell)
                        steps += walked
                        break
            taken[cell] = 1
            held[cell] = number
        return steps

    def by_cell(self) -> array[int]:
        """Return the hashes in the order of their cells."""
        return array("q", compress(self._hashes, self._taken))

    def _free_at(self, cell: int) -> int:
        """Return the free cell that one step finds, or -1."""
        # A step that would pass the end of the table probes one cell only.
        beside = self._side_by_side if cell + self._side_by_side <= self._mask + 1 else 1
        return self._taken.find(0, cell, cell + beside)

    def _walk(self, cell: int) -> tuple[int, int]:
        """
        Return the free cell for a value after all bits of its hash are used, and the steps to it.

        From there on all values take the same path, and occupied cells stay occupied. So shortcuts are kept, and no
        part of the path is walked twice.
        """
        if not self._shortcuts:
            self._shortcuts = array("q", bytes(8 * len(self._taken)))
        steps, trail = 0, []
        while (free := self._free_at(cell)) < 0:
            trail.append((cell, steps))
            shortcut = self._shortcuts[cell]
            if shortcut:
                cell = shortcut & self._mask
                steps += shortcut >> self._bits
            else:
                cell = (cell * 5 + 1) & self._mask
                steps += 1
        for passed, before in trail:
            self._shortcuts[passed] = (steps - before) << self._bits | cell
        return free, steps

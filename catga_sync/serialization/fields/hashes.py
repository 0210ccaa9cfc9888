"""Refuses values that were chosen so that a set or a dict of them takes minutes to build.

The hash of a text has a secret of the process in it; that of a number has none. Every multiple of 2**61 - 1 has the
hash 0, and in a set each value is compared with all others of its hash: 3.8 MB of such numbers hold the interpreter for
half a minute. Values of different hashes do the same harm if their hashes lead through the same cells of the table,
which is as easy to arrange: 40,000 such keys take two seconds, and four times as many take thirty.

So before such a set or dict is built, its hashes are walked through a table of the same size in the same way, and the
steps are counted: 1.5 for each random value, 70 for the worst regular ones (390,000 multiples of a power of two), and
thousands for those that were chosen.

Rules of this file:
1. What came in is put into lists and arrays only. A set or a dict here has texts as its keys.
2. The steps are those of CPython's ``dictobject.c`` and ``setobject.c``, which are the same from 3.10 to 3.13.
3. The check itself takes a bounded time for each value, whatever the values are.

Every function is pure and thread-safe.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection
from itertools import compress, pairwise
from typing import Any, NamedTuple

from marshmallow import ValidationError

__all__ = ["DICT", "FEW", "SET", "Layout", "check_hashes", "crowded"]

#: Values that do no harm, whatever their hashes are; also those of one hash in a larger collection.
FEW = 32
#: Steps for each value, on average, that a collection may need. A step takes some nanoseconds.
MOST_STEPS = 256

_SMALLEST = 8
_PERTURB_SHIFT = 5
_UNSIGNED = 2**64 - 1


class Layout(NamedTuple):
    """How CPython lays out the table of a kind of collection. Immutable."""

    #: Returns how many values a table with so many cells holds before it grows.
    capacity: Callable[[int], int]
    #: Returns how many cells a table has at least that has grown for so many values.
    growth: Callable[[int], int]
    #: Cells that are looked at side by side in one step.
    side_by_side: int
    #: Whether a table that grows takes the values over in the order of their cells, and not in that of their coming.
    by_cell: bool


DICT = Layout(lambda cells: cells * 2 // 3, lambda used: used * 3, 1, by_cell=False)
SET = Layout(
    lambda cells: -(-(cells - 1) * 3 // 5), lambda used: used * (2 if used > 50_000 else 4) + 1, 10, by_cell=True
)


def check_hashes(values: Collection[Any], layout: Layout) -> None:
    """
    Refuse values of which a collection would take very long to build.

    Args:
        values:
            What is to be put into it, in that order.

        layout:
            ``SET`` for a set or frozenset, ``DICT`` for the keys of a dict.

    Raises:
        ValidationError: They are such values.
        TypeError: One of them cannot be hashed.
    """
    if crowded(values, layout):
        raise ValidationError(
            "has values that collide with each other in its hash table, as if they were chosen to make it slow"
        )


def crowded(values: Collection[Any], layout: Layout) -> bool:
    """Return whether a collection of these values would take very long to build; see ``check_hashes``."""
    if len(values) <= FEW:
        return False
    # An array has eight bytes for each; a list of ints has forty.
    hashes = array("q", map(hash, values))
    ordered = sorted(hashes)
    repeated = {str(one) for one, following in pairwise(ordered) if one == following}
    del ordered
    distinct = _distinct(values, hashes, repeated) if repeated else hashes
    return distinct is None or build(distinct, layout)[0] > MOST_STEPS * len(distinct)


def _distinct(values: Collection[Any], hashes: array[int], repeated: set[str]) -> array[int] | None:
    """Return the hashes of the values without those that equal another one; None if too many have one hash."""
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
    Put values of these hashes into a table that grows.

    Returns:
        The steps over occupied cells that it took, and the hashes in the order of their cells.
    """
    steps, cells, waiting = 0, _SMALLEST, hashes
    while True:
        room = layout.capacity(cells)
        table = _Table(cells, layout.side_by_side)
        steps += table.fill(waiting[:room])
        if room >= len(hashes):
            return steps, table.by_cell()
        # A table that has grown takes all values anew.
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
        """Put values in; return the steps."""
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
        """Return the free cell that is found in one step, or -1."""
        # A step that would go over the end of the table looks at one cell only.
        beside = self._side_by_side if cell + self._side_by_side <= self._mask + 1 else 1
        return self._taken.find(0, cell, cell + beside)

    def _walk(self, cell: int) -> tuple[int, int]:
        """
        Return the free cell to which a value comes whose hash is used up, and the steps to there.

        From then on all walk the same way. What is occupied stays so, and need not be walked again cell by cell.
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

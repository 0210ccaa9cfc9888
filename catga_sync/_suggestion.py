"""Which of the names that are known somebody may have meant by one that is not: for error texts."""

from __future__ import annotations

import difflib
import functools
import re

__all__ = ["nearest"]

#: The least likeness, from 0 to 1, that is worth a question.
_LEAST = 0.75
#: Characters of a name that is worth showing.
_LONGEST = 120


@functools.lru_cache(64)
def nearest(name: str, known: frozenset[str]) -> tuple[str, ...]:
    """
    Return up to three of the known type names that are like ``name``, the likest first.

    A name is like another one that differs in its module, in upper and lower case, by a part at its end, or by a slip
    of the hand in its last parts. Names from other nodes that are not fit for a line of text are left out.
    """
    wanted = _parts(name)
    fit = (each for each in known if each != name and len(each) <= _LONGEST and each.isprintable())
    scored = sorted((-_likeness(wanted, _parts(each)), each) for each in fit)
    return tuple(each for score, each in scored[:3] if -score >= _LEAST)


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts between the dots of a name, as they are compared; without the assembly of a .NET name."""
    plain = name[:_LONGEST].partition(",")[0].casefold().replace("_", "").replace("-", "")
    return tuple(filter(None, re.split(r"[.+:]", plain)))


def _likeness(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    if not one or not other:
        return 0.0
    if one == other:
        return 1.0
    if one[-1] == other[-1]:
        return 0.95
    shorter, longer = sorted((one, other), key=len)
    if longer[: len(shorter)] == shorter:
        return 0.9
    # More than the last two parts would make all names of one long module alike.
    return max(_ratio(one[-1], other[-1]), _ratio(".".join(one[-2:]), ".".join(other[-2:])))


def _ratio(one: str, other: str) -> float:
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= _LEAST else 0.0

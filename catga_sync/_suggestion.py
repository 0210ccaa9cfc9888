"""Known names that are like an unknown one, for error texts."""

from __future__ import annotations

import difflib
import functools
import re

__all__ = ["nearest"]

#: The least likeness, from 0 to 1, of a suggestion.
_LEAST = 0.75
#: Characters of the longest name that is suggested.
_LONGEST = 120


@functools.lru_cache(64)
def nearest(name: str, known: frozenset[str]) -> tuple[str, ...]:
    """
    Return up to three of the known type names that are like ``name``, the most similar first.

    Names are alike if they differ in the module, in upper and lower case, by a part at the end, or by a typing error in
    the last parts. Names of other nodes that are not printable are left out.
    """
    wanted = _parts(name)
    fit = (each for each in known if each != name and len(each) <= _LONGEST and each.isprintable())
    scored = sorted((-_likeness(wanted, _parts(each)), each) for each in fit)
    return tuple(each for score, each in scored[:3] if -score >= _LEAST)


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts between the dots of a name in the form in which they are compared, without a .NET assembly."""
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
    # With more than the last two parts all names of one long module would be alike.
    return max(_ratio(one[-1], other[-1]), _ratio(".".join(one[-2:]), ".".join(other[-2:])))


def _ratio(one: str, other: str) -> float:
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() >= _LEAST else 0.0

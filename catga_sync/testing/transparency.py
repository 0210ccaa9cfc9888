"""Local calls that go through write and read, as remote ones do, and a report of what has changed on the way.

Without it a local call writes and reads only what may change, and says nothing of the change.
"""

from __future__ import annotations

import dataclasses
import reprlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, time
from functools import partial
from typing import Any

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import SerializationError
from catga_sync.local_steps import local_step
from catga_sync.mediator import Mediator
from catga_sync.messages import Event
from catga_sync.pipeline import Handler
from catga_sync.results import CatgaResult
from catga_sync.serialization import Codec
from catga_sync.testing.overriding import in_force, local_of

__all__ = ["ChangedOnTheWire", "transparent"]

#: How many changes the report lists.
_MOST = 10


class ChangedOnTheWire(AssertionError):
    """Something did not survive the wire; the text has the path to each change."""


@contextmanager
def transparent(mediator: Mediator | ClusterMediator) -> Iterator[None]:
    """
    Have each local call write and read its request and its response until the block is left. Thread-safe.

    Handlers and callers get copies, as over the wire: what one changes in its copy the other does not see. The same
    goes for the subscribers of events. What cannot be written, or is read as something else, is reported at the end.
    Of blocks that overlap, in any order, the one that was entered last, of those that are open, notes the changes.

    Args:
        mediator: Has the handlers. Of a cluster's mediator it is the calls that run at its own node.

    Raises:
        ChangedOnTheWire: At the end of a block that has raised nothing itself: what has not survived.

    .. versionadded:: 0.1
    """
    local = local_of(mediator)
    report = _Report()

    def step(chain: Handler, request_codec: Codec | None, response_codec: Codec | None, name: str) -> Handler:
        request: Any = request_codec and _Noting(request_codec, report)
        response: Any = response_codec and _Noting(response_codec, report)
        return local_step(chain, request, response, name)

    # Not that of a block that is open: it may be left before this one.
    deliver = partial(type(local).deliver, local)

    def deliver_copy(event: Event, *, received: bool = False) -> CatgaResult[None]:
        if received:
            return deliver(event, received=True)
        entry = local.registry.ensure(type(event))
        if not entry.remote:  # what never travels need not be fit for it
            return deliver(event)
        codec = _Noting(entry.codec, report)
        # What cannot be written is in the report, and the subscribers of this process get it all the same.
        with suppress(SerializationError):
            event = codec.decode(codec.encode(event))
        return deliver(event)

    ours = {"_local_step": step, "deliver": deliver_copy}
    with in_force(local, transparent, ours, lambda attributes: _set(local, attributes)):
        yield
    report.check()


def _set(local: Mediator, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Give a mediator these attributes, and steps that are made with them; return those that it had."""
    with local._lock:
        before = {name: getattr(local, name) for name in attributes}
        _replace_locked(local, attributes)
        try:
            local._rebuild_locked(local._behaviors)
        except BaseException:
            _replace_locked(local, before)
            raise
    return before


def _replace_locked(local: Mediator, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(local, name, value)


class _Report:
    """What has changed on the wire, each change once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock; a dict keeps the order.
        self._changes: dict[str, None] = {}

    def add(self, change: str) -> None:
        """Note a change."""
        with self._lock:
            self._changes[change] = None

    def check(self) -> None:
        """Raise ``ChangedOnTheWire`` if there was a change."""
        with self._lock:
            found = list(self._changes)
        if found:
            more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
            raise ChangedOnTheWire("\n".join(["did not survive the wire:", *found[:_MOST], *more]))


class _Noting:
    """The codec of another, which promises nothing of a value and notes what it changes. Thread-safe."""

    def __init__(self, codec: Codec, report: _Report) -> None:
        self._codec = codec
        self._report = report
        self.nullable = codec.nullable

    def round_trips(self, value: Any) -> bool:
        """See ``Codec``."""
        return False

    def encode(self, value: Any) -> tuple[bytes, Any]:
        """Return the bytes, and the value that ``decode`` compares."""
        try:
            return self._codec.encode(value), value
        except SerializationError as exc:
            self._report.add(str(exc))
            raise

    def decode(self, written: tuple[bytes, Any]) -> Any:
        """Return the copy."""
        raw, value = written
        try:
            copy = self._codec.decode(raw)
        except SerializationError as exc:
            self._report.add(str(exc))
            raise
        for change in _changes(value, copy, self._codec.label):
            self._report.add(change)
        return copy


def _changes(value: Any, copy: Any, path: str) -> Iterator[str]:
    """Yield the path of each part that has changed, with both values."""
    same_class = type(value) is type(copy)
    if same_class and dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield from _changes(getattr(value, each.name, None), getattr(copy, each.name, None), f"{path}.{each.name}")
    elif same_class and isinstance(value, Mapping) and value.keys() == copy.keys():
        for key, twin in _pairs(value, copy):
            yield from _changes(key, twin, f"{path}, a key")
            yield from _changes(value[key], copy[key], f"{path}[{key!r}]")
    elif same_class and isinstance(value, (set, frozenset)) and value == copy:
        for part, twin in _pairs(value, copy):
            yield from _changes(part, twin, f"{path}, an element")
    elif same_class and isinstance(value, (list, tuple)) and len(value) == len(copy):
        for index, (part, twin) in enumerate(zip(value, copy, strict=True)):
            yield from _changes(part, twin, f"{path}[{index}]")
    elif not _same(value, copy, same_class):
        yield f"{path}: {reprlib.repr(value)} ({_kind(value)}) is read as {reprlib.repr(copy)} ({_kind(copy)})"


def _same(value: Any, copy: Any, same_class: bool) -> bool:
    if same_class and getattr(type(value), "__eq__", None) is object.__eq__:
        return vars(value) == vars(copy) if hasattr(value, "__dict__") else True
    number = type(value) in (int, float) and type(copy) in (int, float)  # not an enum that is one
    return (same_class or number) and bool(value == copy) and _same_zone(value, copy)


def _same_zone(value: Any, copy: Any) -> bool:
    """Return whether times have the same offset, and none has rules (such as for summer time) that the other lacks."""
    if not isinstance(value, (datetime, time)) or value.tzinfo is None or value.tzinfo == copy.tzinfo:
        return True
    # A zone with rules has no offset without a date.
    mine, theirs = value.tzinfo.utcoffset(None), copy.tzinfo.utcoffset(None)
    return bool(value.utcoffset() == copy.utcoffset() and mine == theirs)


def _pairs(values: Iterable[Any], copies: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each of the values with its equal among the copies."""
    twins = {each: each for each in copies}
    return ((each, twins[each]) for each in values)


def _kind(value: Any) -> str:
    return type(value).__qualname__

"""Strict marshmallow fields for many values: list, set, tuple and dict.

Rules of this file:
1. Reading stops at the first wrong item, and the error has its position in the path: ``items[3].name``.
2. The keys of a dict are data: their letter case is kept, and a key that is not a str is written as its text.
3. No set or dict is built of received values before ``hashes.py`` has checked them, unless their hashes are safe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from marshmallow import ValidationError

from catga_sync.serialization.fielderrors import fail, path_of_key
from catga_sync.serialization.fields.base import StrictField, TextualField
from catga_sync.serialization.fields.hashes import DICT, SET, check_hashes, crowded
from catga_sync.serialization.fields.number import IntField
from catga_sync.serialization.fields.text import StrField
from catga_sync.serialization.reader import CountCode, ReadCode
from catga_sync.serialization.roundtrip import Code
from catga_sync.serialization.source import Uncertain
from catga_sync.serialization.writer import WriteCode, unfit

__all__ = ["DictField", "ListField", "SetField", "TupleField"]


def _collect(items: Iterable[Any]) -> list[Any]:
    """Return a list of what an iterator yields; an error that it raises gets the position of the item."""
    out: list[Any] = []
    try:
        for item in items:
            out.append(item)  # noqa: PERF402  # len(out) is the position of the wrong item
    except ValidationError as exc:
        raise ValidationError({len(out): exc.messages}) from exc
    return out


class ListField(StrictField):
    """A list, or a tuple of any length. Immutable once bound, thread-safe."""

    kind = "list"

    def __init__(self, item: StrictField, collection: Any = list, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item = item
        self.collection = collection

    def inner(self) -> tuple[StrictField, ...]:
        return (self.item,)

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, self.collection):
            fail(self.collection.__name__, value)
        return _collect(map(self.item.dump_value, value))

    def from_wire(self, raw: Any) -> Any:
        if not isinstance(raw, list):
            fail("list", raw)
        items = _collect(map(self.item.load_value, raw))
        return items if self.collection is list else self.collection(items)

    def round_trips_if(self, code: Code, v: str) -> str:
        item = code.variable()
        return f"type({v}) is {code.name(self.collection)} and all({code.item(self.item, item)} for {item} in {v})"

    def write_code(self, code: WriteCode, v: str) -> str:
        item = code.variable()
        texts = f"comma([{code.item(self.item, item)} for {item} in {v}])"
        return f"'[' + {texts} + ']' if type({v}) is {code.name(self.collection)} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        item = code.variable()
        values = f"[{code.item(self.item, item)} for {item} in {v}]"
        made = values if self.collection is list else f"{code.name(self.collection)}({values})"
        return f"{made} if type({v}) is list else unfit({v})"

    def count_code(self, code: CountCode, v: str) -> str:
        item = code.variable()
        count = code.count(self.item, item)
        if count.isdigit():
            return "0" if count == "0" else f"{count} * len({v})"
        return f"sum([{count} for {item} in {v}])"


class SetField(ListField):
    """A set or a frozenset: a list on the wire, in any order."""

    kind = "set"

    def to_wire(self, value: Any) -> Any:
        items = super().to_wire(value)
        if not self.item.safe_hashes:
            check_hashes(value, SET)
        return items

    def from_wire(self, raw: Any) -> Any:
        if not isinstance(raw, list):
            fail("list", raw)
        return self._make(_collect(map(self.item.load_value, raw)))

    def _make(self, items: list[Any]) -> Any:
        try:
            if not self.item.safe_hashes:
                check_hashes(items, SET)
            return self.collection(items)
        except TypeError as exc:
            raise ValidationError(f"has an item that cannot be in a {self.collection.__name__}") from exc

    def round_trips_if(self, code: Code, v: str) -> str:
        # A set that would be refused on the wire has to be refused in a local call, too.
        spread = "" if self.item.safe_hashes else f" and not {code.name(crowded)}({v}, {code.name(SET)})"
        return super().round_trips_if(code, v) + spread

    def write_code(self, code: WriteCode, v: str) -> str:
        if self.item.inner():  # their hashes may be the application's
            raise Uncertain
        text = f"({super().write_code(code, v)})"
        return text if self.item.safe_hashes else f"{code.name(self._if_sparse)}({text}, {v})"

    @staticmethod
    def _if_sparse(text: str, value: Any) -> str:
        check_hashes(value, SET)
        return text

    def read_code(self, code: ReadCode, v: str) -> str:
        if self.item.inner():
            raise Uncertain
        item = code.variable()
        values = f"[{code.item(self.item, item)} for {item} in {v}]"
        return f"{code.name(self._make)}({values}) if type({v}) is list else unfit({v})"


class TupleField(StrictField):
    """A tuple of a fixed length: a list on the wire. ``tuple[X, ...]`` is a ``ListField``."""

    kind = "tuple"

    def __init__(self, items: tuple[StrictField, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items = items
        self._dumpers = tuple(item.dump_value for item in items)
        self._loaders = tuple(item.load_value for item in items)

    def inner(self) -> tuple[StrictField, ...]:
        return self.items

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, tuple):
            fail("tuple", value)
        return self._convert(self._dumpers, value)

    def from_wire(self, raw: Any) -> Any:
        if not isinstance(raw, list):
            fail("list", raw)
        return tuple(self._convert(self._loaders, raw))

    def _convert(self, converters: tuple[Any, ...], items: Any) -> list[Any]:
        if len(items) != len(converters):
            raise ValidationError(f"expected {len(converters)} items, not {len(items)}")
        return _collect(convert(item) for convert, item in zip(converters, items, strict=True))

    def round_trips_if(self, code: Code, v: str) -> str:
        tests = [f"type({v}) is {code.name(tuple)}", f"len({v}) == {len(self.items)}"]
        return " and ".join(tests + [code.part(item, f"{v}[{at}]") for at, item in enumerate(self.items)])

    def write_code(self, code: WriteCode, v: str) -> str:
        parts = [("", item, f"v[{at}]") for at, item in enumerate(self.items)]
        write = code.function(self, lambda: code.parts("[", parts, "]"))
        return f"{write}({v}) if type({v}) is tuple and len({v}) == {len(self.items)} else unfit({v})"

    def read_code(self, code: ReadCode, v: str) -> str:
        read = code.function(self, lambda: self._read_items(code))
        return f"{read}({v}) if type({v}) is list and len({v}) == {len(self.items)} else unfit({v})"

    def _read_items(self, code: ReadCode) -> tuple[str, tuple[str, ...]]:
        names = [code.variable() for _ in self.items]
        lines = tuple(f"{name} = v[{at}]" for at, name in enumerate(names))
        values = "".join(f"{code.item(item, name)}, " for item, name in zip(self.items, names, strict=True))
        return f"({values})", lines

    def count_code(self, code: CountCode, v: str) -> str:
        return code.total(self, lambda: [code.count(item, f"v[{at}]") for at, item in enumerate(self.items)], v)


class DictField(StrictField):
    """A dict. Immutable once bound, thread-safe."""

    kind = "dict"

    def __init__(self, key: StrictField, value: StrictField, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.key = key
        self.value = value

    def inner(self) -> tuple[StrictField, ...]:
        return (self.key, self.value)

    def to_wire(self, value: Any) -> Any:
        if not isinstance(value, dict):
            fail("dict", value)
        texts, items = _convert(value, self.key.key_to_wire, self.value.dump_value)
        if not self.key.safe_hashes:
            check_hashes(value, DICT)
        return _dict(texts, items)

    def from_wire(self, raw: Any) -> Any:
        if not isinstance(raw, dict):
            fail("object", raw)
        return self._make(*_convert(raw, self.key.key_from_wire, self.value.load_value))

    def _make(self, keys: list[Any], items: list[Any]) -> dict[Any, Any]:
        if not self.key.safe_hashes:
            check_hashes(keys, DICT)
        return _dict(keys, items)

    def round_trips_if(self, code: Code, v: str) -> str:
        if not self.key.round_trip_keys:
            raise Uncertain
        key, item = code.variable(), code.variable()
        tests = f"{code.test(self.key, key)} and {code.item(self.value, item)}"
        spread = "" if self.key.safe_hashes else f" and not {code.name(crowded)}({v}, {code.name(DICT)})"
        return f"type({v}) is {code.name(dict)} and all({tests} for {key}, {item} in {v}.items()){spread}"

    def write_code(self, code: WriteCode, v: str) -> str:
        key, item = code.variable(), code.variable()
        text, value = code.text(self.key, key), code.item(self.value, item)
        if isinstance(self.key, IntField):
            text = f"""'"' + {text} + '"'"""
        elif not isinstance(self.key, (StrField, TextualField)):
            # The JSON of such a value is not the text of such a key, but made of the same values.
            text = f"({text}, quote({code.name(self.key.key_to_wire)}({key})))[1]"
        if self.key.round_trip_keys and self.key.safe_hashes:
            texts = f"comma([{text} + ':' + {value} for {key}, {item} in {v}.items()])"
        else:
            keys, values = f"[{text} for {key} in {v}]", f"[{value} for {item} in {v}.values()]"
            texts = f"{code.name(self._joined)}({v}, {keys}, {values})"
        return f"'{{' + {texts} + '}}' if type({v}) is dict else unfit({v})"

    def _joined(self, value: dict[Any, Any], keys: list[str], texts: list[str]) -> str:
        if not self.key.safe_hashes:
            check_hashes(value, DICT)
        if len(set(keys)) != len(keys):
            unfit(value)
        return ",".join([f"{key}:{text}" for key, text in zip(keys, texts, strict=True)])

    def read_code(self, code: ReadCode, v: str) -> str:
        key, item = code.variable(), code.variable()
        value = code.item(self.value, item)
        if isinstance(self.key, StrField):
            made = f"{{{key}: {value} for {key}, {item} in {v}.items()}}"
        else:
            code.value(self.key, key)
            keys = f"[{code.name(self.key.key_from_wire)}({key}) for {key} in {v}]"
            made = f"{code.name(self._make)}({keys}, [{value} for {item} in {v}.values()])"
        return f"{made} if type({v}) is dict else unfit({v})"

    def count_code(self, code: CountCode, v: str) -> str:
        item = code.variable()
        count = code.count(self.value, item)
        if count.isdigit():
            return f"{int(count) + 1} * len({v})"
        return f"(len({v}) + sum([{count} for {item} in {v}.values()]))"


def _convert(items: dict[Any, Any], convert_key: Any, convert_value: Any) -> tuple[list[Any], list[Any]]:
    keys: list[Any] = []
    values: list[Any] = []
    key = None
    try:
        for key, item in items.items():
            keys.append(convert_key(key))
            values.append(convert_value(item))
    except ValidationError as exc:
        raise ValidationError({path_of_key(key): exc.messages}) from exc
    return keys, values


def _dict(keys: list[Any], values: list[Any]) -> dict[Any, Any]:
    out = dict(zip(keys, values, strict=True))
    if len(out) != len(keys):
        raise ValidationError("has two keys that mean the same")
    return out

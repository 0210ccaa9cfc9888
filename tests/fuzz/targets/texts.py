"""JSON text, the texts of .NET's scalars, type names and contracts."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from catga_sync.errors import RegistrationError, SerializationError
from catga_sync.messages import MAX_NAME, Query, message
from catga_sync.serialization import MAX_DEPTH, MessageRegistry, jsontext
from catga_sync.serialization.contract import Form, contract_text, differences
from catga_sync.serialization.dotnet import Name, parse_name
from catga_sync.serialization.fields.isotext import (
    format_timedelta,
    parse_date,
    parse_datetime,
    parse_time,
    parse_timedelta,
)
from catga_sync.serialization.typenames import check_name, short_name, split_assembly
from tests.fuzz.target import Finding, Target, join, pure, split

__all__ = ["TARGETS"]


# -- JSON -------------------------------------------------------------------------------------------------------------


def _json(data: bytes) -> bool:
    accepted = False
    for flags in itertools.product((False, True), repeat=3):
        options = dict(zip(("decimals", "signed_zeros", "unique_keys"), flags, strict=True))
        try:
            value = jsontext.loads(data, **options)
        except SerializationError as exc:
            _is_rightly_refused(data, str(exc))
            continue
        accepted = True
        if _depth(value) > MAX_DEPTH:
            raise Finding("JSON that is nested too deeply was read")
        if not options["decimals"] and json.loads(data) != value:
            raise Finding(f"the standard library reads another value than {value!a}")
        try:
            written = jsontext.dumps(value)
        except SerializationError as exc:
            # The one thing that JSON can say and UTF-8 cannot: half of a surrogate pair.
            if "surrogate" not in str(exc):
                raise
            continue
        if jsontext.loads(written, **options) != value:
            raise Finding(f"read again it is another: {written!a}")
    return accepted


def _is_rightly_refused(data: bytes, text: str) -> None:
    if len(text) > 200 or not text.isprintable():
        raise Finding(f"a refusal repeats what it refuses: {text!a}")
    if "levels deep" not in text:
        return
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if _depth(value) <= MAX_DEPTH:
        raise Finding("JSON that is not nested too deeply was refused as such")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, (list, dict))]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _json_seeds() -> list[bytes]:
    deep = [b"[" * depth + b"]" * depth for depth in (31, 32, 33, 400)]
    return [
        *deep,
        b'{"a":[1,-0,-0.0,1.5e3,true,null,"\\u00e9\\ud83d\\ude00\\\\\\""],"b":{"c":"[{"}}',
        b'{"a":1,"a":2,"\xc3\xa9":"\xf0\x9f\x98\x80"}',
        b'[1e999,1E-9,123456789012345678901234567890,"\\ud800",NaN]',
        b"\xef\xbb\xbf[]",
    ]


# -- .NET's scalars ---------------------------------------------------------------------------------------------------

#: Of the seconds, and not of an offset.
_FRACTION = re.compile(r"(?:^|[Tt ])[0-9]{2}:[0-9]{2}:[0-9]{2}\.([0-9]{1,7})")
_PARSERS = (parse_datetime, parse_date, parse_time)


def _times(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    accepted = False
    for parse in _PARSERS:
        try:
            value: Any = parse(text)
        except (ValueError, OverflowError):
            continue
        accepted = True
        digits = _FRACTION.search(text)
        if parse is not parse_date and value.microsecond != (int(f"{digits[1]:0<7}"[:6]) if digits else 0):
            raise Finding(f"another fraction was read: {value!r}")
        if parse(value.isoformat()) != value:
            raise Finding(f"read again it is another: {value!r}")
    try:
        span = parse_timedelta(text)
    except (ValueError, OverflowError):
        return accepted
    if parse_timedelta(format_timedelta(span)) != span or not isinstance(span, timedelta):
        raise Finding(f"read again it is another: {span!r}")
    return True


_TIMES = (
    b"2024-02-29T12:30:00.1234567Z", b"2024-02-29 12:30:00+01:00", b"2024-02-29", b"0001-01-01T00:00:00",
    b"9999-12-31T23:59:59.9999999-23:59:59.999999", b"12:30", b"23:59:59.9999999+0530", b"-10675199.02:48:05.4775808",
    b"00:00:01", b"1.00:00:00",
)  # fmt: skip


# -- names ------------------------------------------------------------------------------------------------------------

_DOTNET = "Acme.Page`1[[Acme.User, Acme.Users, Version=1.0.0.0]], Acme.Paging, Version=2.0.0.0"


@message(name=_DOTNET, aliases=["Page"])
@dataclass(frozen=True)
class GetPage(Query[dict[str, list[int]]]):
    number: int = 0


def _prepare_names(place: str) -> Any:
    registry = MessageRegistry()
    entry = registry.register(GetPage)
    known = {entry.name, short_name(entry.name), *entry.aliases}

    def check(data: bytes) -> bool:
        text = data.decode("utf-8", "replace")[:MAX_NAME]  # a longer one is refused before anything looks at it
        head, assembly = split_assembly(text)
        if head + assembly != text:
            raise Finding("the two parts of a name are not the name")
        short = short_name(text)
        if short_name(short) != short:
            raise Finding(f"the short form of a short name is another: {short!a}")
        parsed = parse_name(text)
        if parsed is not None and _arguments(parsed) > MAX_DEPTH + 1:
            raise Finding("a name is nested too deeply")
        found = registry.find(text)
        if found is not None and not {text, short} & known:
            raise Finding(f"a name that nobody has was found: {text!a}")
        accepted = entry.accepts_response(text)
        try:
            check_name(text, "Page")
        except RegistrationError as exc:
            if not str(exc).isprintable():
                raise Finding(f"a refusal is not one printable line: {str(exc)!a}") from exc
        return accepted or found is not None

    return check


def _arguments(name: Name) -> int:
    return 1 + max(map(_arguments, name.arguments), default=0)


_NAMES = (
    _DOTNET,
    "Page",
    "System.Collections.Generic.Dictionary`2[[System.String, mscorlib],[System.Int32[], mscorlib]], mscorlib",
    "System.Collections.Generic.IDictionary`2[System.String,System.Collections.Generic.List`1[System.Int64]]",
    "System.Nullable`1[[System.Int32]][,]",
    "list[dict[str, int]]",
    "A`1[[" * 40 + "]]" * 40,
)


def _contracts(data: bytes) -> bool:
    ours, theirs = (part.decode("utf-8", "replace") for part in split(data, 2))
    told = differences(ours, theirs)
    if not all(line.isprintable() for line in told):
        raise Finding(f"a difference is not one printable line: {told!a}")
    if differences(ours, ours) or (ours == theirs and told):
        raise Finding("a contract differs from itself")
    return not told


def _contract_seeds() -> list[bytes]:
    form: Form = {"userId": ("3f2a9c01", False, True), "größe, in: |": ("77b0c2d4", True, False)}
    more: Form = {**form, "page": ("1c4e5a90", True, False), "": ("1c4e5a90", False, True)}
    first, second = contract_text(form, {}), contract_text(more, form)
    return [join(first, first), join(first, second), join(second, first), join(first, "%110000;:a!|")]


TARGETS = (
    Target("json-text", pure(_json), _json_seeds, ("[[", "]]", "\\u", "\\ud800", "-0", "1e400", "NaN", '{"a":', "}")),
    Target("dotnet-times", pure(_times), lambda: _TIMES, ("T", "Z", ".9999999", "+14:00", "24:00", "-", "\u0661")),
    Target(
        "type-names",
        _prepare_names,
        lambda: [name.encode() for name in _NAMES],
        ("[[", "]]", "],[", ", ", "`1", "[]", "System.Nullable`1", "System.Int32", "Version=", "+"),
    ),
    Target("contracts", pure(_contracts), _contract_seeds, ("%2c;", "%110000;", "?", "!", "|", ":", ",")),
)

"""Reads and writes JSON, more strictly than the standard library.

Input: UTF-8 without a byte order mark, at most 32 levels deep, no NaN or Infinity, no number that a float cannot hold.
``-0``, as .NET writes a negative zero, keeps its sign where the caller asks for it.
Output: the same, compact. A ``Decimal`` is written as a number with all its digits, which the standard library cannot.

Rules of this file:
1. Only ``SerializationError`` is raised, whatever the bytes are.
2. No error repeats a value: it may be secret or long.

Every function is pure and thread-safe.
"""

from __future__ import annotations

import functools
import json
import json.scanner
import re
import secrets
from decimal import Decimal
from typing import Any, NoReturn

from catga_sync.errors import SerializationError
from catga_sync.serialization.jsonscan import check_depth

__all__ = ["dumps", "loads", "loads_plain"]


def loads(raw: bytes, *, decimals: bool = False, signed_zeros: bool = False, unique_keys: bool = False) -> Any:
    """
    Read JSON.

    Args:
        raw: UTF-8 without a byte order mark.
        decimals: True reads every number with a fraction or an exponent as a ``Decimal`` and not as a ``float``.
        signed_zeros: True reads ``-0`` as such a number and not as the integer 0.
        unique_keys: True refuses an object that has a property twice; False takes the last one.

    Raises:
        SerializationError: The bytes are not such JSON.
    """
    try:
        if raw[:3] == b"\xef\xbb\xbf":
            raise SerializationError("JSON: starts with a byte order mark; send UTF-8 without one")
        text = str(raw, "utf-8")
        check_depth(raw)
        signed_zeros = signed_zeros and _MINUS_ZERO.search(raw) is not None
        return _DECODERS[decimals, unique_keys, signed_zeros].decode(text)
    except SerializationError:
        raise
    except UnicodeDecodeError as exc:
        raise SerializationError(f"JSON: not UTF-8 at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise SerializationError(f"JSON: {exc.msg} at character {exc.pos}") from exc
    except RecursionError as exc:
        raise SerializationError("JSON: nested too deeply") from exc
    except (ValueError, ArithmeticError) as exc:
        # An integer beyond Python's limit of digits, a Decimal beyond its exponents.
        raise SerializationError("JSON: a number has too many digits") from exc
    except Exception as exc:
        raise SerializationError(f"JSON: cannot be read ({type(exc).__name__})") from exc


def loads_plain(raw: bytes, *, decimals: bool, signed_zeros: bool) -> tuple[Any, int]:
    """
    Read compact JSON fast; some of what ``loads`` refuses is read, and some of what it reads is refused.

    Not refused are a property that is in an object twice, and numbers that are infinite as a float: the caller has to
    test them. No text that is read contains half of a surrogate pair.

    Args:
        raw, decimals, signed_zeros: As for ``loads``.

    Returns:
        The data, and a number: the JSON has at most so many properties.

    Raises:
        Exception: Any, as the caller uses ``loads`` for such JSON.
    """
    text = str(raw, "utf-8")
    # One character is found much faster than two.
    if ("\\" in text and "\\u" in text) or "\n" in text or "\r" in text or "\t" in text:
        raise ValueError
    if signed_zeros and _MINUS_ZERO.search(raw) is not None:
        raise ValueError
    check_depth(raw)
    data, end = _PLAIN[decimals](text, 0)
    if end != len(text):
        raise ValueError
    # A colon after a property comes after a quote or white space. Such colons inside of texts are counted, too.
    return data, text.count('":') + (text.count(" :") if " " in text else 0)


def dumps(value: Any) -> bytes:
    """
    Write JSON: compact, UTF-8, non-ASCII characters as they are.

    Args:
        value: None, bool, int, float, Decimal, str, and lists, tuples and dicts of them.

    Raises:
        SerializationError: Part of the value is not JSON, or it is nested too deeply.
    """
    try:
        text = _ENCODER.encode(value)
        if _TOKEN in text:
            text = _DECIMALS.sub(r"\1", text)
        raw = text.encode("utf-8")
    except SerializationError:
        raise
    except UnicodeEncodeError as exc:
        raise SerializationError("JSON: a text contains half of a surrogate pair, which UTF-8 cannot encode") from exc
    except RecursionError as exc:
        raise SerializationError("JSON: nested too deeply, or it contains itself") from exc
    except TypeError as exc:
        raise SerializationError(f"JSON: {exc}") from exc
    except ValueError as exc:
        raise SerializationError(
            "JSON: NaN, Infinity, an integer of thousands of digits and a value that contains itself cannot be written"
        ) from exc
    check_depth(raw)
    return raw


# A Decimal goes through the encoder as a string that starts with this mark; mark and quotes are then removed. The mark
# never leaves the process, so no text from outside contains it. The C encoder ignores a float subclass with its own
# __repr__, and an encoder in Python would be twenty times slower.
_TOKEN = f"decimal:{secrets.token_hex(16)}:"
_DECIMALS = re.compile(f'"{_TOKEN}([^"]*)"')


def _default(value: Any) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise SerializationError("JSON: a Decimal that is NaN or Infinity cannot be written")
        return f"{_TOKEN}{value}"
    raise TypeError(f"{type(value).__name__} is not plain JSON data")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)


def _constant(token: str) -> NoReturn:
    raise SerializationError(f"JSON: {token} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if number - number != 0.0:  # infinite
        raise SerializationError("JSON: a number is too large for a float")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SerializationError("JSON: an object has a property twice")
    return found


def _integer(text: str, zero: float | Decimal) -> int | float | Decimal:
    return zero if text == "-0" else int(text)


# There is no negative integer zero, so a decoder that keeps the sign returns a float or Decimal. Calling a Python
# function for each integer is slow, so this is done only for texts that may contain such a zero.
_MINUS_ZERO = re.compile(rb"-0(?=[,\]}\s]|\Z)")

_DECODERS = {
    (decimals, unique_keys, signed_zeros): json.JSONDecoder(
        parse_float=Decimal if decimals else _float,
        parse_int=functools.partial(_integer, zero=Decimal("-0") if decimals else -0.0) if signed_zeros else None,
        parse_constant=_constant,
        object_pairs_hook=_unique if unique_keys else None,
    )
    for decimals in (False, True)
    for unique_keys in (False, True)
    for signed_zeros in (False, True)
}

_PLAIN = {
    decimals: json.scanner.make_scanner(  # what JSONDecoder itself calls
        json.JSONDecoder(parse_float=Decimal if decimals else None, parse_constant=_constant)  # type: ignore[arg-type]
    )
    for decimals in (False, True)
}

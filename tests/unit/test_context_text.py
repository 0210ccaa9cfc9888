"""The application's own context as a line of text: what can be written can be read, and the rest is refused by name."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync._context_text import read_context, write_context
from catga_sync.context import CallContext
from tests.tables import every_row
from tests.thorough import thorough

KEYS = st.from_regex(r"[A-Za-z0-9._\-]{1,64}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@thorough(800)
@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_what_is_written_is_read(entries: dict[str, str]) -> None:
    text = write_context(entries)
    assert read_context(text) == entries
    assert text is None or (text.isascii() and text.isprintable())


def test_the_line_is_what_the_page_says() -> None:
    assert write_context({"tenant": "a b", "user": "J\u00f6rg,=%"}) == "tenant=a%20b,user=J%C3%B6rg%2C%3D%25"
    assert write_context({}) is None
    assert dict(read_context(" a=1, b=2")) == {"a": "1", "b": "2"}


@thorough(800)
@given(st.text(max_size=60))
def test_any_other_line_is_read_or_refused(text: str) -> None:
    try:
        entries = read_context(text)
    except ValueError:
        return
    assert read_context(write_context(entries)) == entries


@every_row(
    ("context", "text"),
    [
        ({f"k{n}": "" for n in range(33)}, "context: 33 entries, and a call carries at most 32"),
        ({"": "1"}, "context: the key ''"),
        ({"a b": "1"}, "context: the key 'a b'"),
        ({"\u00e4": "1"}, "context: the key '\u00e4'"),
        ({"k" * 65: "1"}, "context: the key"),
        ({"tenant": "x" * 1_025}, "context: the value of 'tenant' has 1025 characters"),
        ({"tenant": "\ud800"}, "context: the value of 'tenant' has half a surrogate pair"),
        ({f"k{n}": "x" * 1_000 for n in range(5)}, "context: 5019 bytes in all, and a call carries at most 4096"),
        ({f"k{n}": "\u2603" * 400 for n in range(2)}, "context: 7207 bytes in all"),
    ],
)
def test_more_than_a_call_carries_is_refused_by_name(context: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=r"^context: ") as caught:
        write_context(context)
    assert text in str(caught.value)


@every_row(
    ("context", "text"),
    [
        ("tenant=1", "context: give a mapping of text to text, not str"),
        ([("tenant", "1")], "context: give a mapping of text to text, not list"),
        ({1: "a"}, "context: a key is text, not int"),
        ({"tenant": 7}, "context: the value of 'tenant' is text, not int"),
        ({"tenant": None}, "context: the value of 'tenant' is text, not NoneType"),
    ],
)
def test_what_is_no_text_is_refused_by_name(context: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        write_context(context)
    assert str(caught.value) == text


def test_the_bounds_hold_for_what_is_inherited_as_well() -> None:
    around = write_context({f"k{n}": "1" for n in range(30)})
    with pytest.raises(ValueError, match="33 entries, those of the call around this one included"):
        write_context({"a": "", "b": "", "c": ""}, around)
    replaced = read_context(write_context({f"k{n}": "2" for n in range(30)}, around))
    assert set(replaced.values()) == {"2"}


def test_an_error_shows_no_value() -> None:
    for context in ({"tenant": "hunter2" * 200}, {f"k{n}": "hunter2" * 100 for n in range(9)}, {"a b": "hunter2"}):
        with pytest.raises(ValueError, match="context") as caught:
            write_context(context)
        assert "hunter2" not in str(caught.value)


def test_a_call_shows_no_context_and_survives_a_pickle() -> None:
    call = CallContext("r").with_context({"tenant": "hunter2"})
    assert "hunter2" not in repr(call)
    assert pickle.loads(pickle.dumps(call)).context == {"tenant": "hunter2"}
    with pytest.raises(TypeError):
        call.context["tenant"] = "other"  # type: ignore[index]


def test_a_nested_call_inherits_and_its_own_entries_are_its_own() -> None:
    outer = CallContext("r").with_context({"tenant": "a", "user": "1"})
    inner = outer.nested("s", None).with_context({"user": "2", "step": "x"})
    assert dict(inner.context) == {"tenant": "a", "user": "2", "step": "x"}
    assert dict(outer.context) == {"tenant": "a", "user": "1"}

"""The source of a generated function: what it calls, and that nothing stands between a caller and it for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import Query
from catga_sync.serialization import MessageRegistry
from catga_sync.serialization.source import Source


@dataclass(frozen=True)
class Ask(Query[str]):
    text: str


def test_a_function_that_would_only_call_another_is_that_one():
    source = Source()
    name = source.function("double", lambda: ("v * 2", ()))
    double = source.compile(f"({name}(v))")
    assert double is source.compile(f"{name}(v)")
    assert (double(2), source.compile(f"{name}(v) + 1")(2)) == (4, 5)
    assert source.compile(f"{name}(v)", ("v = v + 1",))(2) == 6


def test_a_class_of_plain_fields_is_tested_by_one_function():
    test = MessageRegistry().ensure(Ask).codec
    assert test.round_trips(Ask("tea"))
    assert not test.round_trips(Ask(1))  # type: ignore[arg-type]
    assert "isascii" in test.round_trips.__code__.co_names

"""What is told of JSON before it is parsed."""

import json
import tracemalloc

import pytest

from catga_sync.errors import SerializationError
from catga_sync.serialization import check_depth, check_values, count_values
from tests.tables import every_row

BLOCK = 64 * 1024


@every_row(
    ("value", "count"),
    [(1, 0), ([], 1), ([1], 1), ([1, 2, 3], 3), ({"a": 1}, 2), ({"a": 1, "b": []}, 5), ([[], {}], 4), ("a,b", 1)],
)
def test_values_are_counted_by_what_stands_before_them(value, count):
    assert count_values(json.dumps(value).encode()) == count


def test_more_values_than_the_limit_are_refused():
    raw = json.dumps([0] * 100).encode()
    check_values(raw, 100)
    with pytest.raises(SerializationError, match="more than 99 values"):
        check_values(raw, 99)


@every_row("text", [",:[{" * 50, '",",' * 50, "\\" * 51 + "[,", '\\",\\', "x" * BLOCK + ",,,,"])
def test_what_stands_in_a_text_is_no_value(text):
    check_values(json.dumps([text, {text: text}]).encode(), 5)


@every_row("shift", range(8))
@every_row("text", ["[", '"[', "\\[", '\\"[', "]"])
def test_a_text_may_stand_across_the_blocks_in_which_texts_are_looked_for(shift, text):
    raw = b" " * shift + json.dumps([text * 40_000, [text]] * 4).encode()
    check_depth(raw, 2)
    check_values(raw, 13)
    with pytest.raises(SerializationError, match="levels"):
        check_depth(raw, 1)
    with pytest.raises(SerializationError, match="values"):
        check_values(raw, 9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "item", [b'  ""', b'"a" ', b'"[" "]"  ', b'"]"]]', b"[],", b'{"a":1},', b'"ab",', b'\\"', b"[", b'"'], ids=repr
)
def test_neither_count_needs_much_memory(item):
    raw = b"[" * 40 + item * (1_000_000 // len(item))
    tracemalloc.start()
    try:
        for check in (check_depth, check_values):
            with pytest.raises(SerializationError):
                check(raw, 10)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(raw) + 4_000_000
    finally:
        tracemalloc.stop()

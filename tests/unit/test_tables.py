"""``tests.tables.every_row``: a table in one test misses no wrong row, and names each."""

from __future__ import annotations

import pytest

from tests.tables import every_row


def test_every_row_is_tried_once() -> None:
    tried = []

    @every_row("number, text", [(1, "a"), (2, "b")])
    @every_row("flag", [True, False])
    def walk(number: int, text: str, flag: bool) -> None:
        tried.append((number, text, flag))

    walk()
    assert tried == [(1, "a", True), (1, "a", False), (2, "b", True), (2, "b", False)]


def fails_as_assert(value: int) -> None:
    assert value % 2 == 0


def fails_as_another_error(value: int) -> None:
    [None][value % 2]


def fails_as_pytest_does(value: int) -> None:
    if value % 2:
        pytest.fail(f"{value} is odd")


def skips(value: int) -> None:
    if value % 2:
        pytest.skip("not here")


@pytest.mark.parametrize("test", [fails_as_assert, fails_as_another_error, fails_as_pytest_does, skips])
def test_all_wrong_rows_are_named_and_no_other(test: object) -> None:
    walk = every_row("value", [10, 11, 12, 13], ids=["ten", "eleven", "twelve", "thirteen"])(test)
    with pytest.raises(AssertionError, match="2 of 4 rows are wrong") as caught:
        walk()
    named = [line for line in str(caught.value).splitlines() if line.startswith("row ")]
    assert named == ["row 1 (eleven): {'value': 11}", "row 3 (thirteen): {'value': 13}"]


def test_a_wrong_row_of_the_inner_table_is_named_with_that_of_the_outer_one() -> None:
    @every_row("left", [1, 2])
    @every_row("right", [3, 4])
    def walk(left: int, right: int) -> None:
        assert left + right != 6

    with pytest.raises(AssertionError, match=r"(?s)1 of 2 rows.*row 1: {'left': 2}.*1 of 2 rows.*row 1: {'right': 4}"):
        walk()


@every_row("rows", [[], [(1,)], [(1, 2, 3)], [(1, 2), ()]])
def test_a_table_that_is_empty_or_has_gaps_is_refused(rows: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="each has a value for left, right"):
        every_row("left, right", rows)


@pytest.fixture
def three() -> int:
    return 3


@every_row("value", [1, 2])
def test_what_is_no_column_is_a_fixture(value: int, three: int) -> None:
    assert value < three

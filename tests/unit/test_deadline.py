"""One deadline for a whole call."""

import math

import pytest

from catga_sync.deadline import NESTED_MARGIN, Deadline, check_timeout
from tests.tables import every_row


@every_row(("given", "seconds"), [(1, 1.0), (0.25, 0.25), (0, 0.0), (-3, -3.0)])
def test_a_timeout_is_a_number_of_seconds(given, seconds):
    checked = check_timeout(given)
    assert checked == seconds
    assert type(checked) is float


@every_row("wrong", ["1", None, True, False, [], 1j, object()])
def test_anything_else_is_a_type_error_that_starts_with_its_name(wrong):
    with pytest.raises(TypeError, match=r"^timeout: give seconds"):
        check_timeout(wrong)


def test_nan_is_no_number_of_seconds():
    with pytest.raises(ValueError, match=r"^timeout: NaN"):
        check_timeout(math.nan)


def test_zero_or_less_has_expired_already():
    assert Deadline.after(0.0).expired
    assert Deadline.after(-1.0).expired
    assert Deadline.after(-1.0).remaining() < 0
    assert not Deadline.after(1000.0).expired


def test_a_nested_deadline_is_never_later_than_the_outer_one():
    outer = Deadline.after(10.0)
    assert outer.nested(1000.0).at == pytest.approx(outer.at - NESTED_MARGIN)
    assert outer.nested(1.0).at < outer.at - NESTED_MARGIN
    assert outer.nested(-1.0).expired


def test_nesting_deeper_takes_the_margin_each_time():
    outer = Deadline.after(10.0)
    assert outer.nested(99.0).nested(99.0).at == pytest.approx(outer.at - 2 * NESTED_MARGIN)


def test_a_deadline_is_a_value():
    assert Deadline(5.0) == Deadline(5.0)
    assert hash(Deadline(5.0)) == hash(Deadline(5.0))
    with pytest.raises(AttributeError):
        Deadline(5.0).at = 6.0

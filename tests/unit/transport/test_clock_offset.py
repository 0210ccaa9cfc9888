"""The clock of another node, as exchanges show it: how far it is off, and how a round trip splits."""

from __future__ import annotations

import random

import pytest

from catga_sync.transport.clock_offset import FARTHEST, WINDOW, ClockOffset
from tests.tables import every_row

NOW = 1_700_000_000.0


def exchange(
    clock: ClockOffset, at: float, *, ahead: float = 0.0, out: float = 0.001, work: float = 0.01, back: float = 0.001
) -> tuple[float, float] | None:
    """Sample an exchange that takes so long on its way out, there and back, with a clock there that is so far ahead."""
    received = at + out + ahead
    times = f"{received * 1e6:.0f},{(received + work) * 1e6:.0f}"
    return clock.sample(at, at + out + work + back, times)


def test_an_unknown_clock_has_no_offset():
    assert ClockOffset().offset is None


@every_row("ahead", [0.0, 5.0, -5.0, 3_600.0])
def test_a_symmetric_exchange_shows_the_offset_exactly(ahead: float):
    clock = ClockOffset()
    found = exchange(clock, NOW, ahead=ahead)
    assert clock.offset == pytest.approx(ahead, abs=1e-5)
    assert found == (pytest.approx(0.002, abs=1e-5), 0.0)


def test_what_is_longer_than_the_smallest_delay_is_the_backlog():
    clock = ClockOffset()
    exchange(clock, NOW)
    assert exchange(clock, NOW + 1, out=0.301) == (pytest.approx(0.002, abs=1e-5), pytest.approx(0.3, abs=1e-5))


def test_the_sample_with_the_smallest_delay_has_the_offset():
    clock = ClockOffset()
    exchange(clock, NOW, ahead=2.0)
    exchange(clock, NOW + 1, ahead=2.0, out=1.0)  # half a second off by itself
    assert clock.offset == pytest.approx(2.0, abs=1e-5)


def test_an_old_sample_is_forgotten_after_two_windows_at_most():
    clock = ClockOffset()
    exchange(clock, NOW, ahead=2.0)
    exchange(clock, NOW + WINDOW, ahead=3.0, out=0.1)
    assert clock.offset == pytest.approx(2.0, abs=1e-5)
    exchange(clock, NOW + 2 * WINDOW + 1, ahead=3.0, out=0.003)
    assert clock.offset == pytest.approx(3.001, abs=1e-5)


def test_after_a_pause_nothing_old_counts():
    clock = ClockOffset()
    exchange(clock, NOW, ahead=2.0)
    assert exchange(clock, NOW + 10 * WINDOW, ahead=4.0, out=0.05, back=0.05) == (pytest.approx(0.1, abs=1e-5), 0.0)
    assert clock.offset == pytest.approx(4.0, abs=1e-5)


def test_a_clock_here_that_is_set_back_begins_anew():
    clock = ClockOffset()
    exchange(clock, NOW)
    exchange(clock, NOW - 1_000.0, ahead=1_000.0, out=0.01, back=0.01)
    assert clock.offset == pytest.approx(1_000.0, abs=1e-5)


@every_row(
    "text",
    [
        "",
        ",",
        "1",
        "1,2,3",
        "a,b",
        "-1,2",
        "1.0,2.0",
        "٣,٤",
        "nan,nan",
        "1" * 17 + "," + "1" * 17,
        "9" * 5_000 + ",1",
        f"{(NOW + 0.002) * 1e6:.0f},{(NOW + 0.001) * 1e6:.0f}",  # responded before it was received
        f"{NOW * 1e6:.0f},{(NOW + 60) * 1e6:.0f}",  # took longer than the exchange
        f"{(NOW + FARTHEST + 9) * 1e6:.0f},{(NOW + FARTHEST + 9) * 1e6:.0f}",
        "0,0",
    ],
)
def test_a_text_that_cannot_be_true_changes_nothing(text: str):
    clock = ClockOffset()
    assert clock.sample(NOW, NOW + 0.01, text) is None
    assert clock.offset is None


def test_no_part_of_a_round_trip_is_ever_negative():
    rng, clock = random.Random(4), ClockOffset()
    at = NOW
    for _ in range(2_000):
        at += rng.expovariate(1.0)
        found = exchange(
            clock, at, ahead=rng.gauss(0, 5), out=rng.expovariate(100), work=rng.random(), back=rng.expovariate(100)
        )
        assert found is not None
        assert min(found) >= 0.0

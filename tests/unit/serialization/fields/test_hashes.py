"""Values that were chosen to collide in a set or a dict are refused before one is built of them."""

from __future__ import annotations

import random
import subprocess
import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from catga_sync.errors import ErrorCode, SerializationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Request
from catga_sync.serialization import dumps
from catga_sync.serialization.fields.hashes import DICT, FEW, SET, build, check_hashes
from tests.tables import every_row
from tests.unit.serialization.codecs import codec_of

#: The hash of an int is the rest of a division by this.
P = sys.hash_info.modulus


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclass(frozen=True)
class Numbers(Request[set[int]]):
    numbers: set[int]


def texts(count: int) -> list[str]:
    return [str(P * (j + 1)) for j in range(count)]


def numbers(count: int) -> list[int]:
    return [P * (j + 1) for j in range(count)]


def as_keys(made: Iterable[Any]) -> dict[Any, int]:
    return dict.fromkeys(made, 1)


FLOODS = [
    (set[int], numbers),
    (frozenset[int], numbers),
    (set[Any], numbers),
    (set[Decimal], texts),
    (set[float], lambda count: [2.0 ** (61 * j) for j in range(-16, 17)][:count]),
    (set[UUID], lambda count: [str(UUID(int=each)) for each in numbers(count)]),
    (set[tuple[int, str]], lambda count: [[each, "a"] for each in numbers(count)]),
    (set[tuple[int, ...]], lambda count: [[1, each] for each in numbers(count)]),
    (set[frozenset[int]], lambda count: [[each] for each in numbers(count)]),
    (set[Point], lambda count: [{"x": each} for each in numbers(count)]),
    (dict[int, int], lambda count: as_keys(texts(count))),
    (dict[Decimal, int], lambda count: as_keys(texts(count))),
    (dict[UUID, int], lambda count: as_keys([str(UUID(int=each)) for each in numbers(count)])),
    (list[set[int]], lambda count: [[1, 2], numbers(count)]),
    (dict[str, dict[int, int]], lambda count: {"a": as_keys(texts(count))}),
    (set[int] | None, numbers),
]


@every_row(("annotation", "chosen"), FLOODS)
def test_values_of_one_hash_are_refused_and_a_few_of_them_are_not(annotation, chosen):
    codec = codec_of(annotation)
    codec.decode(dumps(chosen(FEW)))
    with pytest.raises(SerializationError, match="values that collide"):
        codec.decode(dumps(chosen(2_000)))


def walking_keys() -> list[int]:
    """Return keys of different hashes: most fill the cells of a long walk, and the others walk there."""
    bits, count = 12, 2_730
    mask, sitting = (1 << bits) - 1, count * 7 // 10
    place, cell = {}, 1
    for j in range(sitting):
        place[cell] = j
        cell = (cell * 5 + 1) & mask
    rng = random.Random(1)
    seats, walkers = list(place), set()
    while len(walkers) < count - sitting:
        key = cell = rng.choice(seats)
        # Five bits more decide the next cell. Past the 30th bit nothing is left, and all walk alike.
        for shift in range(5, 5 * 7, 5):
            top = shift + bits - 5
            more = [
                o for o in range(32 if top < 30 else 1) if (cell * 5 + ((key | o << top) >> shift) + 1) & mask in place
            ]
            if not more:
                break
            key |= rng.choice(more) << top
            cell = (cell * 5 + (key >> shift) + 1) & mask
        else:
            if place[cell] < sitting // 2 and key > mask:
                walkers.add(key)
    return seats + sorted(walkers)


def test_keys_of_different_hashes_that_lead_through_the_same_cells_are_refused():
    keys = walking_keys()
    assert len(set(map(hash, keys))) == len(keys)
    with pytest.raises(SerializationError, match="values that collide"):
        codec_of(dict[int, int]).decode(dumps(as_keys(list(map(str, keys)))))
    random.Random(1).shuffle(keys)
    # In another order the walkers sit first, and the way is free.
    codec_of(dict[int, int]).decode(dumps(as_keys(list(map(str, keys)))))


def spans(count: int) -> Iterator[list[Any]]:
    rng = random.Random(2)
    yield [rng.getrandbits(64) for _ in range(count)]
    yield rng.sample(range(count * 10), count)
    yield list(range(-count, 0))
    for shift in range(1, 64, 9):
        yield [j << shift for j in range(count)]
    yield [1_700_000_000_000 + j << 22 for j in range(count)]
    yield [j * 86_400 for j in range(count)]
    for part in (3, 64, 100):
        yield [j / part for j in range(count)]
        yield [Decimal(j) / part for j in range(count)]
    yield [UUID(int=(j << 96) + 0x11ED_A1EB_0242_AC12) for j in range(count)]
    yield [datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=j) for j in range(count)]
    yield [timedelta(microseconds=j) for j in range(count)]
    yield [(x, y) for x in range(50) for y in range(count // 50)]
    yield list(product([-1, -2, 0], repeat=5))  # -1 and -2 have the same hash
    yield [1, 2, 3] * count


@pytest.mark.parametrize("count", [100, 2_000])
def test_regular_values_pass(count):
    for values in spans(count):
        check_hashes(values, SET)
        check_hashes(values, DICT)


@pytest.mark.parametrize(("annotation", "chosen"), [(set[int], set), (dict[int, int], as_keys)])
def test_what_would_not_be_read_is_not_written(annotation, chosen):
    codec = codec_of(annotation)
    codec.encode(chosen(range(2_000)))
    with pytest.raises(SerializationError, match="values that collide"):
        codec.encode(chosen(numbers(2_000)))


def test_a_local_call_refuses_what_a_remote_one_refuses():
    local = Mediator()
    local.register(Numbers, lambda request: request.numbers)
    assert local.send(Numbers(set(range(2_000)))).unwrap() == set(range(2_000))
    result = local.send(Numbers(set(numbers(2_000))))
    assert result.code is ErrorCode.INVALID_ARGUMENT
    assert "values that collide" in result.error


@every_row(("count", "shift"), [(1, 0), (5, 3), (20, 40), (300, 0), (4_000, 3), (4_000, 40), (60_000, 3)])
def test_a_set_is_laid_out_as_the_check_believes(count, shift):
    values = [j << shift for j in range(-count // 3, count)]
    random.Random(count).shuffle(values)
    assert build(array("q", map(hash, values)), SET)[1].tolist() == list(map(hash, set(values)))


def test_a_dict_grows_as_the_check_believes():
    grown, believed, found, size = [], [], {}, sys.getsizeof({0: 0})
    for used in range(2_000):
        found[used] = 0
        if sys.getsizeof(found) != size:
            grown.append(used)
            size = sys.getsizeof(found)
    cells = 8
    while DICT.capacity(cells) < 2_000:
        believed.append(DICT.capacity(cells))
        cells = next(2**bits for bits in range(64) if 2**bits >= DICT.growth(believed[-1]))
    assert grown == believed


def hashed(seed: int) -> list[str]:
    code = (
        "from datetime import date, datetime; import enum; E = enum.Enum('E', 'A');"
        "print(hash('a'), hash(b'a'), hash(date(2026, 1, 1)), hash(E.A))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": str(seed)}, capture_output=True, check=True
    )
    return out.stdout.split()


def test_hashes_that_are_called_safe_have_a_secret():
    assert all(one != other for one, other in zip(hashed(1), hashed(2), strict=True))

"""Who owns which key."""

import datetime as dt
import decimal
import enum
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass

import pytest

from catga_sync.routing.ring import Ring, key_bytes, points_for
from tests.ring_shares import ring_shares
from tests.tables import every_row

KEYS = [str(number).encode() for number in range(20_000)]


def ring(size, prefix="node-"):
    return Ring({f"{prefix}{number}": points_for(1.0) for number in range(size)})


@every_row(
    ("key", "owner"),
    [
        ("", "node-8"),
        ("7", "node-6"),
        ("user-1", "node-8"),
        ("user-2", "node-7"),
        ("Ada", "node-6"),
        ("\u20ac", "node-0"),
    ],
)
def test_the_owner_of_a_key_is_a_part_of_the_protocol(key, owner):
    """Another result is no matter of taste: two versions of the library in one cluster would disagree."""
    assert ring(10).owner(key_bytes(key)) == owner


def test_another_process_with_another_hash_seed_finds_the_same_owners():
    program = """
from catga_sync.routing.ring import Ring, key_bytes
ring = Ring({f"node-{number}": 64 for number in range(20)})
print(" ".join(ring.owner(key_bytes(f"user-{number}")) for number in range(200)))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    here = ring(20)
    assert outputs == {(" ".join(here.owner(key_bytes(f"user-{number}")) for number in range(200)) + "\n").encode()}


def test_the_order_of_the_members_does_not_matter():
    names = [f"node-{number}" for number in range(10)]
    one, other = Ring(dict.fromkeys(names, 64)), Ring(dict.fromkeys(reversed(names), 64))
    assert [one.owner(key) for key in KEYS[:500]] == [other.owner(key) for key in KEYS[:500]]


each_size = pytest.mark.parametrize("size", [3, 10, *(pytest.param(size, marks=pytest.mark.slow) for size in (4, 30))])


def moves(before, after):
    return [(old, new) for key in KEYS if (old := before.owner(key)) != (new := after.owner(key))]


@each_size
def test_a_node_that_joins_takes_its_share_and_nothing_else_moves(size):
    moved = moves(ring(size), ring(size + 1))
    assert {new for _, new in moved} == {f"node-{size}"}
    assert len(moved) / len(KEYS) == pytest.approx(1 / (size + 1), rel=0.2)
    assert len({old for old, _ in moved}) == size  # every other node gives some


@each_size
def test_a_node_that_leaves_gives_its_share_to_all_others_and_nothing_else_moves(size):
    before = ring(size)
    after = Ring({node_id: points for node_id, points in before.members.items() if node_id != "node-1"})
    moved = moves(before, after)
    assert {old for old, _ in moved} == {"node-1"}
    assert len(moved) / len(KEYS) == pytest.approx(1 / size, rel=0.2)
    assert len({new for _, new in moved}) == size - 1


@pytest.mark.parametrize("prefix", ["node-", pytest.param("web.shop.svc.cluster.local:", marks=pytest.mark.slow)])
def test_what_moves_is_within_a_fifth_of_ideal_from_3_to_100_nodes(prefix):
    """The share of a node is what moves when it comes and when it goes: nothing else moves."""
    for size in range(3, 102):
        shares = ring_shares(ring(size, prefix))
        assert sum(shares.values()) == pytest.approx(1.0)
        assert min(shares.values()) > 0.8 / size
        assert max(shares.values()) < 1.2 / size


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_shares_it_computes_are_those_that_keys_get(size):
    it = ring(size)
    owners = [it.owner(key) for key in KEYS]
    for node_id, share in ring_shares(it).items():
        assert owners.count(node_id) / len(KEYS) == pytest.approx(share, abs=0.01)


def test_a_node_of_three_times_the_weight_owns_three_times_as_much():
    shares = ring_shares(Ring({"a": points_for(1.0), "b": points_for(3.0), "c": points_for(1.0)}))
    assert shares["b"] == pytest.approx(0.6, rel=0.1)


@every_row(("weight", "points"), [(1.0, 64), (0.5, 32), (0.001, 1), (2, 128), (1000.0, 4096)])
def test_points_follow_the_weight_within_bounds(weight, points):
    assert points_for(weight) == points


@every_row("size", [2, 3, 10, 40])
@every_row("present", [1, 2, 7])
def test_among_some_of_its_nodes_a_key_has_the_owner_it_would_have_in_a_ring_of_these(size, present):
    whole = ring(size)
    some = {f"node-{number}": 64 for number in range(0, size, max(1, size // present))}
    alone = Ring(some)
    for key in KEYS[:300]:
        assert whole.owner_among(key, some) == alone.owner(key)


def test_a_single_point_owns_all():
    assert {Ring({"a": 1}).owner(key) for key in KEYS[:100]} == {"a"}
    assert ring_shares(Ring({"a": 1})) == {"a": 1.0}


class Color(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    HIGH = 7


class Name(str):
    __slots__ = ()

    def __str__(self):
        return "another"


@dataclass(frozen=True)
class Place:
    city: str
    number: int


@every_row(
    ("key", "expected"),
    [
        ("user-1", b"user-1"),
        ("\u00e9\ud800", "\u00e9\ud800".encode("utf-8", "surrogatepass")),
        (Name("x"), b"x"),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"x"), b"x"),
        (7, b"7"),
        (-1, b"-1"),
        (True, b"True"),
        (1.5, b"1.5"),
        (decimal.Decimal("1.50"), b"1.50"),
        (uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        (dt.date(2024, 2, 29), b"2024-02-29"),
        (Color.RED, b"r"),
        (Level.HIGH, b"7"),
        (("a", 1), b"a\x1f1"),
        (["a", None], b"a\x1fNone"),
        (frozenset({"b", "a", "c"}), b"a\x1fb\x1fc"),
        ({"b": 1, "a": 2}, b"a\x1f2\x1fb\x1f1"),
        (Place("Paris", 3), b"Paris\x1f3"),
    ],
)
def test_a_key_has_the_same_text_everywhere(key, expected):
    assert key_bytes(key) == expected


@pytest.mark.parametrize("key", [object(), [object()]])
def test_a_key_without_a_text_of_its_own_is_refused(key):
    with pytest.raises(TypeError, match="no text except its address"):
        key_bytes(key)

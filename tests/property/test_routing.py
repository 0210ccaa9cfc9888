"""The routers, for whatever loads, members, keys and turns of events there are."""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections import Counter

from hypothesis import assume, given
from hypothesis import strategies as st

from catga_sync import CatgaResult, ClusterNode, Delivery, ErrorCode
from catga_sync.routing import create_router, router_names
from catga_sync.routing.ring import Ring
from tests.contracts.router import GetThing, HeldClock, Keyless
from tests.ring_shares import ring_shares
from tests.thorough import thorough

OK = CatgaResult.success()
CUT_OFF = CatgaResult.failure("cut off", ErrorCode.UNAVAILABLE, delivery=Delivery.UNKNOWN)

ids = st.text("abc0123.-_:", min_size=1, max_size=4)
loads = st.floats(0, 100) | st.sampled_from([0.0, 50.0, 100.0])
weights = st.none() | st.floats(0.1, 10)
node_dicts = st.dictionaries(ids, st.tuples(loads, weights), min_size=1, max_size=12)
members = st.dictionaries(ids, st.integers(1, 80), min_size=1, max_size=12)
keys = st.binary(max_size=12)


def nodes_of(said):
    return tuple(
        ClusterNode(node_id, None, load=load, metadata={} if weight is None else {"weight": weight})
        for node_id, (load, weight) in said.items()
    )


# -- every router -----------------------------------------------------------------------------------------------------


@thorough(400)
@given(
    name=st.sampled_from(router_names()),
    snapshots=st.lists(node_dicts, min_size=1, max_size=6),
    events=st.lists(st.tuples(st.integers(0, 5), st.sampled_from("kn"), st.integers(0, 3)), max_size=40),
)
def test_a_router_takes_one_of_the_nodes_whatever_has_happened(name, snapshots, events):
    router = create_router(name)
    completed = getattr(router, "completed", None)
    tuples = [nodes_of(said) for said in snapshots]
    for which, kind, end in events:
        nodes = tuples[which % len(tuples)]
        request = GetThing(end) if kind == "k" else Keyless()
        node = router.route(request, nodes)
        assert any(node is each for each in nodes)
        if completed is not None and end:
            if end == 3:
                router.withdraw(node, request)
            else:
                completed(node, request, (OK, CUT_OFF)[end - 1], 0.01 * end)


# -- weighted round robin ---------------------------------------------------------------------------------------------


@thorough(400)
@given(said=node_dicts, window=st.integers(1, 200), seed=st.integers(0, 100), swapped=st.booleans())
def test_in_any_window_a_node_has_its_share_give_or_take_one_turn_of_each(said, window, seed, swapped):
    """
    In a stretch of virtual time a node of weight w has its share of turns, off by less than one. A window of calls is
    such a stretch, whose length is off by less than one turn of each node.
    """
    router = create_router("weighted-round-robin", rng=random.Random(seed))
    nodes = nodes_of(said)
    weight = {node.node_id: max(1.0, 100.0 - node.load) * node.metadata.get("weight", 1.0) for node in nodes}
    total = sum(weight.values())
    taken = [router.route(Keyless(), nodes_of(said) if swapped else nodes).node_id for _ in range(window + 50)]
    for begin in (0, 17, 50):
        counts = Counter(taken[begin : begin + window])
        for node_id, its in weight.items():
            share = its / total
            assert abs(counts[node_id] - share * window) < 1 + share * len(nodes) + 1e-6


# -- the ring ---------------------------------------------------------------------------------------------------------


def slow_owner(of: dict[str, int], key: bytes) -> str:
    """Return the owner as the definition says it, point by point."""
    points = [
        (number / 2.0**64, node_id)
        for node_id, count in of.items()
        for number in [
            number
            for block in range(10)
            for number in struct.unpack(
                ">8Q",
                hashlib.blake2b(node_id.encode(), salt=block.to_bytes(8, "big"), person=b"catga-node").digest(),
            )
        ][:count]
    ]
    looks = struct.unpack(">8Q", hashlib.blake2b(key, person=b"catga-key").digest())
    return min(((point - look / 2.0**64) % 1.0, node_id) for look in looks for point, node_id in points)[1]


@thorough(800)
@given(of=members, key=keys)
def test_a_key_is_owned_by_the_point_that_follows_soonest_after_a_look(of, key):
    assert Ring(of).owner(key) == slow_owner(of, key)


@thorough(800)
@given(of=members, newcomer=ids, points=st.integers(1, 80), some=st.lists(keys, max_size=50))
def test_a_newcomer_takes_keys_and_nothing_else_moves(of, newcomer, points, some):
    assume(newcomer not in of)
    before, after = Ring(of), Ring({**of, newcomer: points})
    assert all(after.owner(key) in (before.owner(key), newcomer) for key in some)


@thorough(800)
@given(of=members, chosen=st.sets(st.integers(0, 11), min_size=1), key=keys)
def test_whoever_is_absent_is_passed_over_as_if_there_were_no_such_node(of, chosen, key):
    names = sorted(of)
    present = {names[number % len(names)] for number in chosen}
    assert Ring(of).owner_among(key, present) == Ring({name: of[name] for name in present}).owner(key)


@thorough(800)
@given(of=members)
def test_all_keys_are_owned(of):
    shares = ring_shares(Ring(of))
    assert set(shares) == set(of)
    assert math.isclose(sum(shares.values()), 1.0)
    assert min(shares.values()) > 0


# -- least connections ------------------------------------------------------------------------------------------------


@thorough(800)
@given(
    snapshots=st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=3),
    events=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=60),
)
def test_least_connections_takes_a_node_with_the_fewest_calls(snapshots, events):
    router = create_router("least-connections")
    tuples = [tuple(ClusterNode(name, None) for name in sorted(names)) for names in snapshots]
    under_way: list[ClusterNode] = []
    for which, end in events:
        nodes = tuples[which % len(tuples)]
        counts = Counter(node.node_id for node in under_way)
        node = router.route(Keyless(), nodes)
        assert counts[node.node_id] == min(counts[each.node_id] for each in nodes)
        under_way.append(node)
        if end < len(under_way):
            router.completed(under_way.pop(end), Keyless(), CUT_OFF, 0.1)


# -- two choices ------------------------------------------------------------------------------------------------------


class Finagle:
    """``PeakEwma.scala``, in nanoseconds as there, with our penalty for failures."""

    penalty = float(2**47 - 1)

    def __init__(self, decay, now):
        self.decay, self.stamp, self.cost, self.pending = decay * 1e9, now, 0.0, 0

    def observe(self, rtt, now):
        since = max(now - self.stamp, 0.0)
        self.stamp = now
        weight = math.exp(-since / self.decay)
        self.cost = rtt if rtt > self.cost else self.cost * weight + rtt * (1.0 - weight)

    def load(self, now):
        self.observe(0.0, now)
        if self.cost == 0.0 and self.pending:
            return self.penalty + self.pending
        return self.cost * (self.pending + 1)


@thorough(200)
@given(
    size=st.integers(1, 5),
    decay=st.sampled_from([1.0, 10.0]),
    seed=st.integers(0, 10_000),
    events=st.lists(
        st.tuples(st.floats(0.0, 5.0), st.booleans(), st.integers(0, 9), st.floats(0.0001, 3.0), st.booleans()),
        max_size=60,
    ),
)
def test_two_choices_are_finagles(size, decay, seed, events):
    clock, lots = HeldClock(), random.Random(seed)
    router = create_router("p2c-ewma", decay=decay, failure_penalty=0.5, clock=clock, rng=random.Random(seed))
    nodes = tuple(ClusterNode(f"n{number}", None) for number in range(size))
    model = {node.node_id: Finagle(decay, clock.seconds * 1e9) for node in nodes}
    under_way: list[ClusterNode] = []
    for passed, ends, which, took, fails in events:
        clock.seconds += passed
        now = clock.seconds * 1e9
        if ends and under_way:
            node = under_way.pop(which % len(under_way))
            router.completed(node, Keyless(), CUT_OFF if fails else OK, took)
            model[node.node_id].pending -= 1
            model[node.node_id].observe((max(took, 0.5) if fails else took) * 1e9, now)
            continue
        one = two = 0
        if size > 1:
            one, two = int(lots.random() * size), int(lots.random() * (size - 1))
            two += two >= one
        first, second = (model[nodes[each].node_id].load(now) for each in (one, two))
        assume(first == second or abs(first - second) > 1e-6 * first)  # nearly equal ones may fall either way
        node = router.route(Keyless(), nodes)
        assert node is nodes[two if second < first else one]
        model[node.node_id].pending += 1
        under_way.append(node)

"""Whatever happens to a simulated cluster, results tell the truth and nothing runs twice that may not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync import Delivery, Mediator, NodeStatus, Query, Request
from catga_sync.idempotency import MemoryIdempotency
from catga_sync.testing import Fault, Simulation
from tests.thorough import thorough


@dataclass(frozen=True)
class Order(Request[str]):
    """May not run twice."""

    text: str = "x"


@dataclass(frozen=True)
class Look(Query[str]):
    """May."""

    text: str = "x"


def handlers(mediator: Mediator) -> None:
    mediator.register(Order, lambda request: request.text)
    mediator.register(Look, lambda request: request.text)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


NODES = st.sampled_from("abc")
ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([Order(), Look()]), st.integers(1, 5)),
    st.tuples(st.just("run"), st.floats(0, 40)),
    st.tuples(st.just("script"), st.sampled_from(Fault), NODES, st.integers(1, 4), st.floats(0, 4)),
    st.tuples(st.sampled_from(["kill", "restart", "pause", "resume"]), NODES),
    st.tuples(st.sampled_from(["store down", "store up", "store empty", "cut off", "heal"])),
)


@thorough(320)
@given(seed=st.integers(0, 2**32), script=st.lists(ACTIONS, max_size=25))
def test_no_plain_request_runs_twice_and_every_result_tells_the_truth(seed, script):  # type: ignore[no-untyped-def]
    with Simulation(seed=seed) as sim:
        nodes = {name: sim.add_node(name, handlers) for name in "abc"}
        client = sim.add_client()
        sim.run(2)
        for action, *details in script:
            if action == "send":
                for _ in range(details[1]):
                    client.send(details[0])
            elif action == "run":
                sim.run(details[0])
            elif action == "script":
                fault, target, times, seconds = details
                sim.network.script(fault, target=target, times=times, seconds=seconds)
            elif action in ("kill", "restart", "pause", "resume"):
                getattr(nodes[details[0]], action)()
            elif action == "store empty":
                sim.store.empty()
            elif action == "cut off":
                sim.network.partition("ab", ["c", "client"])
            elif action == "heal":
                sim.network.heal()
            else:
                sim.store.is_down = action == "store down"
        for node in nodes.values():
            node.resume()
        sim.assert_at_most_once()


def cluster(sim: Simulation):  # type: ignore[no-untyped-def]
    nodes = [sim.add_node(name, handlers) for name in "abc"]
    client = sim.add_client()
    sim.run(2)
    return nodes, client


def test_the_same_seed_gives_the_same_run():
    def run() -> list[object]:
        with Simulation(seed=7, router="p2c-ewma") as sim:
            (a, *_), client = cluster(sim)
            sim.network.script(Fault.SLOW, times=20, seconds=0.3)
            a.kill()
            for _ in range(50):
                client.send(Look())
            return [(outcome.request_id, outcome.result.node_id, outcome.result.attempts) for outcome in sim.results]

    assert run() == run()


def test_queries_outlive_any_single_node():
    with Simulation(seed=1) as sim:
        (a, b, _), client = cluster(sim)
        a.kill()
        b.pause()
        assert all(client.send(Look()) for _ in range(30))


def test_a_paused_node_costs_one_plain_request_and_is_then_avoided_until_it_answers():
    with Simulation(seed=1) as sim:
        (a, *_), client = cluster(sim)
        a.pause()
        results = [client.send(Order()) for _ in range(60)]
        assert [result.delivery for result in results if not result] == [Delivery.UNKNOWN]
        a.resume()
        sim.run(20)
        assert {client.send(Order()).node_id for _ in range(9)} == {"a", "b", "c"}
        sim.assert_at_most_once()


def test_what_a_paused_node_finds_when_it_goes_on_is_not_run_for_callers_that_have_hung_up():
    with Simulation(seed=1) as sim:
        (a, b, c), client = cluster(sim)
        for node in (b, c):
            node.kill()
        a.pause()
        assert not client.send(Order())
        sim.run(10)
        a.resume()
        assert sim.executions == []


def test_with_a_shared_store_plain_requests_outlive_a_lost_answer_and_still_run_once():
    with Simulation(seed=1, shared_idempotency=MemoryIdempotency()) as sim:
        _, client = cluster(sim)
        # The nodes of a simulation do not tell what they share, so the same id is sent again by hand.
        sim.network.script(Fault.DROP_RESPONSE)
        assert client.send(Order(), request_id="a" * 32).delivery is Delivery.UNKNOWN
        assert client.send(Order(), request_id="a" * 32)
        assert len(sim.executions) == 1


def test_a_store_that_is_down_or_emptied_costs_no_call_and_is_complete_again_after_a_heartbeat():
    with Simulation(seed=1) as sim:
        _, client = cluster(sim)
        sim.store.is_down = True
        sim.run(60)
        assert all(client.send(Order()) for _ in range(9))
        sim.store.is_down = False
        sim.store.empty()
        sim.run(sim.heartbeat_interval + 1)
        assert [node.status for node in client.nodes()] == [NodeStatus.ONLINE] * 3
        # An emptied store makes them suspects for a moment, and no more.
        assert {event.kind.name for event in client.events()} == {"NODE_JOINED", "NODE_SUSPECTED"}


def test_a_killed_node_is_gone_after_its_time_and_back_right_after_its_restart():
    with Simulation(seed=1) as sim:
        (a, *_), client = cluster(sim)
        a.kill()
        sim.run(sim.heartbeat_timeout + 2)
        assert [node.node_id for node in client.nodes()] == ["b", "c"]
        a.restart()
        sim.run(2)
        assert {client.send(Order()).node_id for _ in range(6)} == {"a", "b", "c"}


def test_a_duplicate_runs_once():
    with Simulation(seed=1) as sim:
        _, client = cluster(sim)
        sim.network.script(Fault.DUPLICATE, times=10)
        assert all(client.send(Order()) for _ in range(10))
        assert len(sim.executions) == 10


def test_a_partition_is_survived_on_both_sides():
    with Simulation(seed=1) as sim:
        (a, *_), client = cluster(sim)
        sim.network.partition("a", ["b", "c", "client"])
        assert {client.send(Order()).node_id for _ in range(20)} == {"b", "c"}
        assert a.send(Order()).is_success
        sim.network.heal()
        sim.run(5)
        assert {client.send(Order()).node_id for _ in range(9)} == {"a", "b", "c"}
        sim.assert_at_most_once()


def test_retries_stay_within_their_budget():
    with Simulation(seed=1, timeout=0.2) as sim:
        _, client = cluster(sim)
        sim.network.script(Fault.REFUSE, times=10**9)
        began = sim.clock.monotonic()
        results = [client.send(Look()) for _ in range(2000)]
        attempts = sum(len(result.attempts) for result in results)
        seconds = sim.clock.monotonic() - began
        assert attempts <= 1.1 * len(results) + 10 * (seconds + 10)

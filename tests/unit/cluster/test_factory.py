"""Putting a cluster mediator together: what is refused, what is shared, and that nothing starts."""

import random
import threading
from dataclasses import dataclass

import pytest

from catga_sync.cluster.factory import assemble, create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.context import CallContext
from catga_sync.deadline import Deadline
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import ConfigurationError, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query
from catga_sync.options import ClusterOptions
from catga_sync.receiver.request import RawRequest
from catga_sync.testing import FakeClock
from catga_sync.transport import ExchangeFailed
from catga_sync.transport.http.probe import Probe, ProbeOutcome


@dataclass(frozen=True)
class Ask(Query[int]):
    """A query that no node here handles."""


def test_constructing_one_starts_nothing_and_makes_no_file(tmp_path):
    before = set(threading.enumerate())
    made = create_cluster(
        Mediator(), node_id="a", endpoint="http://localhost:1", discovery=f"sqlite:///{tmp_path}/nodes.sqlite3"
    )
    assert isinstance(made, ClusterMediator)
    assert set(threading.enumerate()) == before
    assert list(tmp_path.iterdir()) == []


def test_options_and_overrides_go_together():
    made = create_cluster(Mediator(), ClusterOptions(node_id="a", metadata={"zone": "x"}), node_id="b")
    assert (made.node.node_id, dict(made.node.metadata)) == ("b", {"zone": "x"})


@pytest.mark.parametrize("local", [None, 7, Mediator, "mediator"])
def test_the_first_argument_is_the_local_mediator(local):
    with pytest.raises(ConfigurationError, match=r"^local: "):
        create_cluster(local)


@pytest.mark.parametrize("options", [{"node_id": "a"}, "a", 7, ClusterOptions])
def test_the_second_is_a_cluster_options(options):
    with pytest.raises(ConfigurationError, match=r"^options: "):
        create_cluster(Mediator(), options)


def test_without_an_endpoint_it_is_a_pure_client():
    made = create_cluster(Mediator(), node_id="a", discovery=MemoryDiscovery())
    assert made.node.endpoint is None


def test_a_router_of_the_user_s_own_needs_route():
    with pytest.raises(ConfigurationError, match=r"^router: "):
        create_cluster(Mediator(), router=object())


def test_an_unknown_router_suggests_the_nearest():
    with pytest.raises(ConfigurationError, match=r"^router: .*did you mean 'round-robin'"):
        create_cluster(Mediator(), router="round-robbin")


class Silent:
    """A channel, and a probe, that take note of what they are asked."""

    def __init__(self):
        self.asked = []

    def exchange(self, node, path, headers, body, expires, renew=None):
        self.asked.append((path, expires))
        raise ExchangeFailed("refused", sent=False)

    def ask(self, node_id, endpoint, timeout):
        self.asked.append(node_id)
        return Probe(ProbeOutcome.SILENT)

    def tidy(self, nodes):
        pass

    def close(self):
        pass


def test_a_clock_a_channel_and_a_probe_of_the_callers_own_take_the_place_of_the_real_ones():
    clock, channel, probe, slept = FakeClock(), Silent(), Silent(), []
    options = ClusterOptions(
        node_id="a",
        endpoint="http://a:80",
        insecure=True,
        discovery="static",
        peers={"b": "http://b.invalid:80"},
        request_timeout=7.0,
    )
    before = set(threading.enumerate())
    parts = assemble(
        Mediator(),
        options,
        clock=clock,
        sleep=slept.append,
        rng=random.Random(1),
        channel=channel,
        probe=probe,
        background=False,
    )
    parts.housekeeping.step()
    assert probe.asked == ["b"]
    call = CallContext("1" * 32, Deadline.after(7.0, clock.monotonic))
    result = parts.dispatcher.send(Ask(), parts.mediator.registry.ensure(Ask), call)
    assert result.code is ErrorCode.UNAVAILABLE
    assert channel.asked == [("/catga/cluster/invoke", clock.monotonic() + 7.0)] * 3
    assert len(slept) == 2
    raw = RawRequest("GET", "/catga/cluster/node", {}, lambda size: b"", None)
    assert parts.mediator.receiver.handle(raw).status == 200
    assert set(threading.enumerate()) == before

"""Putting a cluster mediator together: what is refused, what is shared, and that nothing starts."""

import threading

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.mediator import Mediator
from catga_sync.options import ClusterOptions


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

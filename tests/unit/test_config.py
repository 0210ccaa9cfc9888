"""Putting a cluster mediator together: what is refused, what is shared, and that nothing starts."""

import threading

import pytest

from catga_sync import config
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.config import create_cluster
from catga_sync.discovery import MemoryDiscovery, SqliteDiscovery, StaticDiscovery
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


def discovery_of(**options):
    return config._discovery(ClusterOptions(**options))


def test_the_default_is_one_file_for_each_cluster_of_the_user():
    made = discovery_of(cluster_name="shop")
    assert isinstance(made, SqliteDiscovery)
    assert made.path.name == "shop.sqlite3"
    assert made.path.parent == discovery_of().path.parent
    assert discovery_of().path.name == "default.sqlite3"


def test_a_sqlite_url_names_a_file():
    assert str(discovery_of(discovery="sqlite:////srv/my%20nodes.db").path) == "/srv/my nodes.db"
    assert str(discovery_of(discovery="sqlite:///nodes.db").path) == "nodes.db"


def test_peers_make_a_static_list():
    made = discovery_of(peers={"b": "http://localhost:2"})
    assert isinstance(made, StaticDiscovery)
    assert [record.node.node_id for record in made.nodes()] == ["b"]


def test_memory_means_the_mediators_of_this_process_and_of_one_cluster():
    made = discovery_of(discovery="memory://x", cluster_name="a")
    assert isinstance(made, MemoryDiscovery)
    assert discovery_of(discovery="memory://x", cluster_name="a") is made
    assert discovery_of(discovery="memory://y", cluster_name="a") is not made
    assert discovery_of(discovery="memory://x", cluster_name="b") is not made


def test_an_object_is_used_as_it_is():
    store = MemoryDiscovery()
    assert discovery_of(discovery=store) is store


def test_an_object_without_a_method_is_told_which_one():
    class Half:
        register = deregister = nodes = print

    with pytest.raises(ConfigurationError, match=r"^discovery: .* has no method close\(\)"):
        discovery_of(discovery=Half())


def test_a_router_of_the_user_s_own_needs_route():
    with pytest.raises(ConfigurationError, match=r"^router: "):
        create_cluster(Mediator(), router=object())


def test_an_unknown_router_suggests_the_nearest():
    with pytest.raises(ConfigurationError, match=r"^router: .*did you mean 'round-robin'"):
        create_cluster(Mediator(), router="round-robbin")

"""The fixed list of peers: the part of the contract that it can have, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from catga_sync.discovery.static import StaticDiscovery
from catga_sync.errors import ConfigurationError
from tests.contracts.discovery import LONG, ids, record
from tests.tables import every_row

PEERS = {"node-2": "http://host-2:5000", "node-3": "https://host-3:5000/"}


def test_the_peers_are_there_from_the_beginning_and_may_handle_anything() -> None:
    store = StaticDiscovery(PEERS)
    assert ids(store) == ["node-2", "node-3"]
    assert [each.node.endpoint for each in store.nodes()] == ["http://host-2:5000", "https://host-3:5000"]
    assert all(each.node.handles is None and each.age is None for each in store.nodes())


def test_what_is_declared_of_a_peer_stands_in_its_node() -> None:
    url = "http://host-2:5000"
    peers = {
        "a": {"url": url, "signed": False, "handles": ("x",)},
        "b": {"url": url, "signed": True},
        "c": {"url": url},
    }
    declared = [each.node for each in StaticDiscovery(peers).nodes()]
    assert [(each.signed, each.handles) for each in declared] == [(False, {"x"}), (True, None), (None, None)]


def test_nothing_that_a_node_does_changes_the_list() -> None:
    store = StaticDiscovery(PEERS)
    before = store.nodes()
    store.register(record("node-1"), LONG)
    store.register(record("node-2", "http://elsewhere:5000"), LONG)
    store.deregister("node-2", "")
    store.close()
    store.close()
    assert store.nodes() == before


def test_the_list_is_a_copy() -> None:
    peers = dict(PEERS)
    store = StaticDiscovery(peers)
    peers.clear()
    assert ids(store) == ["node-2", "node-3"]


@every_row(
    ("peers", "says"),
    [
        (["http://host-2:5000"], "peers: give a mapping"),
        ("http://host-2:5000", "peers: give a mapping"),
        ({"node 2": "http://host-2:5000"}, "peers: give 1 to 128 characters"),
        ({"node-2": "host-2:5000"}, r"peers\['node-2'\]: give http://host:port"),
        ({"node-2": "http://user:secret@host-2:5000"}, r"peers\['node-2'\]: "),
        ({"node-2": "http://169.254.169.254:80"}, "link-local"),
    ],
)
def test_a_wrong_list_is_refused_by_name(peers: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        StaticDiscovery(peers)

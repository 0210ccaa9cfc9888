"""The discovery store that the option names."""

from __future__ import annotations

from typing import Any

import pytest

from catga_sync.discovery import MemoryDiscovery, SqliteDiscovery, StaticDiscovery
from catga_sync.discovery import create_discovery as create
from catga_sync.errors import ConfigurationError


def test_the_default_is_one_file_for_each_cluster_of_the_user() -> None:
    made: Any = create(cluster_name="shop")
    other: Any = create()
    assert isinstance(made.shared, SqliteDiscovery)
    assert made.shared.path.name == "shop.sqlite3"
    assert made.shared.path.parent == other.shared.path.parent
    assert other.shared.path.name == "default.sqlite3"


def test_a_sqlite_url_names_a_file() -> None:
    made: Any = create("sqlite:////srv/my%20nodes.db")
    assert isinstance(made, SqliteDiscovery)
    assert str(made.path) == "/srv/my nodes.db"


def test_peers_make_a_static_list() -> None:
    made = create("static", peers={"b": "http://localhost:2"})
    assert isinstance(made, StaticDiscovery)
    assert [record.node.node_id for record in made.nodes()] == ["b"]


def test_memory_means_the_mediators_of_this_process_and_of_one_cluster() -> None:
    made = create("memory://x", cluster_name="a")
    assert isinstance(made, MemoryDiscovery)
    assert create("memory://x", cluster_name="a") is made
    assert create("memory://y", cluster_name="a") is not made
    assert create("memory://x", cluster_name="b") is not made


def test_an_object_is_used_as_it_is() -> None:
    store = MemoryDiscovery()
    assert create(store) is store


def test_an_object_without_a_method_is_told_which_one() -> None:
    class Half:
        register = deregister = nodes = print

    with pytest.raises(ConfigurationError, match=r"^discovery: .* has no method close\(\)"):
        create(Half())


def test_a_wrong_url_is_shown_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match=r"^discovery: 'http://\*\*\*@host' is none of") as caught:
        create("http://me:s3cr3t@host")
    assert "s3cr3t" not in str(caught.value)

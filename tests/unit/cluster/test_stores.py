"""The stores that options name."""

from __future__ import annotations

from typing import Any

import pytest

from catga_sync.cluster import stores
from catga_sync.discovery import MemoryDiscovery, SqliteDiscovery, StaticDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import MemoryIdempotency, SqliteIdempotency
from catga_sync.options import ClusterOptions


def discovery_of(**options: Any) -> Any:
    return stores.discovery_of(ClusterOptions(**options))


def idempotency_of(given: object) -> Any:
    return stores.idempotency_of(ClusterOptions(idempotency=given))


def test_the_default_is_one_file_for_each_cluster_of_the_user() -> None:
    made = discovery_of(cluster_name="shop")
    assert isinstance(made.shared, SqliteDiscovery)
    assert made.shared.path.name == "shop.sqlite3"
    assert made.shared.path.parent == discovery_of().shared.path.parent
    assert discovery_of().shared.path.name == "default.sqlite3"


def test_a_sqlite_url_names_a_file() -> None:
    assert str(discovery_of(discovery="sqlite:////srv/my%20nodes.db").path) == "/srv/my nodes.db"
    assert str(discovery_of(discovery="sqlite:///nodes.db").path) == "nodes.db"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////srv/nodes.db", "/srv/nodes.db"),
        ("sqlite:///data/nodes.db", "data/nodes.db"),
        ("sqlite:///./nodes.db", "nodes.db"),
        ("sqlite:///../nodes.db", "../nodes.db"),
        ("sqlite:///~/nodes.db", "/home/ada/nodes.db"),
        ("sqlite:////srv/my%20nodes.db", "/srv/my nodes.db"),
        ("sqlite:////srv/what%3F.db", "/srv/what?.db"),
        ("sqlite:////srv/100%.db", "/srv/100%.db"),
        ("sqlite:////srv/%C3%A4.db", "/srv/\u00e4.db"),
        ("sqlite:////srv/a#b.db", "/srv/a#b.db"),
    ],
)
def test_a_sqlite_url_as_sqlalchemy_takes_it_names_the_same_file_for_every_store(
    monkeypatch: pytest.MonkeyPatch, url: str, path: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(discovery_of(discovery=url).path) == path
    assert str(idempotency_of(url).path) == path


@pytest.mark.parametrize(
    ("url", "says"),
    [
        *[(url, "is in memory, which nobody else sees; write sqlite:///relative/path or .*, or .*memory")
          for url in ("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://:memory:", "sqlite:///:memory:?cache=1",
                      "sqlite:///file::memory:?cache=shared&uri=true", "sqlite:///file:x?mode=memory&uri=true")],
        ("sqlite:///nodes.db?timeout=20", r"leave out what follows the \? in .*a busy file is waited for"),
        ("sqlite:////srv/nodes.db?mode=ro&check_same_thread=false", r"leave out what follows the \? in"),
        ("sqlite:////srv/nodes.db?", r"leave out what follows the \?"),
        ("sqlite:///file:nodes.db?mode=ro&uri=true", "write sqlite:///relative/path or .* not a file: URI"),
        ("file:nodes.db", "write sqlite:///relative/path"),
        ("file:///srv/nodes.db", "write sqlite:///relative/path"),
        ("sqlite+pysqlite:////srv/nodes.db", "write sqlite:///relative/path or sqlite:////absolute/path, not"),
        ("sqlite:nodes.db", "write sqlite:///relative/path"),
        ("sqlite://srv/nodes.db", "write sqlite:///relative/path"),
        ("sqlite:///C:/nodes.db", "of a file on this system"),
        ("sqlite:///C:\\nodes.db", "of a file on this system"),
        ("sqlite:////srv/nodes/", "of a file on this system"),
        ("sqlite:////srv/a%00b", "of a file on this system"),
        ("sqlite:///~nobody-has-this-name/nodes.db", "no home folder"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("option", ["discovery", "idempotency"])
def test_a_sqlite_url_that_names_no_file_is_told_what_to_write(option: str, url: str, says: str) -> None:
    make = stores.discovery_of if option == "discovery" else stores.idempotency_of
    with pytest.raises(ConfigurationError, match=f"^{option}: .*{says}"):
        make(ClusterOptions(**{option: url}))


def test_peers_make_a_static_list() -> None:
    made = discovery_of(peers={"b": "http://localhost:2"})
    assert isinstance(made, StaticDiscovery)
    assert [record.node.node_id for record in made.nodes()] == ["b"]


def test_memory_means_the_mediators_of_this_process_and_of_one_cluster() -> None:
    made = discovery_of(discovery="memory://x", cluster_name="a")
    assert isinstance(made, MemoryDiscovery)
    assert discovery_of(discovery="memory://x", cluster_name="a") is made
    assert discovery_of(discovery="memory://y", cluster_name="a") is not made
    assert discovery_of(discovery="memory://x", cluster_name="b") is not made


def test_an_object_is_used_as_it_is() -> None:
    store = MemoryDiscovery()
    assert discovery_of(discovery=store) is store


def test_an_object_without_a_method_is_told_which_one() -> None:
    class Half:
        register = deregister = nodes = print

    with pytest.raises(ConfigurationError, match=r"^discovery: .* has no method close\(\)"):
        discovery_of(discovery=Half())


def test_idempotency_is_in_memory_unless_it_is_said_otherwise() -> None:
    assert isinstance(stores.idempotency_of(ClusterOptions()), MemoryIdempotency)
    assert idempotency_of("off") is None
    assert idempotency_of(False) is None
    assert isinstance(idempotency_of("sqlite:///ids.db"), SqliteIdempotency)
    store = MemoryIdempotency()
    assert idempotency_of(store) is store


@pytest.mark.parametrize("given", ["sqlite://ids.db", "redsi://localhost", object()])
def test_an_idempotency_that_is_none_says_what_to_write(given: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^idempotency: "):
        idempotency_of(given)


@pytest.mark.parametrize("option", ["discovery", "idempotency"])
def test_a_wrong_url_is_shown_without_its_password(option: str) -> None:
    make = stores.discovery_of if option == "discovery" else stores.idempotency_of
    with pytest.raises(ConfigurationError, match=rf"^{option}: 'http://\*\*\*@host' is none of") as caught:
        make(ClusterOptions(**{option: "http://me:s3cr3t@host"}))
    assert "s3cr3t" not in str(caught.value)

"""The paths of SQLite files in URLs as SQLAlchemy takes them."""

from __future__ import annotations

import pytest

from catga_sync._sqlite import sqlite_path
from catga_sync.discovery import create_discovery
from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import create_idempotency
from tests.tables import every_row


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
        ("sqlite:///file%3Anodes.db", "file:nodes.db"),
    ],
)
def test_a_url_as_sqlalchemy_takes_it_names_the_same_file(monkeypatch: pytest.MonkeyPatch, url: str, path: str) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(sqlite_path(url, "discovery", "memory")) == path


@every_row(
    ("url", "says"),
    [
        *[(url, "is in memory, which no other process sees; write sqlite:///relative/path or .*, or .*memory")
          for url in ("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://:memory:", "sqlite:///:memory:?cache=1",
                      "sqlite:///file::memory:?cache=shared&uri=true", "sqlite:///file:x?mode=memory&uri=true")],
        ("sqlite:///nodes.db?timeout=20", r"without parameters \(a question mark in a name is %3F\), not"),
        ("sqlite:////srv/nodes.db?mode=ro&check_same_thread=false", "without parameters"),
        ("sqlite:////srv/nodes.db?", "without parameters"),
        ("sqlite:///file:nodes.db?mode=ro&uri=true", "of a file on this system"),
        ("file:nodes.db", "write sqlite:///relative/path"),
        ("file:///srv/nodes.db", "write sqlite:///relative/path"),
        ("sqlite+pysqlite:////srv/nodes.db", "write sqlite:///relative/path or sqlite:////absolute/path of a file"),
        ("sqlite:nodes.db", "write sqlite:///relative/path"),
        ("sqlite://srv/nodes.db", "write sqlite:///relative/path"),
        ("sqlite:///C:/nodes.db", "of a file on this system"),
        ("sqlite:///C:\\nodes.db", "of a file on this system"),
        ("sqlite:////srv/nodes/", "of a file on this system"),
        ("sqlite:////srv/a%00b", "of a file on this system"),
        ("sqlite:///~nobody-has-this-name/nodes.db", "no home folder"),
    ],
)  # fmt: skip
def test_a_url_that_names_no_file_is_told_what_to_write(url: str, says: str) -> None:
    for make, option in ((create_discovery, "discovery"), (create_idempotency, "idempotency")):
        with pytest.raises(ConfigurationError, match=f"^{option}: .*{says}"):
            make(url)

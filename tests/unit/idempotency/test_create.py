"""The idempotency store that the option names."""

from __future__ import annotations

import pytest

from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import MemoryIdempotency, SqliteIdempotency
from catga_sync.idempotency import create_idempotency as create


def test_it_is_in_memory_unless_it_is_said_otherwise() -> None:
    assert isinstance(create(), MemoryIdempotency)
    assert create("off") is None
    assert create(False) is None
    store = MemoryIdempotency()
    assert create(store) is store


def test_a_sqlite_url_names_a_file() -> None:
    made = create("sqlite:///ids.db")
    assert isinstance(made, SqliteIdempotency)
    assert str(made.path) == "ids.db"


@pytest.mark.parametrize("given", ["sqlite://ids.db", "redsi://localhost", object()])
def test_what_names_no_store_says_what_to_write(given: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^idempotency: "):
        create(given)


def test_a_wrong_url_is_shown_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match=r"^idempotency: 'http://\*\*\*@host' is none of") as caught:
        create("http://me:s3cr3t@host")
    assert "s3cr3t" not in str(caught.value)

"""What a node keeps of the identity of its store, and what its log says when the store does not tell it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from catga_sync.idempotency import MemoryIdempotency
from catga_sync.idempotency.identity import StoreIdentity
from tests.unit.idempotency.named import Named


@pytest.fixture
def store() -> Named:
    return Named()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "catga_sync.idempotency")
    return caplog


def known(store: Any) -> str | None:
    identity = StoreIdentity(store)
    identity.refresh()
    return identity.known


def test_nothing_is_known_before_the_store_was_asked(store: Named) -> None:
    assert StoreIdentity(store).known is None


@pytest.mark.parametrize(
    "told", ["one", "x" * 100_000, "any \u2028 text\n", "\ud800"], ids=["short", "long", "any", "half"]
)
def test_whatever_text_a_store_tells_32_hex_digits_travel(store: Named, told: str) -> None:
    store.told = told
    found = known(store)
    assert found is not None
    assert len(found) == 32
    assert int(found, 16)
    assert known(store) == found


def test_another_text_is_another_store(store: Named) -> None:
    one = known(store)
    store.told = "two"
    assert known(store) != one


def test_a_store_without_the_method_and_one_that_tells_none_are_shared_with_nobody(store: Named) -> None:
    store.told = None
    assert known(store) is None
    assert known(MemoryIdempotency()) is None


@pytest.mark.parametrize("told", ["", 7, b"one", True], ids=repr)
def test_what_is_no_text_is_a_fault_that_is_named(store: Named, log: pytest.LogCaptureFixture, told: Any) -> None:
    store.told = told
    assert known(store) is None
    (line,) = log.records
    assert "return a text, or None" in line.getMessage()


def test_a_store_that_is_down_is_logged_once_for_each_cause_and_once_when_it_is_back(
    store: Named, log: pytest.LogCaptureFixture
) -> None:
    identity = StoreIdentity(store)
    identity.refresh()
    before = identity.known
    for cause in (OSError("no disk"), OSError("no disk"), OSError("no room")):
        store.told = cause
        identity.refresh()
        assert identity.known is None
    store.told = "one"
    identity.refresh()
    identity.refresh()
    assert identity.known == before
    levels = [(line.levelname, "no disk" in line.getMessage(), "no room" in line.getMessage()) for line in log.records]
    assert levels == [("WARNING", True, False), ("WARNING", False, True), ("INFO", False, False)]


def test_a_forked_child_asks_for_itself(store: Named) -> None:
    identity = StoreIdentity(store)
    identity.refresh()
    identity.after_fork_in_child()
    assert identity.known is None

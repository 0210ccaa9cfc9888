"""The memory store: the contract, and its bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import Claim, MemoryIdempotency
from tests.contracts.discovery import HeldClock
from tests.contracts.idempotency import DONE, LONG, LOST, NEW, RUNNING, ForkContract, IdempotencyContract, Make


class TestMemory(IdempotencyContract):
    @pytest.fixture
    def make(self) -> Make:
        clock = self.clock = HeldClock()
        made: dict[str, MemoryIdempotency] = {}

        def make(**options: Any) -> MemoryIdempotency:
            # Others see the same claims because they have the same object.
            return made.setdefault(repr(options), MemoryIdempotency(clock=clock, **options))

        return make


class TestMemoryAndForks(ForkContract):
    @pytest.fixture
    def elsewhere(self) -> Callable[..., str]:
        return lambda: "MemoryIdempotency()"


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


def run(store: MemoryIdempotency, key: str, body: bytes | None = b"x") -> None:
    claim = store.claim(key, "f", LONG)
    assert claim.state is NEW
    assert store.complete(key, claim.token, body)


def state(store: MemoryIdempotency, key: str) -> Any:
    return store.wait(key, 0.0).state


def test_it_says_that_other_processes_do_not_see_it() -> None:
    assert not hasattr(MemoryIdempotency, "identity")


def test_at_the_bound_the_oldest_completed_claim_goes(clock: HeldClock) -> None:
    store = MemoryIdempotency(max_entries=4, clock=clock)
    first = store.claim("completed last", "f", LONG)
    for key in ("a", "b"):
        run(store, key)
    store.complete("completed last", first.token, b"x")
    store.claim("running", "f", LONG)
    for new, gone in (("c", "a"), ("d", "b"), ("e", "completed last"), ("f", "c")):
        run(store, new)
        assert state(store, gone) is NEW
    assert [state(store, key) for key in ("d", "e", "f")] == [DONE] * 3
    assert state(store, "running") is RUNNING


def test_at_the_bound_a_lost_claim_goes_only_when_there_is_no_completed_one(clock: HeldClock) -> None:
    store = MemoryIdempotency(max_entries=3, clock=clock)
    store.claim("lost 1", "f", 5.0)
    store.claim("lost 2", "f", 5.0)
    run(store, "done")
    clock.seconds += 5.0
    store.claim("running 1", "f", LONG)
    assert [state(store, key) for key in ("lost 1", "lost 2", "done", "running 1")] == [LOST, LOST, NEW, RUNNING]
    store.claim("running 2", "f", LONG)
    assert [state(store, key) for key in ("lost 1", "lost 2", "running 1")] == [NEW, LOST, RUNNING]
    store.claim("running 3", "f", LONG)
    assert state(store, "lost 2") is NEW
    assert [state(store, f"running {number}") for number in (1, 2, 3)] == [RUNNING] * 3


def test_what_is_running_is_never_forgotten_not_even_over_the_bound(clock: HeldClock) -> None:
    store = MemoryIdempotency(max_entries=3, clock=clock)
    tokens = {f"key-{number}": store.claim(f"key-{number}", "f", 10.0 + number).token for number in range(10)}
    assert [state(store, key) for key in tokens] == [RUNNING] * 10
    assert all(store.complete(key, token, b"x") for key, token in tokens.items())
    run(store, "new")
    assert [key for key in (*tokens, "new") if state(store, key) is DONE] == ["key-8", "key-9", "new"]


def test_a_short_lease_among_long_ones_makes_room_when_it_ends(clock: HeldClock) -> None:
    store = MemoryIdempotency(max_entries=2, clock=clock)
    for key in ("a", "b", "c"):  # the third has looked for a lost one, and knows now when there may be one
        store.claim(key, "f", 30.0)
    short = store.claim("short", "f", 1.0)
    clock.seconds += 1.0
    store.claim("d", "f", 30.0)
    assert state(store, "short") is NEW
    assert not store.complete("short", short.token, b"x")
    assert [state(store, key) for key in "abcd"] == [RUNNING] * 4


def test_all_answers_together_have_a_bound_beyond_which_only_the_facts_are_kept(clock: HeldClock) -> None:
    store = MemoryIdempotency(max_total_bytes=250, clock=clock)
    for key in ("a", "b", "c"):
        run(store, key, b"x" * 100)
    run(store, "empty", b"")
    kept = [store.claim(key, "f", LONG) for key in ("a", "b", "c", "empty")]
    assert kept == [Claim(DONE, body=body) for body in (None, b"x" * 100, b"x" * 100, b"")]
    run(store, "too long for all", b"x" * 251)
    assert {store.claim(key, "f", LONG).body for key in ("a", "b", "c", "too long for all")} == {None}
    run(store, "d", b"x" * 250)
    assert store.claim("d", "f", LONG).body == b"x" * 250


def test_nothing_that_has_expired_is_kept_for_long(clock: HeldClock) -> None:
    store = MemoryIdempotency(ttl=10.0, clock=clock)
    for number in range(1000):
        run(store, f"key-{number}", b"x" * 1000)
    clock.seconds += 10.0
    for number in range(1000):
        # Some of them new, some of them old keys again.
        run(store, f"key-{number * 3}", b"y")
    assert len(store._entries) == len(store._done) == len(store._kept) == 1000
    assert store._bytes == 1000


def test_the_store_never_grows_over_its_bounds(clock: HeldClock) -> None:
    store = MemoryIdempotency(max_entries=50, max_total_bytes=1000, ttl=100.0, clock=clock)
    for number in range(5000):
        clock.seconds += number % 7
        claim = store.claim(f"key-{number % 90}", "f", 5.0)
        if claim.state is NEW and number % 11:
            store.complete(f"key-{number % 90}", claim.token, b"x" * (number % 120))
        assert len(store._entries) <= 50
        assert len(store._done) <= 60
        assert len(store._kept) <= len(store._done)
        assert 0 <= store._bytes <= 1000
    assert store._bytes == sum(len(entry.body or b"") for entry in store._done)


def test_a_forked_child_starts_with_nothing_and_no_token_of_its_parents(clock: HeldClock) -> None:
    store = MemoryIdempotency(clock=clock)
    claim = store.claim("a", "f", LONG)
    run(store, "b")
    store.after_fork_in_child()
    assert [store.claim(key, "f", LONG).state for key in ("a", "b")] == [NEW, NEW]
    assert not store.complete("a", claim.token, b"x")


@pytest.mark.parametrize("option", ["max_entries", "max_total_bytes"])
def test_a_wrong_bound_is_an_error_that_starts_with_its_name(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option}: give a whole number"):
        MemoryIdempotency(**{option: -1})  # type: ignore[arg-type]  # mypy takes it for any of them


def test_a_response_that_is_kept_unwritten_is_written_for_those_that_ask_for_it(clock: HeldClock) -> None:
    written: list[bytes] = []

    def write() -> bytes:
        assert not store._lock.locked()
        written.append(b"the response")
        return written[-1]

    store = MemoryIdempotency(max_body_bytes=50, max_total_bytes=60, clock=clock)
    tokens = {key: store.claim(key, "f", LONG).token for key in ("a", "b", "long")}
    assert store.keep("a", tokens["a"], write, 50)
    assert not store.keep("a", "another", write, 50)
    assert store.keep("long", tokens["long"], write, 51)
    assert written == []
    assert store.claim("a", "f", LONG) == store.wait("a", 0.0) == Claim(DONE, body=b"the response")
    assert len(written) == 2
    assert store.claim("long", "f", LONG) == Claim(DONE)
    assert store.claim("a", "another request", LONG).body is None
    assert store.keep("b", tokens["b"], write, 11)  # with that of "a" too much
    assert (store.wait("a", 0.0).body, store.wait("b", 0.0).body) == (None, b"the response")
    assert len(written) == 3

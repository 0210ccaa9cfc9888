"""What every idempotency store must do, whatever it is made of.

    class TestRedis(IdempotencyContract, ForkContract, SharedContract):
        @pytest.fixture
        def make(self): ...             # returns what makes stores that see the same claims, given their options
        @pytest.fixture
        def elsewhere(self): ...        # the same for another process: returns what returns an expression

A store that keeps its time by a clock that can be held sets ``clock``; the others are waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import Claim, ClaimState, IdempotencyStore, SharedIdempotencyStore
from tests import processes
from tests.contracts.discovery import HeldClock
from tests.thorough import tried

__all__ = [
    "DONE",
    "LONG",
    "LOST",
    "MISMATCH",
    "NEW",
    "RUNNING",
    "Elsewhere",
    "ForkContract",
    "IdempotencyContract",
    "Make",
    "SharedContract",
    "done",
    "in_threads",
]

NEW, RUNNING, DONE, LOST, MISMATCH = ClaimState

#: Seconds: longer than any test takes.
LONG = 60.0
#: Seconds that a thread or a process may take to notice something.
SOON = 20.0


class Make(Protocol):
    def __call__(self, **options: Any) -> IdempotencyStore: ...


def done(body: bytes | None) -> Claim:
    return Claim(DONE, body=body)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Let threads begin at one moment; return what each returned, or what it raised as text."""
    start = threading.Barrier(count)
    outcomes: list[Any] = [None] * count

    def run(number: int) -> None:
        start.wait(SOON)
        try:
            outcomes[number] = work(number)
        except BaseException as exc:
            outcomes[number] = repr(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    return outcomes


class _Stores:
    #: None means that the store's own time is waited for.
    clock: HeldClock | None = None
    #: Seconds that pass within a test. Where they are waited for, they are more than a busy machine stands still.
    short = 10.0

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.fixture
    def store(self, make: Make) -> IdempotencyStore:
        return make()

    @pytest.fixture
    def other(self, store: IdempotencyStore, make: Make) -> IdempotencyStore:
        """How somebody else sees the same claims."""
        return make()

    def pass_time(self, seconds: float) -> None:
        if self.clock is not None:
            self.clock.seconds += seconds
            return
        end = time.monotonic() + seconds + 0.02
        processes.until(lambda: time.monotonic() >= end, f"{seconds} s have passed")


class IdempotencyContract(_Stores):
    # -- claims ---------------------------------------------------------------------------------------------------

    def test_the_first_claim_is_new_and_has_a_token(self, store: IdempotencyStore) -> None:
        first, second = store.claim("a", "f", LONG), store.claim("b", "f", LONG)
        assert first.state is second.state is NEW
        assert first.token
        assert second.token
        assert first.token != second.token
        assert first.body is None

    def test_a_second_claim_is_running_and_has_no_token(self, store: IdempotencyStore, other: IdempotencyStore) -> None:
        store.claim("a", "f", LONG)
        assert store.claim("a", "f", LONG) == other.claim("a", "f", LONG) == Claim(RUNNING)

    def test_what_was_completed_is_replayed_to_everybody(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        claim = store.claim("a", "f", LONG)
        assert store.complete("a", claim.token, b'{"answer": 42}')
        for each in (store, other, store):
            assert each.claim("a", "f", LONG) == done(b'{"answer": 42}')

    def test_another_fingerprint_is_a_mismatch_whatever_the_state_and_shows_no_answer(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        leases = {"running": LONG, "lost": self.short, "done": LONG}
        running, lost, finished = (store.claim(key, "f", lease) for key, lease in leases.items())
        assert running.state is lost.state is NEW
        store.complete("done", finished.token, b"secret")
        self.pass_time(self.short)
        assert [other.claim(key, "f", LONG).state for key in leases] == [RUNNING, LOST, DONE]
        for key in leases:
            assert store.claim(key, "g", LONG) == other.claim(key, "g", LONG) == Claim(MISMATCH)
        assert store.claim("done", "f", LONG) == done(b"secret")

    @pytest.mark.parametrize(
        "key", ["", " ", "a'b\"c;--", "%s\\{}", "Zürich \u2028 \U0001f600", "user|Shop.Get, Shop|" + "x" * 2000, "a\nb"]
    )
    def test_a_key_is_any_text_and_no_other(self, store: IdempotencyStore, key: str) -> None:
        claim = store.claim(key, "f", LONG)
        assert store.claim(key + " ", "f", LONG).state is NEW
        assert store.claim(key, "f", LONG).state is RUNNING
        assert store.complete(key, claim.token, b"x")
        assert store.claim(key, "f", LONG) == done(b"x")

    def test_of_many_threads_exactly_one_gets_it(self, store: IdempotencyStore, other: IdempotencyStore) -> None:
        keys = [f"key-{number}" for number in range(20)]

        def work(number: int) -> list[ClaimState]:
            return [(store, other)[number % 2].claim(key, "f", LONG).state for key in keys]

        found = in_threads(16, work)
        assert [each for each in found if isinstance(each, str)] == []
        for states in zip(*found, strict=True):
            assert Counter(states) == {NEW: 1, RUNNING: 15}

    def test_threads_claim_complete_and_replay_together(self, store: IdempotencyStore, other: IdempotencyStore) -> None:
        ran: list[str] = []

        def work(number: int) -> bool:
            for key in (f"key-{count}" for count in range(15)):
                mine = (store, other)[number % 2]
                claim = mine.claim(key, "f", LONG)
                if claim.state is NEW:
                    ran.append(key)
                    assert mine.complete(key, claim.token, key.encode())
                elif claim.state is RUNNING:
                    claim = mine.wait(key, SOON)
                assert claim.state is NEW or claim == done(key.encode()), claim
            return True

        assert in_threads(8, work) == [True] * 8
        assert sorted(ran) == sorted(f"key-{count}" for count in range(15))

    # -- leases ---------------------------------------------------------------------------------------------------

    def test_a_claim_whose_lease_is_up_is_lost_and_never_new_again(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        store.claim("a", "f", self.short)
        assert other.claim("a", "f", LONG) == Claim(RUNNING)
        self.pass_time(self.short)
        for _ in range(3):
            assert other.claim("a", "f", LONG) == store.claim("a", "f", LONG) == Claim(LOST)

    def test_a_caller_that_comes_back_late_may_complete_its_lost_claim(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        slow = store.claim("a", "f", self.short)
        self.pass_time(self.short)
        assert other.claim("a", "f", LONG) == Claim(LOST)
        assert store.complete("a", slow.token, b"late, and true")
        assert other.claim("a", "f", LONG) == done(b"late, and true")

    def test_a_wrong_token_changes_nothing(self, store: IdempotencyStore, other: IdempotencyStore) -> None:
        mine, another = store.claim("a", "f", LONG), store.claim("b", "f", LONG)
        for token in (another.token, "", "x", mine.token + "0"):
            assert not other.complete("a", token, b"wrong")
            other.release("a", token)
            assert store.claim("a", "f", LONG) == Claim(RUNNING)
        assert store.complete("a", mine.token, b"right")

    def test_a_key_that_nobody_has_cannot_be_completed(self, store: IdempotencyStore) -> None:
        assert not store.complete("a", "token", b"x")
        store.release("a", "token")
        assert store.claim("a", "f", LONG).state is NEW

    def test_a_holder_paused_until_somebody_else_has_the_key_overwrites_nothing(self, make: Make) -> None:
        store = make(ttl=self.short)
        paused = store.claim("a", "f", self.short)
        self.pass_time(2 * self.short)
        taken = store.claim("a", "f", LONG)
        assert taken.state is NEW
        for _ in range(2):
            assert not store.complete("a", paused.token, b"late")
            store.release("a", paused.token)
        assert store.claim("a", "f", LONG) == Claim(RUNNING)
        assert store.complete("a", taken.token, b"in time")
        assert not store.complete("a", paused.token, b"late")
        store.release("a", paused.token)
        assert store.claim("a", "f", LONG) == done(b"in time")

    def test_the_first_answer_stays(self, store: IdempotencyStore, other: IdempotencyStore) -> None:
        claim = store.claim("a", "f", LONG)
        assert store.complete("a", claim.token, b"first")
        assert other.complete("a", claim.token, b"second"), "it has the answer of this token"
        assert other.claim("a", "f", LONG) == done(b"first")

    def test_a_released_claim_is_forgotten(self, store: IdempotencyStore, other: IdempotencyStore) -> None:
        claim = store.claim("a", "f", LONG)
        store.release("a", claim.token)
        again = other.claim("a", "another fingerprint", LONG)
        assert again.state is NEW
        assert again.token != claim.token
        store.release("a", claim.token)
        assert store.claim("a", "another fingerprint", LONG) == Claim(RUNNING)

    def test_a_lost_claim_can_be_released_and_a_completed_one_cannot(self, store: IdempotencyStore) -> None:
        lost, finished = store.claim("a", "f", self.short), store.claim("b", "f", LONG)
        store.complete("b", finished.token, b"x")
        self.pass_time(self.short)
        store.release("a", lost.token)
        store.release("b", finished.token)
        assert store.claim("a", "f", LONG).state is NEW
        assert store.claim("b", "f", LONG) == done(b"x")

    # -- answers --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("body", [b"", b"\x00\xff" * 500, None], ids=["empty", "bytes", "none"])
    def test_an_answer_comes_back_as_it_was(
        self, store: IdempotencyStore, other: IdempotencyStore, body: bytes | None
    ) -> None:
        claim = store.claim("a", "f", LONG)
        assert store.complete("a", claim.token, body)
        assert other.claim("a", "f", LONG) == done(body)

    def test_of_an_answer_that_is_too_long_only_the_fact_is_kept(self, make: Make) -> None:
        store = make(max_body_bytes=100)
        for key, body, kept in (("a", b"x" * 100, b"x" * 100), ("b", b"x" * 101, None)):
            claim = store.claim(key, "f", LONG)
            assert store.complete(key, claim.token, body)
            assert store.claim(key, "f", LONG) == done(kept)

    def test_a_quarter_of_a_mebibyte_is_kept_by_default(self, store: IdempotencyStore) -> None:
        for key, size in (("a", 256 * 1024), ("b", 256 * 1024 + 1)):
            assert store.complete(key, store.claim(key, "f", LONG).token, b"x" * size)
        assert store.claim("a", "f", LONG) == done(b"x" * (256 * 1024))
        assert store.claim("b", "f", LONG) == done(None)

    # -- time to live ---------------------------------------------------------------------------------------------

    def test_an_answer_is_forgotten_when_its_ttl_is_up_and_not_before(self, make: Make) -> None:
        store = make(ttl=self.short)
        claim = store.claim("a", "f", LONG)
        self.pass_time(0.9 * self.short)
        store.complete("a", claim.token, b"x")
        self.pass_time(0.15 * self.short)
        assert store.claim("a", "f", LONG) == done(b"x"), "it counts from the answer on"
        self.pass_time(0.85 * self.short)
        again = store.claim("a", "g", LONG)
        assert again.state is NEW
        assert not store.complete("a", claim.token, b"y")

    def test_a_lost_claim_is_remembered_for_ttl_from_the_end_of_its_lease(self, make: Make) -> None:
        store = make(ttl=self.short)
        store.claim("a", "f", self.short)
        self.pass_time(self.short)
        assert store.claim("a", "f", LONG) == Claim(LOST)
        self.pass_time(self.short)
        assert store.claim("a", "f", LONG).state is NEW

    def test_a_lease_that_is_longer_than_ttl_holds(self, make: Make) -> None:
        store = make(ttl=self.short)
        claim = store.claim("a", "f", LONG)
        self.pass_time(2 * self.short)
        assert store.claim("a", "f", LONG) == Claim(RUNNING)
        assert store.complete("a", claim.token, b"x")

    def test_what_has_expired_belongs_to_nobody(self, make: Make) -> None:
        store = make(ttl=self.short)
        lost, finished = store.claim("a", "f", self.short), store.claim("b", "f", LONG)
        store.complete("b", finished.token, b"x")
        self.pass_time(2 * self.short)
        for key, claim in (("a", lost), ("b", finished)):
            assert not store.complete(key, claim.token, b"y")
            assert store.wait(key, LONG) == Claim(NEW)

    # -- waiting --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def waiting(self, store: IdempotencyStore, *keys: str) -> Iterator[list[Claim]]:
        """Let a thread wait for each key while the block runs, and expect it to be woken at the end of it."""
        found: list[Claim] = []
        threads = [threading.Thread(target=lambda key=key: found.append(store.wait(key, 3 * SOON))) for key in keys]
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            begun = time.monotonic()
            for thread in threads:
                thread.join(SOON)
            assert time.monotonic() - begun < SOON, "nobody woke them"

    def test_whoever_waits_gets_the_answer_when_it_is_there(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        claim = store.claim("a", "f", LONG)
        with self.waiting(other, "a", "a", "a") as found:
            assert found == []
            store.complete("a", claim.token, b"x")
        assert found == [done(b"x")] * 3

    def test_whoever_waits_is_told_when_the_claim_was_released(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        claim = store.claim("a", "f", LONG)
        with self.waiting(other, "a") as found:
            store.release("a", claim.token)
        assert found == [Claim(NEW)]

    def test_whoever_waits_is_told_when_the_claim_is_lost(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        store.claim("a", "f", 0.3)
        with self.waiting(other, "a") as found:
            self.pass_time(0.3)
        assert found == [Claim(LOST)]

    def test_a_wait_ends_with_its_time_and_tells_what_is(self, store: IdempotencyStore) -> None:
        store.claim("a", "f", LONG)
        for timeout in (0.0, -1.0, 0.1):
            begun = time.monotonic()
            assert store.wait("a", timeout) == Claim(RUNNING)
            assert timeout - 0.01 <= time.monotonic() - begun < SOON

    def test_there_is_no_wait_for_what_is_not_running(self, store: IdempotencyStore) -> None:
        store.claim("lost", "f", self.short)
        store.complete("done", store.claim("done", "f", LONG).token, b"x")
        self.pass_time(self.short)
        begun = time.monotonic()
        assert store.wait("lost", LONG) == Claim(LOST)
        assert store.wait("done", LONG) == done(b"x")
        assert store.wait("nobody's", LONG) == Claim(NEW)
        assert time.monotonic() - begun < SOON
        assert store.claim("nobody's", "f", LONG).state is NEW, "to wait is not to claim"

    # -- the rest -------------------------------------------------------------------------------------------------

    def test_closing_twice_is_safe_and_takes_nobody_along(
        self, store: IdempotencyStore, other: IdempotencyStore
    ) -> None:
        claim = store.claim("a", "f", LONG)
        store.close()
        store.close()
        assert other.claim("a", "f", LONG) == Claim(RUNNING)
        assert store.complete("a", claim.token, b"opened again")
        assert other.claim("a", "f", LONG) == done(b"opened again")

    # -- options --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("option", ["ttl", "max_body_bytes"])
    @pytest.mark.parametrize("wrong", [-1, "1", None, True, float("nan"), float("inf")])
    def test_a_wrong_option_is_an_error_that_starts_with_its_name(self, make: Make, option: str, wrong: Any) -> None:
        with pytest.raises(ConfigurationError, match=f"^{option}: give"):
            make(**{option: wrong})


class ForkContract:
    @pytest.fixture
    def elsewhere(self) -> Callable[..., str]:
        raise NotImplementedError

    def test_a_forked_child_and_its_parent_both_go_on(self, elsewhere: Callable[..., str]) -> None:
        with Elsewhere(elsewhere()) as process:
            claim = process.call("claim", "parent", "f", LONG)
            assert process.call("fork", "child") == 0
            assert process.call("claim", "parent", "f", LONG) == Claim(RUNNING)
            assert process.call("complete", "parent", claim.token, "x") is True
            assert process.call("claim", "parent", "f", LONG) == done(b"x")

    @pytest.mark.thorough
    def test_children_that_are_forked_while_threads_are_at_it_do_not_hang(self, elsewhere: Callable[..., str]) -> None:
        with Elsewhere(elsewhere()) as process:
            process.call("hammer", 6)
            children = tried(20)
            assert [process.call("fork", f"child-{number}") for number in range(children)] == [0] * children
            assert process.call("claim", "parent", "f", LONG).state is NEW


class SharedContract(_Stores):
    """For stores that processes share."""

    @pytest.fixture
    def elsewhere(self) -> Callable[..., str]:
        raise NotImplementedError

    def test_everybody_who_sees_the_same_claims_is_told_the_same_identity(
        self, store: SharedIdempotencyStore, other: SharedIdempotencyStore, elsewhere: Callable[..., str]
    ) -> None:
        """Also where many ask for it at once, before there is one."""
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(Elsewhere(elsewhere())) for _ in range(3)]
            for process in others:
                process.begin("identity")
            here = in_threads(8, lambda number: patiently((store, other)[number % 2].identity))
            told = {*here, *(process.result() for process in others)}
        assert len(told) == 1, told
        assert told == {store.identity()}
        assert len(str(*told)) >= 32

    def test_of_many_processes_exactly_one_gets_it_and_all_get_the_answer(self, elsewhere: Callable[..., str]) -> None:
        keys = [f"key-{number}" for number in range(25)]
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(Elsewhere(elsewhere())) for _ in range(4)]
            for process in others:
                process.begin("claims", keys)
            outcomes = [process.result() for process in others]
            for claims in zip(*outcomes, strict=True):
                assert Counter(claim.state for claim in claims) == {NEW: 1, RUNNING: 3}
            for process, claims in zip(others, outcomes, strict=True):
                for key, claim in zip(keys, claims, strict=True):
                    if claim.state is NEW:
                        assert process.call("complete", key, claim.token, key) is True
            for process in others:
                assert process.call("claims", keys) == [done(key.encode()) for key in keys]

    def test_a_claim_of_a_process_that_was_killed_is_running_and_then_lost(
        self, store: IdempotencyStore, elsewhere: Callable[..., str]
    ) -> None:
        with Elsewhere(elsewhere()) as process:
            assert process.call("claim", "a", "f", self.short).state is NEW
            process.popen.kill()
            process.popen.wait()
        assert store.claim("a", "f", LONG) == Claim(RUNNING)
        self.pass_time(self.short)
        assert store.claim("a", "f", LONG) == Claim(LOST)
        assert store.claim("b", "f", LONG).state is NEW

    def test_a_process_stopped_past_its_lease_has_run_once_and_overwrites_nothing(
        self, make: Make, elsewhere: Callable[..., str]
    ) -> None:
        store = make(ttl=self.short)
        with Elsewhere(elsewhere()) as process:
            claim = process.call("claim", "a", "f", self.short)
            expired = store.claim("b", "f", self.short)
            with processes.stopped(process.popen.pid):
                self.pass_time(self.short)
                assert store.claim("a", "f", LONG) == Claim(LOST), "nobody else runs it"
                self.pass_time(self.short)
                taken = store.claim("b", "f", LONG)
                assert taken.state is NEW
                assert store.complete("b", taken.token, b"in time")
            assert process.call("complete", "b", expired.token, "late") is False
            assert store.claim("b", "f", LONG) == done(b"in time")
            assert process.call("complete", "a", claim.token, "late, and the only one") is True
            assert store.claim("a", "f", LONG) == done(b"late, and the only one")


def patiently(call: Callable[[], Any]) -> Any:
    """Return what a call returns; a busy machine may let it fail, and a node calls again, too."""
    end = time.monotonic() + SOON
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() >= end:
                raise


class Elsewhere:
    """A store in another process. Calls are made one after the other, and their results told as they would be here."""

    def __init__(self, expression: str) -> None:
        self._talking = processes.talking("-c", _ELSEWHERE, expression)

    def __enter__(self) -> Elsewhere:
        self.popen = self._talking.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._talking.__exit__(None, None, None)

    def begin(self, name: str, *values: Any) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps([name, *values]) + "\n")
        self.popen.stdin.flush()

    def result(self) -> Any:
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"the other process has ended with {self.popen.wait(SOON)}"
        return _told(json.loads(line))

    def call(self, name: str, *values: Any) -> Any:
        self.begin(name, *values)
        return self.result()


def _told(value: Any) -> Any:
    if isinstance(value, list):
        return [_told(each) for each in value]
    if not isinstance(value, dict):
        return value
    assert "error" not in value, value["error"]
    body = None if value["body"] is None else value["body"].encode("latin-1")
    return Claim(ClaimState[value["state"]], value["token"], body)


# The expression sees these names.
_ELSEWHERE = f"""
import json, os, sys, threading, warnings
from catga_sync import _redis, _sqlite
from catga_sync.idempotency import Claim, MemoryIdempotency, RedisIdempotency, SqliteIdempotency, redis

# A busy machine is no server that hangs, and no file that another process holds.
_redis._TIMEOUT = redis._CLAIM_WITHIN = _sqlite._BUSY_TIMEOUT = _sqlite._PATIENCE = {SOON}
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later dislike a fork among threads
store = eval(sys.argv[1])

def claims(keys):
    return [store.claim(key, "f", {LONG}) for key in keys]

def complete(key, token, body):
    return store.complete(key, token, body.encode("latin-1"))

def fork(key):
    pid = os.fork()
    if pid == 0:
        try:
            claim = store.claim(key, "f", {LONG})
            good = claim.state.name == "NEW" and store.complete(key, claim.token, b"x")
            os._exit(0 if good and store.claim(key, "f", {LONG}).body == b"x" else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def hammer(count):
    def work(number):
        turn = 0
        while True:
            turn += 1
            claim = store.claim(f"hammer-{{os.getpid()}}-{{number}}-{{turn}}", "f", {LONG})
            store.complete(f"hammer-{{os.getpid()}}-{{number}}-{{turn}}", claim.token, b"x")
    for number in range(count):
        threading.Thread(target=work, args=(number,), daemon=True).start()

def told(value):
    if isinstance(value, list):
        return [told(each) for each in value]
    if not isinstance(value, Claim):
        return value
    body = None if value.body is None else value.body.decode("latin-1")
    return {{"state": value.state.name, "token": value.token, "body": body}}

def identity():
    from tests.contracts.idempotency import patiently
    return patiently(store.identity)

own = {{"claims": claims, "complete": complete, "fork": fork, "hammer": hammer, "identity": identity}}
for line in sys.stdin:
    name, *values = json.loads(line)
    try:
        result = told(own[name](*values) if name in own else getattr(store, name)(*values))
    except Exception as exc:
        result = {{"error": repr(exc)}}
    print(json.dumps(result), flush=True)
"""

assert hasattr(os, "fork"), "these tests fork"

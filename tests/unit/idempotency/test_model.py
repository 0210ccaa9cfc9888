"""The stores against a model of a few lines, with whatever order of calls hypothesis comes up with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, multiple, rule

from catga_sync.idempotency import Claim, IdempotencyStore, MemoryIdempotency, SqliteIdempotency
from tests.contracts.discovery import HeldClock
from tests.contracts.idempotency import DONE, LOST, MISMATCH, NEW, RUNNING
from tests.thorough import tried

TTL, MAX_BODY = 20.0, 5


@dataclass
class Entry:
    fingerprint: str
    token: str
    lease_until: float
    keep_until: float
    done: bool = False
    body: bytes | None = None


class Model:
    """What a store does, said as plainly as can be."""

    def __init__(self) -> None:
        self.now = 0.0
        self.entries: dict[str, Entry] = {}

    def look(self, key: str) -> Claim:
        entry = self.entries.get(key)
        if entry is None or self.now >= entry.keep_until:
            return Claim(NEW)
        if entry.done:
            return Claim(DONE, body=entry.body)
        return Claim(RUNNING if self.now < entry.lease_until else LOST)

    def claim(self, key: str, fingerprint: str, lease: float, token: str) -> Claim:
        found = self.look(key)
        if found.state is NEW:
            self.entries[key] = Entry(fingerprint, token, self.now + lease, self.now + lease + TTL)
            return Claim(NEW, token)
        return found if self.entries[key].fingerprint == fingerprint else Claim(MISMATCH)

    def held(self, key: str, token: str) -> Entry | None:
        entry = self.entries.get(key)
        return entry if entry is not None and entry.token == token and self.now < entry.keep_until else None

    def complete(self, key: str, token: str, body: bytes | None) -> bool:
        entry = self.held(key, token)
        if entry is not None and not entry.done:
            entry.done, entry.body = True, body if body is not None and len(body) <= MAX_BODY else None
            entry.keep_until = self.now + TTL
        return entry is not None

    def release(self, key: str, token: str) -> None:
        entry = self.held(key, token)
        if entry is not None and not entry.done:
            del self.entries[key]


keys = st.sampled_from("abc")
seconds = st.sampled_from([1.0, 5.0, 10.0, 20.0])
bodies = st.none() | st.binary(max_size=MAX_BODY + 1)


class Machine(RuleBasedStateMachine):
    # Key and token of claims that were given.
    given = Bundle("given")

    def __init__(self) -> None:
        super().__init__()
        self.clock = HeldClock()
        self.model = Model()
        self.store = self.make()

    def make(self) -> IdempotencyStore:
        return MemoryIdempotency(ttl=TTL, max_body_bytes=MAX_BODY, clock=self.clock)

    @rule(target=given, key=keys, fingerprint=st.sampled_from("ffg"), lease=seconds)
    def claim(self, key: str, fingerprint: str, lease: float) -> Any:
        found = self.store.claim(key, fingerprint, lease)
        assert found == self.model.claim(key, fingerprint, lease, found.token)
        assert (found.token != "") == (found.state is NEW)
        return (key, found.token) if found.token else multiple()

    @rule(claim=given, body=bodies)
    def complete(self, claim: tuple[str, str], body: bytes | None) -> None:
        assert self.store.complete(*claim, body) == self.model.complete(*claim, body)

    @rule(claim=given)
    def release(self, claim: tuple[str, str]) -> None:
        self.store.release(*claim)
        self.model.release(*claim)

    @rule(key=keys, claim=given)
    def use_the_token_of_another_key(self, key: str, claim: tuple[str, str]) -> None:
        if key != claim[0]:
            assert not self.store.complete(key, claim[1], b"x")
            self.store.release(key, claim[1])

    @rule(key=keys)
    def look(self, key: str) -> None:
        assert self.store.wait(key, 0.0) == self.model.look(key)

    @rule(time=seconds)
    def pass_time(self, time: float) -> None:
        self.clock.seconds += time
        self.model.now += time

    @rule()
    def close(self) -> None:
        self.store.close()

    def teardown(self) -> None:
        self.store.close()


class SqliteMachine(Machine):
    def make(self) -> IdempotencyStore:
        self.folder = tempfile.TemporaryDirectory(prefix="catga-test-")
        path = Path(self.folder.name, "claims.sqlite3")
        return SqliteIdempotency(path, ttl=TTL, max_body_bytes=MAX_BODY, clock=self.clock)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestMemory = pytest.mark.thorough(Machine.TestCase)
TestMemory.settings = settings(max_examples=tried(800), stateful_step_count=40, deadline=None)
TestSqlite = pytest.mark.thorough(SqliteMachine.TestCase)
TestSqlite.settings = settings(max_examples=tried(200), stateful_step_count=40, deadline=None)

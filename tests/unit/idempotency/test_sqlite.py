"""The SQLite file: the contract, and what files, locks, processes, clocks and boots do to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catga_sync.idempotency import Claim, SqliteIdempotency, StoredReply, sqlite
from tests import processes
from tests.contracts.discovery import HeldClock
from tests.contracts.idempotency import DONE, LONG, LOST, NEW, RUNNING, Elsewhere, Make, SharedContract, in_threads

#: Seconds that a call may take at the very most; it is to take half of one, but machines may be busy.
BOUND = 3.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "claims.sqlite3"


@pytest.fixture
def opened() -> Iterator[Callable[..., SqliteIdempotency]]:
    """Make stores that are closed at the end: 3.13 warns of connections that nobody closed."""
    with contextlib.ExitStack() as stack:
        yield lambda *values, **options: stack.enter_context(
            contextlib.closing(SqliteIdempotency(*values, **options))
        )


class TestHeldClock(SharedContract):
    """All of it on a clock that is held. Other processes have the system's, so what they do is in the next class."""

    @pytest.fixture
    def make(self, path: Path, opened: Callable[..., SqliteIdempotency]) -> Make:
        clock = self.clock = HeldClock()

        def make(**options: Any) -> SqliteIdempotency:
            return opened(path, clock=clock, **options)

        return make

    @pytest.fixture
    def elsewhere(self) -> str:
        pytest.skip("another process has the system's clock: see TestSystemClock")


class TestSystemClock(SharedContract):
    short = 0.6

    @pytest.fixture
    def make(self, path: Path, opened: Callable[..., SqliteIdempotency]) -> Make:
        def make(**options: Any) -> SqliteIdempotency:
            return opened(path, **options)

        return make

    @pytest.fixture
    def elsewhere(self, path: Path) -> str:
        return f"SqliteIdempotency({str(path)!r}, ttl={self.short})"



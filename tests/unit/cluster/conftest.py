"""For all tests of this folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from catga_sync.cluster.worker_group import WorkerGroup
from catga_sync.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _groups_are_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the groups that a test joins let go of their lock files at its end, as a process that ends does."""
    joined: list[WorkerGroup] = []
    join = WorkerGroup.join

    def noted(group: WorkerGroup) -> str:
        joined.append(group)
        return join(group)

    monkeypatch.setattr(WorkerGroup, "join", noted)
    yield
    for group in joined:
        with contextlib.suppress(ConfigurationError):  # the test has spoiled the folder
            group.leave()

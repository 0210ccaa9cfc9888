"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.nodes import Nodes


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """The nodes of a cluster of its own, over an SQLite file; none is started yet."""
    with Nodes(tmp_path) as made:
        yield made

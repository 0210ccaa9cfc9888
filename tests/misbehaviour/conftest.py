"""The invoker that meets the peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catga_sync.serialization import MessageRegistry
from catga_sync.transport import HttpInvoker


@pytest.fixture
def invoker() -> Iterator[HttpInvoker]:
    """An invoker with settings of its own and no session of anybody's."""
    made = HttpInvoker(MessageRegistry(), source_node_id="caller", max_body_bytes=100_000)
    yield made
    made.close()

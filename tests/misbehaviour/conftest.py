"""The invoker that meets the peers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from catga_sync.serialization import MessageRegistry
from catga_sync.transport import EnvelopeInvoker, create_invoker


@pytest.fixture
def invoker() -> Iterator[EnvelopeInvoker]:
    """An invoker with settings of its own and no session of anybody's."""
    made = create_invoker(MessageRegistry(), source_node_id="caller", max_body_bytes=100_000)
    yield made
    made.close()

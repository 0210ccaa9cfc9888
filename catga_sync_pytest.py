"""The pytest plugin of catga_sync: the fixtures ``fake_mediator`` and ``local_cluster``.

pytest imports it in every run, whether the tests use it or not. So it lies outside the package, whose import takes a
tenth of a second, and imports that in the fixtures. It has no assertions for pytest to rewrite: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from catga_sync.testing import FakeMediator, LocalCluster

__all__ = ["fake_mediator", "local_cluster"]


@pytest.fixture
def fake_mediator(request: pytest.FixtureRequest) -> Iterator[FakeMediator]:
    """
    A ``catga_sync.testing.FakeMediator``; after the test it fails if a request was sent that was not expected.

    One whose error the test function itself has caught, as with ``pytest.raises``, is expected.
    """
    from catga_sync.testing import FakeMediator

    fake = FakeMediator()
    yield fake
    fake.assert_none_unexpected(unless_caught_in=request.function)


@pytest.fixture
def local_cluster() -> Iterator[LocalCluster]:
    """A ``catga_sync.testing.LocalCluster`` without nodes, closed after the test."""
    from catga_sync.testing import LocalCluster

    with LocalCluster() as cluster:
        yield cluster

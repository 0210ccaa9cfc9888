"""For all tests of this folder."""

from __future__ import annotations

import pytest

from catga_sync import _sqlite


@pytest.fixture(autouse=True)
def _files_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no file that another thread holds."""
    monkeypatch.setattr(_sqlite, "_BUSY_TIMEOUT", 20.0)

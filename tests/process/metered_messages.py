"""What the node of ``metered.py`` is asked beside the messages of ``app.py``. Importing it starts nothing."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import Request, message
from tests.process.messages import Answer

__all__ = ["Orphan", "Private", "Unfit", "Wait"]


@message(name="tests.Orphan")
@dataclass(frozen=True)
class Orphan(Request[str]):
    """A request that this node knows and does not handle."""

    text: str


@message(name="tests.Private", remote=False)
@dataclass(frozen=True)
class Private(Request[Answer]):
    """A request that no other node may send."""

    text: str


@message(name="tests.Unfit")
@dataclass(frozen=True)
class Unfit(Request[Answer]):
    """A request whose response does not fit its type."""


@message(name="tests.Wait")
@dataclass(frozen=True)
class Wait(Request[None]):
    """A request that makes a file when it begins, and ends when there is the other one."""

    started: str
    go: str

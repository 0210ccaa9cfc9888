"""The messages that the apps of the process tests handle.

They are not in the apps: a test that imports an app would have its node run in the process of the tests, until the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import Query, Request, message

# -- app.py ------------------------------------------------------------------------------------------------------------


@message(name="tests.Answer")
@dataclass(frozen=True)
class Answer:
    """Says what was asked and who answered."""

    text: str
    pid: int


@message(name="tests.Ask")
@dataclass(frozen=True)
class Ask(Query[Answer]):
    """A query."""

    text: str


@message(name="tests.Do")
@dataclass(frozen=True)
class Do(Request[Answer]):
    """A plain request."""

    text: str


@message(name="tests.Fail")
@dataclass(frozen=True)
class Fail(Request[Answer]):
    """A request that the handler refuses in the way that ``how`` says."""

    how: str


@message(name="tests.Hold")
@dataclass(frozen=True)
class Hold(Request[Answer]):
    """A request that makes a file when it begins, and runs for so many seconds."""

    started: str
    seconds: float = 60.0


@message(name="tests.Crowd")
@dataclass(frozen=True)
class Crowd(Request[Answer]):
    """A request that runs for a moment; its answer says how many of its kind have run at once so far."""


@message(name="tests.Relay")
@dataclass(frozen=True)
class Relay(Request[Answer]):
    """A request whose handler sends another one, which only the other node handles."""

    text: str


@message(name="tests.Tell")
@dataclass(frozen=True)
class Tell(Request[dict[str, str]]):
    """A request whose answer is the context of its call."""


# -- returning.py ------------------------------------------------------------------------------------------------------


@message(name="tests.Out")
@dataclass(frozen=True)
class Out(Request[int]):
    """For ``near``."""


@message(name="tests.Back")
@dataclass(frozen=True)
class Back(Request[int]):
    """For ``far``."""


@message(name="tests.Home")
@dataclass(frozen=True)
class Home(Request[int]):
    """For ``near``."""


# -- traced.py ---------------------------------------------------------------------------------------------------------


@message(name="traces.First")
@dataclass(frozen=True)
class First(Request[str]):
    """Asks for Second."""

    how: str


@message(name="traces.Second")
@dataclass(frozen=True)
class Second(Request[str]):
    """Asks for Third, twice: alone and in a batch."""

    how: str


@message(name="traces.Third")
@dataclass(frozen=True)
class Third(Request[str]):
    """Asks for Inside, which is handled by the same process."""

    how: str


@message(name="traces.Inside", remote=False)
@dataclass(frozen=True)
class Inside(Request[str]):
    """Does what ``how`` says."""

    how: str

"""What every peer sends and gets: a request with a text, a response with the same text."""

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import Request, message

#: The text of a call, where a part does not vary its length.
TEXT = "x" * 100


@message(name="bench.Told")
@dataclass(frozen=True)
class Told:
    text: str


@message(name="bench.Ask")
@dataclass(frozen=True)
class Ask(Request[Told]):
    text: str


def answer(request: Ask) -> Told:
    """Handle a request, at every peer."""
    return Told(request.text)

"""What the two services share."""

from dataclasses import dataclass

from catga_sync import Query


@dataclass(frozen=True)
class Character:
    character: str
    name: str
    category: str


@dataclass(frozen=True)
class DescribeText(Query[list[Character]]):
    """Ask for what Unicode knows of each character of a text."""

    text: str

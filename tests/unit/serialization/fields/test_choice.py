"""The name of an Enum's member is read in any spelling, as the name of a property is."""

from __future__ import annotations

import enum
import json
from typing import Any

import pytest

from catga_sync.errors import SerializationError
from tests.tables import every_row
from tests.unit.serialization.codecs import codec_of


class Priority(enum.Enum):
    LOW = 0
    VERY_HIGH = 3
    URGENT = 3  # noqa: PIE796  # another name of it


class Mood(str, enum.Enum):
    VERY_GOOD = "very-good"
    NOT_SO_GOOD = "VERY_GOOD"


class Rank(enum.IntEnum):
    FirstPlace = 1
    second_place = 2


class Access(enum.Flag):
    READ_ALL = 1
    WRITE_ALL = 2


class Twins(enum.Enum):
    AB_C = 1
    A_BC = 2
    OTHER = 3


SPELLINGS = [
    (Priority, "VeryHigh", Priority.VERY_HIGH),
    (Priority, "veryHigh", Priority.VERY_HIGH),
    (Priority, "very_high", Priority.VERY_HIGH),
    (Priority, "VERYHIGH", Priority.VERY_HIGH),
    (Priority, "Urgent", Priority.VERY_HIGH),
    (Priority, "low", Priority.LOW),
    (Rank, "FIRST_PLACE", Rank.FirstPlace),
    (Rank, "SecondPlace", Rank.second_place),
    (Access, "ReadAll", Access.READ_ALL),
    (Mood, "VeryGood", Mood.VERY_GOOD),
    # what it says exactly comes first: a value, then a name
    (Mood, "VERY_GOOD", Mood.NOT_SO_GOOD),
    (Twins, "AB_C", Twins.AB_C),
    (Twins, "A_BC", Twins.A_BC),
    (Twins, "Other", Twins.OTHER),
]


@every_row(("kind", "text", "member"), SPELLINGS)
def test_a_name_of_several_words_is_read_in_every_spelling_as_value_and_as_key(
    kind: Any, text: str, member: enum.Enum
) -> None:
    assert codec_of(kind).decode(json.dumps(text).encode()) is member
    assert codec_of(list[kind]).decode(json.dumps([text]).encode()) == [member]
    assert codec_of(dict[kind, int]).decode(json.dumps({text: 1}).encode()) == {member: 1}


@every_row("text", ["Abc", "abC", "ab_c", "ABC"])
def test_a_spelling_that_two_members_share_is_refused_as_value_and_as_key(text: str) -> None:
    for annotation, data in ((Twins, text), (dict[Twins, int], {text: 1})):
        with pytest.raises(SerializationError, match="expected one of 1, 2, 3"):
            codec_of(annotation).decode(json.dumps(data).encode())


@every_row("text", ["_VERY_HIGH", "very-high", "very high", "VeryHigher", "", "_"])
def test_what_is_no_spelling_of_a_name_is_refused(text: str) -> None:
    with pytest.raises(SerializationError, match="expected one of 0, 3"):
        codec_of(Priority).decode(json.dumps(text).encode())


def test_two_spellings_of_one_key_are_refused() -> None:
    with pytest.raises(SerializationError, match="two keys that mean the same"):
        codec_of(dict[Priority, int]).decode(b'{"VeryHigh":1,"VERY_HIGH":2}')


@every_row("member", [*Priority, *Mood, *Rank, *Twins])
def test_a_member_is_written_as_its_value(member: enum.Enum) -> None:
    codec = codec_of(type(member))
    assert json.loads(codec.encode(member)) == member.value
    assert codec.decode(codec.encode(member)) is member

# ruff: noqa: UP045  # both ways to write a union
"""What .NET calls the type of an answer: accepted in every form, and sent in one that it finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Generic, Literal, NewType, Optional, TypeVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync.errors import RegistrationError
from catga_sync.messages import Event, Query, message
from catga_sync.serialization import MAX_NAME, MessageRegistry, MessageType
from catga_sync.serialization.dotnet import parse_name
from tests.tables import every_row

T = TypeVar("T")
CONTRACTS = ", Shop.Contracts, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null"
CORE = ", System.Private.CoreLib, Version=9.0.0.0, Culture=neutral, PublicKeyToken=7cec85d7bea7798e"
MSCORLIB = ", mscorlib, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089"
LIST = "System.Collections.Generic.List`1"
DICTIONARY = "System.Collections.Generic.Dictionary`2"


@dataclass
class Price:
    amount: float


@message(name="Shop.Models.User, Shop.Models, Version=1.0.0.0")
@dataclass
class User:
    name: str


@message(aliases=["Shop.Models.Cart, Shop.Models"])
@dataclass
class Cart:
    count: int


class Color(enum.Enum):
    RED = 1


@dataclass
class Page(Generic[T]):
    items: list[T]


UserId = NewType("UserId", int)


def entry_of(annotation: Any, *, name: str = f"Shop.Contracts.Get{CONTRACTS}", **options: Any) -> MessageType:
    class Get(Query[annotation]):  # type: ignore[valid-type]
        pass

    return MessageRegistry().register(dataclass(Get), name=name, **options)


SENT = [
    (str, "System.String"),
    (int, "System.Int32"),
    (UserId, "System.Int32"),
    (Optional[int], "System.Nullable`1[[System.Int32]]"),
    (Optional[str], "System.String"),
    (bool, "System.Boolean"),
    (float, "System.Double"),
    (Decimal, "System.Decimal"),
    (bytes, "System.Byte[]"),
    (datetime, "System.DateTime"),
    (date, "System.DateOnly"),
    (time, "System.TimeOnly"),
    (timedelta, "System.TimeSpan"),
    (UUID, "System.Guid"),
    (Any, "System.Object"),
    (None, "System.Object"),
    (Literal["a", "b"], "System.String"),
    (Literal["a", 1], "System.Object"),
    (list[str], f"{LIST}[[System.String]]"),
    (tuple[str, ...], f"{LIST}[[System.String]]"),
    (tuple[str, int], "System.Object[]"),
    (set[str], "System.Collections.Generic.HashSet`1[[System.String]]"),
    (list, f"{LIST}[[System.Object]]"),
    (dict, f"{DICTIONARY}[[System.String],[System.Object]]"),
    (dict[str, list[int | None]], f"{DICTIONARY}[[System.String],[{LIST}[[System.Nullable`1[[System.Int32]]]]]]"),
    (Price, f"Shop.Contracts.Price{CONTRACTS}"),
    (Optional[Price], f"Shop.Contracts.Price{CONTRACTS}"),
    (list[Price], f"{LIST}[[Shop.Contracts.Price{CONTRACTS}]]"),
    (User, "Shop.Models.User, Shop.Models, Version=1.0.0.0"),
    (Cart, "Shop.Models.Cart, Shop.Models"),
    (list[Cart], f"{LIST}[[Shop.Models.Cart, Shop.Models]]"),
    (dict[str, User], f"{DICTIONARY}[[System.String],[Shop.Models.User, Shop.Models, Version=1.0.0.0]]"),
    (Color, f"Shop.Contracts.Color{CONTRACTS}"),
    (Optional[Color], f"System.Nullable`1[[Shop.Contracts.Color{CONTRACTS}]]"),
    (Page[User], f"Shop.Contracts.Page`1[[Shop.Models.User, Shop.Models, Version=1.0.0.0]]{CONTRACTS}"),
]


@every_row(("annotation", "name"), SENT)
def test_a_request_for_dotnet_says_a_type_that_dotnet_finds_and_accepts_it_itself(annotation: Any, name: str) -> None:
    entry = entry_of(annotation)
    assert entry.response_name == name
    for each in (name, name + CORE if name.startswith("System.") else name):
        assert entry.accepts_response(each)


ACCEPTED = [
    (str, ["System.String", f"System.String{CORE}", f"System.String{MSCORLIB}"]),
    (int, ["System.Int32", "System.Int64", f"System.Int32{MSCORLIB}", "System.Nullable`1[System.Int32]"]),
    (int, [f"System.Nullable`1[[System.Int32{CORE}]]{CORE}", "System.Byte", "System.UInt64"]),
    (Optional[int], ["System.Int32", f"System.Nullable`1[[System.Int64{CORE}]]{CORE}"]),
    (bool, [f"System.Boolean{CORE}"]),
    (float, [f"System.Double{CORE}", "System.Single"]),
    (Decimal, [f"System.Decimal{CORE}", f"System.Nullable`1[[System.Decimal{CORE}]]{CORE}"]),
    (bytes, [f"System.Byte[]{CORE}"]),
    (datetime, ["System.DateTime", "System.DateTimeOffset"]),
    (None, ["System.Void", "System.Object", f"System.Object{CORE}"]),
    (
        Any,
        [f"System.Object{CORE}", "System.Text.Json.JsonElement, System.Text.Json", "System.Object[]", f"{LIST}[[X]]"],
    ),
    (
        list[int],
        [
            f"{LIST}[[System.Int32{CORE}]]{CORE}",
            f"{LIST}[[System.Int32{MSCORLIB}]]{MSCORLIB}",
            f"{LIST}[System.Int32]",
            f"System.Int32[]{CORE}",
            f"System.Collections.Generic.IReadOnlyList`1[[System.Int64{CORE}]]{CORE}",
            f"System.Collections.Generic.IEnumerable`1[[System.Int32{CORE}]]{CORE}",
            "System.Collections.Immutable.ImmutableArray`1[[System.Int32]], System.Collections.Immutable",
        ],
    ),
    (frozenset[str], [f"System.Collections.Generic.ISet`1[[System.String{CORE}]]{CORE}", "System.String[]"]),
    (
        dict[str, list[Decimal]],
        [
            f"{DICTIONARY}[[System.String{CORE}],[{LIST}[[System.Decimal{CORE}]]{CORE}]]{CORE}",
            f"{DICTIONARY}[[System.String{CORE}], [System.Decimal[]{CORE}]]{CORE}",
            f"System.Collections.Generic.IReadOnlyDictionary`2[System.String,{LIST}[System.Decimal]]",
        ],
    ),
    (list[list[str]], ["System.String[][]", f"System.String[][]{CORE}", f"{LIST}[[System.String[]{CORE}]]"]),
    (
        Price,
        [f"Shop.Contracts.Price{CONTRACTS}", "Shop.Contracts.Price", "Shop.Contracts.Price, Other, Version=7.0.0.0"],
    ),
    (list[Price], [f"Shop.Contracts.Price[]{CONTRACTS}", f"{LIST}[[Shop.Contracts.Price{CONTRACTS}]]{CORE}"]),
    (
        list[User],
        [f"{LIST}[[Shop.Models.User, Shop.Models, Version=2.0.0.0]]{CORE}", "Shop.Models.User[], Shop.Models"],
    ),
    (dict[UUID, Cart], [f"{DICTIONARY}[[System.Guid{CORE}],[Shop.Models.Cart, Shop.Models]]{CORE}"]),
    (Page[User], [f"Shop.Contracts.Page`1[[Shop.Models.User, Shop.Models, Version=3.0.0.0]]{CONTRACTS}"]),
]


@every_row("alias", [False, True], ids=["by its name", "by an alias"])
@every_row(("annotation", "names"), ACCEPTED)
def test_every_form_that_dotnet_may_send_is_accepted(annotation: Any, names: list[str], alias: bool) -> None:
    dotnet = f"Shop.Contracts.Get{CONTRACTS}"
    entry = entry_of(annotation, name="shop.get", aliases=[dotnet]) if alias else entry_of(annotation)
    assert [name for name in names if not entry.accepts_response(name)] == []


REFUSED = [
    (str, ["System.Int32", "System.String[]", "System.StringBuilder", "string", "System", "String", "system.string"]),
    (int, ["System.String", "System.Int32[]", f"{LIST}[[System.Int32]]", "System.Double", "System.Nullable`1"]),
    (bytes, [f"{LIST}[[System.Byte]]", "System.Byte", "System.Int32[]"]),
    (
        list[int],
        ["System.Byte[]", "System.String[]", LIST, f"{LIST}[]", f"{LIST}[[System.Int32],[System.Int32]]", "X[]"],
    ),
    (dict[str, int], [f"{DICTIONARY}[[System.Int32],[System.String]]", f"{DICTIONARY}[[System.String]]", DICTIONARY]),
    (Price, ["Shop.Contracts.Cart", "Shop.Price", f"Shop.Contracts.Price[]{CONTRACTS}", "Shop.Contracts.Price`1[[X]]"]),
    (User, ["Shop.Models.Price, Shop.Models"]),
    (None, ["System.String", "Shop.Contracts.Price"]),
    (Any, ["Shop.Contracts.Price", "SystemX.Y"]),
    (int, ["", "[", "]", "[]", ",", "System.Int32[", "System.Int32]", "System.Int32[[", "System.Int32[,]", "[[]]"]),
    (list[int], ["[[" * 500, "]" * 1000, f"{LIST}[" * 20, "a[" * 400 + "]" * 400, f"{LIST}[[System.Int32]x]"]),
]


@every_row(("annotation", "names"), REFUSED)
def test_what_is_the_name_of_something_else_or_of_nothing_is_refused(annotation: Any, names: list[str]) -> None:
    entry = entry_of(annotation)
    assert [name for name in names if entry.accepts_response(name)] == []


NESTED = entry_of(list[dict[str, int]])


@given(st.text("ab.,[] `1", max_size=40))
def test_no_text_is_trouble(text: str) -> None:
    assert not NESTED.accepts_response(text)
    parse_name(text)


def test_a_request_between_python_nodes_is_answered_under_the_name_that_they_know() -> None:
    entry = entry_of(list[Price], name="shop.get")
    assert entry.response_name == f"list[{__name__}.Price]"
    assert entry_of(list[Price]).accepts_response(entry.response_name)
    assert entry.accepts_response(f"{LIST}[[shop.Price, Shop]]")


@every_row("annotation", [int, list[Price], dict[str, Any], Price, None])
@every_row("name", ["shop.get", f"Shop.Contracts.Get{CONTRACTS}"])
def test_a_response_name_is_sent_and_accepted_in_full_and_in_short(annotation: Any, name: str) -> None:
    given = f"System.Collections.Generic.IReadOnlyList`1[[Shop.Other.Price{CONTRACTS}]]{CORE}"
    entry = entry_of(annotation, name=name, response_name=given)
    assert entry.response_name == given
    for each in (given, given.replace("1.0.0.0", "2.0.0.0"), given.removesuffix(CORE)):
        assert entry.accepts_response(each)
    assert entry.accepts_response(entry_of(annotation, name=name).response_name)


def test_a_response_name_is_said_by_the_decorator_or_at_registration() -> None:
    @message(response_name="Shop.Prices, Shop")
    @dataclass
    class Get(Query[list[Price]]):
        pass

    assert MessageRegistry().register(Get).response_name == "Shop.Prices, Shop"
    registry = MessageRegistry()
    entry = registry.register(Get, response_name="Other, Shop")
    assert entry.response_name == "Other, Shop"
    assert registry.register(Get, response_name="Other, Shop") is entry
    with pytest.raises(
        RegistrationError, match="Get: response_name: the class is registered already with another value"
    ):
        registry.register(Get, response_name="Shop.Prices, Shop")


@every_row("response_name", ["", "a\nb", "x" * 1025, 7, ","])
def test_a_response_name_that_cannot_be_is_an_error(response_name: Any) -> None:
    with pytest.raises(RegistrationError, match="Get: response_name: give "):
        entry_of(int, response_name=response_name)


@pytest.mark.parametrize("base", [Event, object])
def test_only_a_request_has_a_response_to_be_named(base: type) -> None:
    class Told(base):  # type: ignore[misc]
        pass

    with pytest.raises(RegistrationError, match="Told: response_name: only a request has a response"):
        MessageRegistry().register(dataclass(Told), response_name="x")


def test_names_of_1024_characters_are_registered_and_found() -> None:
    name = "N." + "x" * (MAX_NAME - 2)
    registry = MessageRegistry()

    @dataclass
    class Get(Query[int]):
        pass

    entry = registry.register(Get, name=name, aliases=["y" * MAX_NAME], response_name="z" * MAX_NAME)
    assert (MAX_NAME, registry.find(name), registry.find("y" * MAX_NAME)) == (1024, entry, entry)
    assert entry.accepts_response("z" * MAX_NAME)


def test_a_response_whose_name_would_be_too_long_to_be_read_is_an_error_that_says_what_to_write() -> None:
    annotation: Any = Literal[tuple(f"value {number:05}" for number in range(80))]
    with pytest.raises(RegistrationError, match=r"Get: response: its name .* 1024 are allowed; give .*response_name"):
        entry_of(annotation, name="shop.get")
    assert entry_of(annotation, name="shop.get", response_name="Value").response_name == "Value"

# ruff: noqa: UP045  # both ways to write a union
"""Names, classes and what is known of them."""

import threading
import types
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar

import pytest
from marshmallow import Schema, fields

from catga_sync.errors import RegistrationError, UnknownTypeError
from catga_sync.messages import Event, Query, Request, message
from catga_sync.serialization import MessageKind, MessageRegistry, MessageType
from tests.tables import every_row

T = TypeVar("T")
DOTNET = "Acme.Users.GetUserRequest, Acme.Users, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null"


@dataclass(frozen=True)
class User:
    user_id: str


@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str


@dataclass(frozen=True)
class Rename(Request[None]):
    user_id: str
    to: str = ""


@dataclass(frozen=True)
class Renamed(Event):
    user_id: str


@dataclass
class Page(Generic[T]):
    items: list[T]


class UserSchema(Schema):
    user_id = fields.Str()


@pytest.fixture
def registry():
    return MessageRegistry()


def test_a_request_is_known_by_class_and_by_name(registry):
    entry = registry.register(GetUser)
    assert isinstance(entry, MessageType)
    assert entry.name == f"{__name__}.GetUser"
    assert entry.kind is MessageKind.REQUEST
    assert registry.by_type(GetUser) is registry.by_name(entry.name) is registry.find(entry.name) is entry
    assert registry.ensure(GetUser) is entry
    assert GetUser in registry
    assert entry.name in registry
    assert "other" not in registry
    assert 7 not in registry


def test_the_class_of_the_answer_is_registered_too(registry):
    entry = registry.register(GetUser)
    user = registry.by_type(User)
    assert user.kind is MessageKind.DATA
    assert entry.response_name == user.name == f"{__name__}.User"
    assert (user.response_name, user.response_codec, user.response_check) == ("", None, None)
    assert [found.cls for found in registry] == [User, GetUser]
    assert len(registry) == 2


def test_an_event_has_no_answer(registry):
    entry = registry.register(Renamed)
    assert entry.kind is MessageKind.EVENT
    assert (entry.response_name, entry.response_codec, entry.idempotent) == ("", None, False)
    assert not entry.accepts_response("")


def test_a_query_may_run_twice_and_a_request_may_not(registry):
    assert registry.register(GetUser).idempotent
    assert not registry.register(Rename).idempotent
    assert MessageRegistry().register(Rename, idempotent=True).idempotent
    assert not MessageRegistry().register(GetUser, idempotent=False).idempotent


def test_the_senders_first_use_registers(registry):
    assert registry.ensure(GetUser) is registry.by_type(GetUser)


def test_what_is_unknown_says_what_to_do(registry):
    with pytest.raises(UnknownTypeError, match=r"'no\.Such' is not registered here; .*@message\(aliases"):
        registry.by_name("no.Such")
    with pytest.raises(UnknownTypeError, match="GetUser is not registered"):
        registry.by_type(GetUser)
    assert registry.find("no.Such") is None


@pytest.mark.parametrize("name", ["x" * 1025, "x," * 600, "[" * 100_000, "", ",", None, b"x", 7])
def test_no_name_from_outside_is_trouble(registry, name):
    registry.register(GetUser)
    assert registry.find(name) is None
    with pytest.raises(UnknownTypeError) as caught:
        registry.by_name(name)
    assert len(str(caught.value)) < 1000


def test_what_is_given_wins_over_the_decorator():
    @message(name="a", aliases=("b",), idempotent=True, route="r", key="n", remote=False)
    @dataclass
    class Get(Request[int]):
        n: int
        m: int = 0

    entry = MessageRegistry().register(Get)
    assert (entry.name, entry.aliases, entry.route, entry.key, entry.remote) == ("a", ("b",), "r", "n", False)
    entry = MessageRegistry().register(Get, name="c", aliases=["d"], idempotent=False, route="s", key="m", remote=True)
    assert (entry.name, entry.aliases, entry.route, entry.key, entry.remote) == ("c", ("d",), "s", "m", True)
    assert not entry.idempotent


@pytest.mark.parametrize(
    "again",
    [{}, {"name": "n"}, {"aliases": ("a",)}, {"remote": True}, {"idempotent": False}, {"schema": UserSchema}],
)
def test_registering_again_without_contradiction_changes_nothing(registry, again):
    entry = registry.register(Rename, name="n", aliases=("a", "b"), schema=UserSchema)
    assert registry.register(Rename, **again) is entry


@pytest.mark.parametrize(
    "again",
    [
        {"name": "m"},
        {"aliases": ("c",)},
        {"remote": False},
        {"idempotent": True},
        {"schema": UserSchema},
        {"response_schema": UserSchema},
        {"route": "r"},
        {"key": "to"},
    ],
)
def test_registering_again_with_a_contradiction_is_an_error(registry, again):
    registry.register(Rename, name="n")
    with pytest.raises(RegistrationError, match=rf"Rename: {next(iter(again))}: the class is registered already"):
        registry.register(Rename, **again)


@pytest.mark.parametrize(
    "options", [{"name": "n"}, {"aliases": ("n",)}, {"name": "n, Assembly"}, {"aliases": ("n , X",)}]
)
def test_a_name_of_two_classes_is_an_error_that_names_both(registry, options):
    registry.register(Rename, name="n")
    with pytest.raises(
        RegistrationError, match=r"Rename and .*GetUser; give one of them another name with @message\(name="
    ):
        registry.register(GetUser, **options)
    assert GetUser not in registry
    assert User not in registry


def test_after_an_error_nothing_is_kept(registry):
    registry.register(Rename, name="taken")
    with pytest.raises(RegistrationError):
        registry.register(GetUser, aliases=("free", "taken"))
    assert [entry.cls for entry in registry] == [Rename]
    assert registry.find("free") is None
    assert registry.register(GetUser).name == f"{__name__}.GetUser"


def test_a_dotnet_name_resolves_in_full_in_short_and_in_another_version(registry):
    entry = registry.register(GetUser, name=DOTNET, aliases=["Acme.Page`1[[Acme.User, Acme, Version=1.0.0.0]], Acme"])
    assert entry.name == DOTNET
    for name in (
        DOTNET,
        "Acme.Users.GetUserRequest",
        DOTNET.replace("1.0", "2.3"),
        "Acme.Users.GetUserRequest, Other",
        "Acme.Page`1[[Acme.User, Acme, Version=1.0.0.0]]",
        "Acme.Page`1[[Acme.User, Acme, Version=7.0.0.0]], Acme, Version=3.0.0.0",
    ):
        assert registry.by_name(name) is entry
    assert registry.find("Acme.Users") is None
    assert registry.find("acme.users.getuserrequest") is None


def test_the_name_of_an_answer_is_accepted_in_all_its_forms():
    @message(aliases=["Acme.Users.UserResponse, Acme.Users, Version=1.0.0.0"])
    @dataclass
    class Answer:
        pass

    @dataclass
    class Get(Request[Answer]):
        pass

    entry = MessageRegistry().register(Get)
    assert entry.accepts_response(entry.response_name)
    assert entry.accepts_response("Acme.Users.UserResponse")
    assert entry.accepts_response("Acme.Users.UserResponse, Acme.Users, Version=2.0.0.0")
    assert not entry.accepts_response("Acme.Users.Other")
    assert not entry.accepts_response("")


Identifier = NewType("Identifier", int)


@every_row(
    ("annotation", "name", "check"),
    [
        (User, f"{__name__}.User", (User,)),
        (Optional[User], f"{__name__}.User", (User,)),
        (int, "int", (int,)),
        (float, "float", (float, int)),
        (Identifier, "int", (int,)),
        (Annotated[str, 1], "str", (str,)),
        (Decimal, "Decimal", (Decimal,)),
        (list[User], f"list[{__name__}.User]", (list,)),
        (list[Optional[int]], "list[Optional[int]]", (list,)),
        (dict[str, list[int]], "dict[str, list[int]]", (dict,)),
        (tuple[int, ...], "tuple[int, ...]", (tuple,)),
        (Page[User], f"{__name__}.Page[{__name__}.User]", (Page,)),
        (Literal["a", 1], "Literal['a', 1]", None),
        (Any, "any", None),
        (None, "none", (type(None),)),
        ("User", f"{__name__}.User", (User,)),
        (list["User"], f"list[{__name__}.User]", (list,)),
    ],
)
def test_an_answer_of_any_kind_has_a_name_and_a_check(annotation, name, check):
    class Get(Request[annotation]):
        pass

    entry = MessageRegistry().register(dataclass(Get))
    assert entry.response_name == name
    assert entry.response_check == check
    assert entry.accepts_response(name)


def test_a_bare_request_is_answered_with_plain_data(registry):
    @dataclass
    class Ask(Request):
        pass

    entry = registry.register(Ask)
    assert entry.response_type is Any
    assert entry.response_codec.decode(b'{"a":[1]}') == {"a": [1]}


def test_the_answer_is_found_through_the_bases(registry):
    @dataclass
    class Base(Query[list[T]], Generic[T]):
        pass

    @dataclass
    class Middle(Base[T]):
        pass

    @dataclass
    class Get(Middle[User]):
        pass

    @dataclass
    class Sub(Get):
        pass

    entry = registry.register(Sub)
    assert entry.response_type == list[User]
    assert entry.idempotent
    assert registry.register(Base).response_type is Any


def test_a_request_may_be_answered_by_itself(registry):
    entry = registry.register(Echo)
    assert entry.response_codec.decode(b'{"text":"a"}') == Echo("a")
    assert entry.response_name == entry.name


@dataclass
class Echo(Request["Echo"]):
    text: str


@pytest.mark.parametrize("key", ["nope", "userId", "__class__"])
def test_a_key_that_is_no_field_is_an_error(registry, key):
    with pytest.raises(RegistrationError, match=r"Rename: key: .* which are: user_id, to"):
        registry.register(Rename, key=key)


@pytest.mark.parametrize(
    "options", [{"name": ""}, {"name": "a\n"}, {"aliases": ("x" * 1025,)}, {"aliases": (7,)}, {"aliases": "ab"}]
)
def test_a_name_that_cannot_be_is_an_error(registry, options):
    with pytest.raises(RegistrationError, match="name"):
        registry.register(Rename, **options)


@pytest.mark.parametrize("thing", [Rename("a"), "Rename", None, list[int]])
def test_only_classes_are_registered(registry, thing):
    with pytest.raises(RegistrationError):
        registry.register(thing)


def test_many_threads_get_one_entry(registry):
    classes = [dataclass(types.new_class(f"C{n}", (Request[User],))) for n in range(20)]
    start = threading.Barrier(8)
    found = []

    def work():
        start.wait()
        found.append([registry.ensure(cls) for cls in classes])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(entries == found[0] for entries in found)
    assert len(registry) == 21


def test_registries_know_nothing_of_each_other(registry):
    registry.register(GetUser, name="a")
    assert MessageRegistry().register(GetUser, name="b").name == "b"
    assert registry.by_type(GetUser).name == "a"

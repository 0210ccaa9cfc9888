# ruff: noqa: F401, UP045  # the spellings are texts that use these names, and every way to write a union
"""One type, however it is written: as a field, as an answer, and as what a handler returns."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NewType, Optional, Union

import pytest
from marshmallow import fields

from catga_sync.errors import RegistrationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from catga_sync.serialization import CatgaSchema, MessageRegistry, MessageType
from tests.tables import every_row

THIS = sys.modules[__name__]


@dataclass(frozen=True)
class User:
    name: str


@dataclass(frozen=True)
class Admin(User):
    pass


@dataclass(frozen=True)
class Stranger:
    name: str


Member = NewType("Member", User)
#: A type with all its spellings, as an expression of this module's names.
SPELLINGS = {
    "User | None": [
        "Optional[User]",
        "Union[User, None]",
        "Union[None, User]",
        "None | User",
        "'User | None'",
        "Optional['User']",
        "Annotated[User | None, 'why']",
        "Annotated[Optional[User], 'why']",
        "Annotated[User, 'why'] | None",
        "Optional[Annotated['User', 'why']]",
        "Optional[Member]",
        "Member | None",
    ],
    "list[User | None]": [
        "list[Optional[User]]",
        "typing.List[Optional[User]]",
        "'list[User | None]'",
        "list['User | None']",
        "Annotated[list[Annotated[User, 1] | None], 2]",
        "list[Optional[Member]]",
    ],
    "dict[str, list[User | None] | None]": [
        "dict[str, Optional[list[Optional[User]]]]",
        "typing.Dict[str, Union[None, list['User | None']]]",
        "dict[Annotated[str, 1], Annotated[list[Member | None] | None, 2]]",
        "'dict[str, Optional[list[Optional[User]]]]'",
    ],
}
ALIASES = """
from __future__ import annotations
from tests_of_annotations import User, Annotated, Optional

type Maybe[T] = T | None
type MaybeUser = User | None
type Again = MaybeUser
type Rows[T] = list[Maybe[T]]
type Later = Maybe[Defined]
type Defined = User
type Text = "Optional[User]"
type Endless = list[Endless]
type Itself = Itself | None
type Unknown = Nothing | None
"""
SPELLINGS_OF_312 = {
    "User | None": ["Maybe[User]", "MaybeUser", "Again", "Later", "Text", "Optional[Defined]", "Annotated[Again, 1]"],
    "list[User | None]": ["Rows[User]", "list[MaybeUser]", "Rows[Defined]", "Annotated[Rows[User], 1]"],
    "dict[str, list[User | None] | None]": ["dict[str, Maybe[Rows[User]]]", "dict[str, Optional[Rows[Defined]]]"],
}
new_syntax = pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
EACH = [(plain, other) for plain, others in SPELLINGS.items() for other in others]
EACH_OF_312 = [
    pytest.param(plain, other, marks=new_syntax) for plain, others in SPELLINGS_OF_312.items() for other in others
]


@pytest.fixture(autouse=True, scope="module")
def _aliases() -> Iterator[None]:
    """Define the aliases of Python 3.12 in a module of their own, and their names here."""
    if sys.version_info < (3, 12):
        yield
        return
    sys.modules["tests_of_annotations"] = THIS
    module = types.ModuleType("module_of_aliases")
    sys.modules[module.__name__] = module
    exec(ALIASES, vars(module))
    names = {name: value for name, value in vars(module).items() if type(value).__name__ == "TypeAliasType"}
    for name, value in names.items():
        setattr(THIS, name, value)
    try:
        yield
    finally:
        for name in names:
            delattr(THIS, name)
        del sys.modules["tests_of_annotations"], sys.modules[module.__name__]


def evaluated(text: str) -> Any:
    return eval(text, vars(THIS))  # what stands in a module without postponed annotations


def postponed(text: str) -> Any:
    return text


def entry_of(annotation: Any) -> MessageType:
    """Return the entry of a request that has the annotation as a field and as its answer."""

    @message(name="get")
    @dataclass
    class Get(Query[annotation]):  # type: ignore[valid-type]
        it: annotation  # type: ignore[valid-type]

    Get.__annotations__["it"] = annotation
    Get.__dataclass_fields__["it"].type = annotation
    return MessageRegistry().register(Get)


def known_of(entry: MessageType) -> tuple[Any, ...]:
    assert entry.response_codec is not None
    return (entry.contract, entry.response_name, entry.response_check, entry.response_codec.label)


@every_row("form", [evaluated, postponed])
@pytest.mark.parametrize(("plain", "spelling"), EACH + EACH_OF_312)
def test_every_spelling_of_a_type_is_the_same_as_a_field_and_as_an_answer(
    plain: str, spelling: str, form: Callable[[str], Any]
) -> None:
    assert known_of(entry_of(form(spelling))) == known_of(entry_of(evaluated(plain)))


@every_row("form", [evaluated, postponed])
@pytest.mark.parametrize(("plain", "spelling"), [*EACH, *((plain, plain) for plain in SPELLINGS), *EACH_OF_312])
def test_every_spelling_of_a_type_is_what_a_handler_may_return(
    plain: str, spelling: str, form: Callable[[str], Any]
) -> None:
    @dataclass
    class Get(Query[evaluated(plain)]):  # type: ignore[misc]
        pass

    def get(request: Any) -> Any:
        return None

    get.__annotations__["return"] = form(spelling)
    Mediator().register(Get, get)


@pytest.mark.parametrize("returned", ["Admin | None", "Optional[Admin]", "Annotated[Admin, 1]", "User | int", "Any"])
def test_a_return_annotation_that_may_fit_is_accepted_in_every_spelling(returned: str) -> None:
    @dataclass
    class Get(Query[Optional[User]]):
        pass

    def get(request: Any) -> Any:
        return None

    get.__annotations__["return"] = evaluated(returned)
    Mediator().register(Get, get)


@pytest.mark.parametrize(
    "returned",
    [
        "Stranger | None",
        "Optional[Stranger]",
        "Annotated[Stranger | None, 1]",
        "'Stranger | None'",
        "list[User] | None",
        pytest.param("Maybe[Stranger]", marks=new_syntax),
    ],
)
def test_a_return_annotation_that_cannot_fit_is_refused_in_every_spelling(returned: str) -> None:
    @dataclass
    class Get(Query[Optional[User]]):
        pass

    def get(request: Any) -> Any:
        return None

    get.__annotations__["return"] = evaluated(returned)
    with pytest.raises(RegistrationError, match=r"get returns (Stranger|list), but the response type of .*Get is User"):
        Mediator().register(Get, get)


class AnythingSchema(CatgaSchema):
    text = fields.Str()


@pytest.mark.parametrize("spelling", ["int | str", "Union[int, str]", "'int | str'"])
def test_an_answer_of_several_types_with_a_schema_of_its_own_is_not_checked_in_any_spelling(spelling: str) -> None:
    @message(response_schema=AnythingSchema)
    @dataclass
    class Get(Query[evaluated(spelling)]):  # type: ignore[misc]
        pass

    entry = MessageRegistry().register(Get)
    assert entry.response_check is None
    assert entry.response_name == "Union[int, str]"


@pytest.mark.parametrize("spelling", ["int | str", "Union[int, str]", "Annotated[int | str, 1]"])
def test_a_union_of_several_types_is_refused_in_every_spelling(spelling: str) -> None:
    with pytest.raises(RegistrationError, match=r"Get.*: cannot derive a field from .*int.*str"):
        entry_of(evaluated(spelling))


@new_syntax
@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        ("Endless", "contains itself; use a dataclass"),
        ("Itself", "is an alias of itself"),
        ("Unknown", r"cannot resolve Unknown .*Nothing.*at the top of module 'module_of_aliases'"),
        ("Rows", "the type variable T has no value here"),
    ],
)
def test_an_alias_that_means_nothing_is_an_error_and_not_an_endless_one(spelling: str, said: str) -> None:
    with pytest.raises(RegistrationError, match=said):
        entry_of(evaluated(spelling))


def test_containers_may_be_nested_as_deep_as_anything_that_can_be_sent() -> None:
    annotation: Any = int
    for _ in range(31):
        annotation = list[annotation]
    assert entry_of(annotation).response_codec is not None

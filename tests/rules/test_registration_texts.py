"""A mistake in registering is told when it is made, in words that say what to write."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Optional, TypedDict

import pytest

from catga_sync import CatgaResult, ClusterMediator, Event, Mediator, Query, Request, create_cluster, message
from catga_sync.errors import RegistrationError


@dataclass(frozen=True)
class User:
    name: str


@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str = ""


@dataclass(frozen=True)
class Renamed(Event):
    user_id: str = ""


@dataclass(frozen=True)
class Bare(Request):  # type: ignore[type-arg]
    pass


@dataclass(frozen=True)
class BareQuery(Query):  # type: ignore[type-arg]
    pass


@message(remote=False)
@dataclass(frozen=True)
class BareHere(Request):  # type: ignore[type-arg]
    pass


class Row(TypedDict):
    name: str


@pytest.fixture(params=["local", "cluster"])
def mediator(request: pytest.FixtureRequest) -> Iterator[Mediator | ClusterMediator]:
    local = Mediator()
    if request.param == "local":
        yield local
    else:
        with create_cluster(local, node_id="n", discovery="memory://") as node:
            yield node


def on_renamed(event: Renamed) -> None:
    pass


def get_user(request: GetUser) -> User:
    return User("Ada")


# -- the decorators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorator", ["handler", "subscriber"])
def test_a_decorator_with_parentheses_is_told_to_leave_them_away(mediator: Any, decorator: str) -> None:
    with pytest.raises(
        RegistrationError, match=rf"^{decorator}: leave the parentheses out: write @mediator\.{decorator} "
    ):
        getattr(mediator, decorator)()


@pytest.mark.parametrize("decorator", ["handler", "subscriber"])
@pytest.mark.parametrize("given", [GetUser, Renamed])
def test_a_decorator_that_is_given_the_class_is_told_where_the_class_stands(
    mediator: Any, decorator: str, given: type
) -> None:
    text = rf"^{decorator}: write @mediator\.{decorator} above the function, whose annotation names {given.__name__}"
    with pytest.raises(RegistrationError, match=text):
        getattr(mediator, decorator)(given)


def test_a_handler_of_an_event_is_pointed_to_the_subscribers(mediator: Any) -> None:
    with pytest.raises(RegistrationError, match=r"Renamed belongs to a subscriber: write @mediator\.subscriber"):
        mediator.handler(on_renamed)
    with pytest.raises(RegistrationError, match=r"use mediator\.subscribe\(Renamed, function\)"):
        mediator.register(Renamed, on_renamed)


def test_a_subscriber_of_a_request_is_pointed_to_the_handlers(mediator: Any) -> None:
    with pytest.raises(RegistrationError, match=r"GetUser belongs to a handler: write @mediator\.handler"):
        mediator.subscriber(get_user)
    with pytest.raises(RegistrationError, match=r"use mediator\.register\(GetUser, function\)"):
        mediator.subscribe(GetUser, get_user)


# -- what cannot be called with the request alone ----------------------------------------------------------------------


def two(request: GetUser, db: Any) -> User:
    return User(db)


def keyword_only(request: GetUser, *, db: Any) -> User:
    return User(db)


def keyword_after_any(*requests: GetUser, db: Any) -> User:
    return User(db)


def none() -> User:
    return User("Ada")


def only_named(**named: Any) -> User:
    return User("Ada")


class Service:
    def get(self, request: GetUser) -> User:
        return User("method")

    def get_from(self, request: GetUser, db: Any) -> User:
        return User(db)


class HandlesTwo:
    def handle(self, request: GetUser, db: Any) -> User:
        return User(db)


class CalledWithTwo:
    def __call__(self, request: GetUser, db: Any) -> User:
        return User(db)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (two, r"two: it is called with the request alone and needs 'db' too; give it a default, or bind it"),
        (keyword_only, r"keyword_only: .* needs 'db' too; .*functools\.partial\(function, db=\.\.\.\)"),
        (keyword_after_any, "keyword_after_any: .* needs 'db' too"),
        (lambda request, a, b: User("x"), "lambda>: .* needs 'a', 'b' too"),
        (Service().get_from, "Service.get_from: .* needs 'db' too"),
        (HandlesTwo(), "HandlesTwo.handle: .* needs 'db' too"),
        (CalledWithTwo(), "CalledWithTwo: .* needs 'db' too"),
        (functools.partial(two), "partial: .* needs 'db' too"),
        (functools.partial(lambda a, b, c: User("x"), 1), "partial: .* needs 'c' too"),
        (Service.get, "Service.get: .* needs 'request' too; give the method of an instance"),
        (none, r"none: it takes no parameter; write def f\(request\)"),
        (only_named, "only_named: it takes no parameter"),
        (functools.partial(get_user, GetUser()), "partial: it takes no parameter"),
    ],
)
def test_what_cannot_be_called_with_the_request_alone_is_refused_at_registration(
    mediator: Any, function: Any, text: str
) -> None:
    with pytest.raises(RegistrationError, match=text):
        mediator.register(GetUser, function)
    with pytest.raises(RegistrationError, match=text):
        mediator.subscribe(Renamed, function)
    assert not mediator.send(GetUser())
    assert mediator.publish(Renamed()) == {}


def wrapped(function: Any) -> Any:
    """Gives a function of two parameters the second one, as decorators that inject something do."""

    @functools.wraps(function)
    def around(request: Any) -> Any:
        return function(request, "injected")

    return around


def passing_on(function: Any) -> Any:
    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Any:
        return function(*args, "injected", **kwargs)

    return around


class Callable:
    def __call__(self, request: GetUser, *more: Any) -> User:
        return User("Ada")


@pytest.mark.parametrize(
    "function",
    [
        wrapped(two),
        passing_on(two),
        functools.partial(two, db="bound"),
        functools.partial(keyword_only, db="bound"),
        functools.partial(Service().get_from, db="bound"),
        lambda request, db="default": User(db),
        lambda *requests: User("any"),
        lambda *requests, **named: User("any"),
        Callable(),
        Service().get,
    ],
)
def test_what_can_be_called_with_the_request_alone_is_a_handler(mediator: Any, function: Any) -> None:
    mediator.register(GetUser, function)
    assert isinstance(mediator.send(GetUser()).unwrap(), User)


@pytest.mark.parametrize("function", [print, [].append, dict, "".join])
def test_a_subscriber_may_be_written_in_c(function: Any) -> None:
    mediator = Mediator()
    if isinstance(function, type):
        with pytest.raises(RegistrationError, match="not the class"):
            mediator.subscribe(Renamed, function)
    else:
        mediator.subscribe(Renamed, function)
        assert len(mediator.publish(Renamed())) == 1


# -- a request without a response type -------------------------------------------------------------------------------


def as_user(request: Any) -> User:
    return User("Ada")


def as_users(request: Any) -> list[User]:
    return []


def as_maybe_user(request: Any) -> Optional[User]:  # noqa: UP045
    return None


def as_result(request: Any) -> CatgaResult[User]:
    return CatgaResult.success(User("Ada"))


def as_decimal(request: Any) -> Decimal:
    return Decimal(1)


def as_set(request: Any) -> set[str]:
    return set()


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (as_user, r"as_user returns User, but .*\[User\]\)$"),
        (as_users, r"as_users returns User, but .*\[list\[.*User\]\]\)$"),
        (as_maybe_user, r"as_maybe_user returns User, but .*User"),
        (as_result, r"as_result returns User, but "),
        (as_decimal, r"as_decimal returns Decimal, but .*\[Decimal\]\)$"),
        (as_set, r"as_set returns set, but .*\[set\[str\]\]\)$"),
    ],
)
@pytest.mark.parametrize(("kind", "base"), [(Bare, "Request"), (BareQuery, "Query")])
def test_a_request_without_a_parameter_whose_handler_answers_with_a_class_is_told_to_name_it(
    mediator: Any, kind: type[Request[Any]], base: str, function: Any, text: str
) -> None:
    with pytest.raises(RegistrationError, match=text) as raised:
        mediator.register(kind, function)
    assert f"{kind.__name__} has no response type, which means plain JSON data" in str(raised.value)
    assert f"write class {kind.__name__}({base}[" in str(raised.value)


def as_dict(request: Any) -> dict[str, Any]:
    return {"a": 1}


def as_mapping(request: Any) -> Mapping[str, Any]:
    return {"a": 1}


def as_row(request: Any) -> Row:
    return {"name": "Ada"}


def as_any(request: Any) -> Any:
    return {"a": 1}


def as_number(request: Any) -> int | None:
    return 1


@pytest.mark.parametrize("function", [as_dict, as_mapping, as_row, as_any, as_number, lambda request: [1, "a", None]])
def test_a_request_without_a_parameter_is_answered_with_plain_data(mediator: Any, function: Any) -> None:
    mediator.register(Bare, function)
    assert mediator.send(Bare()).value == function(None)


def test_a_request_without_a_parameter_that_never_travels_is_answered_with_anything(mediator: Any) -> None:
    mediator.register(BareHere, as_user)
    assert mediator.send(BareHere()).value == User("Ada")

"""What is read off a handler when it is registered. Annotations are classes here, texts in the neighbour."""

import functools
from dataclasses import dataclass
from typing import Any, Optional

import pytest

from catga_sync.errors import RegistrationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request
from catga_sync.results import CatgaResult


@dataclass(frozen=True)
class User:
    name: str


@dataclass(frozen=True)
class Admin(User):
    pass


@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str = ""


@dataclass(frozen=True)
class Measure(Query[float]):
    pass


@dataclass(frozen=True)
class Numbers(Query[list[int]]):
    pass


@dataclass(frozen=True)
class Rename(Request[None]):
    pass


@dataclass(frozen=True)
class Anything(Request):
    pass


@dataclass(frozen=True)
class Renamed(Event):
    pass


class GetUserHandler:
    def handle(self, request: GetUser) -> User:
        return User("object")


class Both(GetUserHandler):
    def __call__(self, request: GetUser) -> User:
        return User("call")


class Callable:
    def __call__(self, request: GetUser) -> User:
        return User("callable")


class Service:
    def get(self, request: GetUser) -> User:
        return User("method")

    @staticmethod
    def static(request: GetUser) -> User:
        return User("static")

    @classmethod
    def of_class(cls, request: GetUser) -> User:
        return User("classmethod")


def wrapped(function):
    @functools.wraps(function)
    def around(*args: Any) -> Any:
        return function(*args)

    return around


@wrapped
def decorated(request: GetUser) -> User:
    return User("decorated")


def plain(request: GetUser) -> User:
    return User("function")


@pytest.fixture
def mediator():
    return Mediator()


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (plain, "function"),
        (lambda request: User("lambda"), "lambda"),
        (GetUserHandler(), "object"),
        (Both(), "object"),
        (Callable(), "callable"),
        (Service().get, "method"),
        (Service.static, "static"),
        (Service.of_class, "classmethod"),
        (decorated, "decorated"),
        (functools.partial(plain), "function"),
    ],
)
def test_a_handler_may_be_any_callable_or_an_object_that_handles(mediator, handler, name):
    mediator.register(GetUser, handler)
    assert mediator.send(GetUser()).unwrap() == User(name)


def with_store(store: str, request: GetUser, more: str = "") -> User:
    return User(store + more)


class Decorated:
    @wrapped
    def __call__(self, request: GetUser) -> User:
        return User("callable")


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (plain, "function"),
        (GetUserHandler(), "object"),
        (Service().get, "method"),
        (Service.static, "static"),
        (Service.of_class, "classmethod"),
        (decorated, "decorated"),
        (Callable(), "callable"),
        (Decorated(), "callable"),
        (Both(), "object"),
        (functools.partial(plain), "function"),
        (functools.partial(with_store, "a"), "a"),
        (functools.partial(functools.partial(with_store, "a"), more="b"), "ab"),
        (functools.partial(Callable()), "callable"),
        (functools.partial(Service().get), "method"),
    ],
)
def test_the_request_type_comes_from_the_annotation_of_what_is_called(mediator, handler, name):
    assert mediator.handler(handler) is handler
    assert mediator.send(GetUser()).unwrap() == User(name)


def test_the_decorator_leaves_the_function_as_it_is(mediator):
    @mediator.handler
    def get(request: GetUser) -> User:
        return User("x")

    assert get(GetUser()) == User("x")


def test_a_second_handler_of_a_type_is_an_error_and_the_first_stays(mediator):
    mediator.register(GetUser, plain)
    with pytest.raises(RegistrationError, match="GetUser has a handler already"):
        mediator.register(GetUser, GetUserHandler())
    with pytest.raises(RegistrationError, match="GetUser has a handler already"):
        mediator.handler(plain)
    assert mediator.send(GetUser()).value == User("function")


async def asynchronous(request: GetUser) -> User:
    return User("async")


class AsyncHandler:
    async def handle(self, request: GetUser) -> User:
        return User("async")


class AsyncCallable:
    async def __call__(self, request: GetUser) -> User:
        return User("async")


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (None, "handler: give a function"),
        (7, "handler: give a function"),
        (GetUserHandler, r"handler: give an instance, GetUserHandler\(...\)"),
        (asynchronous, "asynchronous is async"),
        (AsyncHandler(), "AsyncHandler.handle is async"),
        (AsyncCallable(), "AsyncCallable is async"),
        (functools.partial(asynchronous), "partial is async"),
    ],
)
def test_what_cannot_be_called_is_refused_at_registration(mediator, handler, text):
    with pytest.raises(RegistrationError, match=text):
        mediator.register(GetUser, handler)
    assert not mediator.handles(GetUser)


@pytest.mark.parametrize("kind", [User, Renamed, int, "GetUser", None, GetUser("1")])
def test_only_a_request_class_can_have_a_handler(mediator, kind):
    with pytest.raises(RegistrationError, match=r"^request_type: give a subclass of Request"):
        mediator.register(kind, plain)


def nothing_taken() -> User:
    return User("x")


def not_annotated(request):
    return User("x")


def wrong_class(request: User) -> User:
    return User("x")


def an_event(request: Renamed) -> None:
    pass


def optional(request: Optional[GetUser]) -> User:  # noqa: UP045
    return User("x")


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (nothing_taken, "nothing_taken: it takes no parameter"),
        (not_annotated, "annotate its first parameter, 'request', with a subclass of Request"),
        (wrong_class, "annotate its first parameter, 'request', with a subclass of Request"),
        (an_event, "annotate its first parameter, 'request', with a subclass of Request"),
        (optional, "annotate its first parameter, 'request', with a subclass of Request"),
        (functools.partial(not_annotated), r"use mediator\.register\(TheRequest, function\)"),
        (functools.partial(with_store, store="a"), "partial: it takes no parameter"),
    ],
)
def test_a_handler_without_a_usable_annotation_is_told_what_to_write(mediator, handler, text):
    with pytest.raises(RegistrationError, match=text):
        mediator.handler(handler)


def as_int(request: Any) -> int:
    return 1


def as_str(request: Any) -> str:
    return ""


def as_admin(request: Any) -> Admin:
    return Admin("x")


def as_base(request: Any) -> object:
    return User("x")


def as_result(request: Any) -> CatgaResult[User]:
    return CatgaResult.success(User("x"))


def as_optional(request: Any) -> Optional[User]:  # noqa: UP045
    return None


def as_none(request: Any) -> None:
    pass


def as_any(request: Any) -> Any:
    return User("x")


def as_list(request: Any) -> list[int]:
    return [1]


def unreadable(request: Any) -> "NoSuchName":  # noqa: F821
    return User("x")


@pytest.mark.parametrize(
    ("kind", "handler"),
    [
        (GetUser, plain),
        (GetUser, as_admin),
        (GetUser, as_base),
        (GetUser, as_result),
        (GetUser, as_optional),
        (GetUser, as_none),
        (GetUser, unreadable),
        (Measure, as_int),
        (Rename, as_none),
        (Anything, as_int),
        (Numbers, as_list),  # in Python 3.10 list[int] is an instance of type, but no class for issubclass()
        (GetUser, as_any),  # since Python 3.11 Any is a class, and not one that has to do with User
    ],
)
def test_a_return_annotation_that_may_fit_is_accepted(mediator, kind, handler):
    mediator.register(kind, handler)
    assert mediator.handles(kind)


@pytest.mark.parametrize(
    ("kind", "handler", "expected"),
    [
        (GetUser, as_int, "User"),
        (Measure, as_str, "float or int"),
        (Rename, as_int, "NoneType"),
        (Rename, functools.partial(as_int), "NoneType"),
        (Rename, Callable(), "NoneType"),
    ],
)
def test_a_return_annotation_that_cannot_fit_is_refused_at_registration(mediator, kind, handler, expected):
    with pytest.raises(RegistrationError, match=f"returns .* the response type of .* is {expected}"):
        mediator.register(kind, handler)
    assert not mediator.handles(kind)


def test_a_type_that_cannot_be_written_is_refused_at_registration_and_names_the_field(mediator):
    @dataclass(frozen=True)
    class Odd(Request[str]):
        thing: object

    with pytest.raises(RegistrationError, match="thing"):
        mediator.register(Odd, as_str)
    with pytest.raises(RegistrationError, match="thing"):

        @mediator.handler
        def odd(request: Odd) -> str:
            return ""


def test_a_class_local_to_a_function_can_be_annotated(mediator):
    @dataclass(frozen=True)
    class Local(Request[str]):
        pass

    @mediator.handler
    def local(request: Local) -> str:
        return "local"

    assert mediator.send(Local()).value == "local"


@pytest.mark.parametrize("function", [lambda event: None, print, Service().get])
def test_a_subscriber_may_be_any_callable(mediator, function):
    mediator.subscribe(Renamed, function)
    assert [entry.cls for entry in mediator.subscribed] == [Renamed]


def test_the_event_type_comes_from_the_annotation(mediator):
    @mediator.subscriber
    def on_renamed(event: Renamed) -> None:
        pass

    assert [entry.cls for entry in mediator.subscribed] == [Renamed]
    assert callable(on_renamed)


@pytest.mark.parametrize("kind", [GetUser, User, None, "Renamed"])
def test_only_an_event_class_can_have_subscribers(mediator, kind):
    with pytest.raises(RegistrationError, match=r"^event_type: give a subclass of Event"):
        mediator.subscribe(kind, print)


@pytest.mark.parametrize("function", [None, 7, GetUserHandler, asynchronous])
def test_what_cannot_be_called_is_no_subscriber(mediator, function):
    with pytest.raises(RegistrationError):
        mediator.subscribe(Renamed, function)
    assert mediator.subscribed == ()


def test_a_subscriber_without_a_usable_annotation_is_told_what_to_write(mediator):
    with pytest.raises(RegistrationError, match=r"use mediator\.subscribe\(TheEvent, function\)"):
        mediator.subscriber(plain)

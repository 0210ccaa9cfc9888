"""Annotations that are texts (``from __future__ import annotations``), as they stand in most modules today."""

from __future__ import annotations

import functools
import typing
from dataclasses import dataclass

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import RegistrationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request
from tests.unit import test_handlers as other

if typing.TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True)
class Ask(Query[str]):
    pass


@dataclass(frozen=True)
class Told(Event):
    pass


class AskHandler:
    def handle(self, request: Ask) -> str:
        return "object"


@pytest.fixture(params=["local", "cluster"])
def mediator(request):
    if request.param == "local":
        yield Mediator()
    else:
        with create_cluster(Mediator(), node_id="n", discovery=MemoryDiscovery()) as made:
            yield made


def test_a_text_is_resolved_in_the_module_of_the_function(mediator):
    @mediator.handler
    def ask(request: Ask) -> str:
        return "yes"

    assert mediator.send(Ask()).value == "yes"


def test_a_dotted_text_is_resolved_too(mediator):
    @mediator.handler
    def get(request: other.GetUser) -> other.User:
        return other.User("dotted")

    assert mediator.send(other.GetUser()).value == other.User("dotted")


def test_an_object_s_method_may_have_texts(mediator):
    mediator.handler(AskHandler())
    assert mediator.send(Ask()).value == "object"


def test_what_a_callable_object_or_a_partial_calls_may_have_texts(mediator):
    class Answer:
        def __call__(self, request: Ask) -> str:
            return "called"

    def told(store: str, event: Told) -> None:
        heard.append((store, event))

    heard = []
    mediator.handler(Answer())
    mediator.subscriber(functools.partial(told, "a"))
    mediator.publish(Told())
    assert mediator.send(Ask()).value == "called"
    assert heard == [("a", Told())]


def test_a_class_local_to_the_function_that_registers_is_found(mediator):
    @dataclass(frozen=True)
    class Local(Request[int]):
        pass

    @mediator.handler
    def answer(request: Local) -> int:
        return 42

    assert mediator.send(Local()).value == 42


def test_a_local_event_is_found_by_the_subscriber(mediator):
    heard = []

    @dataclass(frozen=True)
    class Local(Event):
        pass

    @mediator.subscriber
    def hear(event: Local) -> None:
        heard.append(event)

    mediator.publish(Local())
    assert heard == [Local()]


def test_a_return_annotation_for_type_checkers_only_is_no_obstacle(mediator):
    @mediator.handler
    def ask(request: Ask) -> str | Decimal:
        return "yes"

    assert mediator.send(Ask()).value == "yes"


def test_a_text_that_nobody_knows_says_which_one(mediator):
    with pytest.raises(RegistrationError, match="the annotation 'NoSuchRequest' of 'request' cannot be resolved"):

        @mediator.handler
        def ask(request: NoSuchRequest) -> str:  # noqa: F821
            return ""


def test_a_text_that_names_something_else_is_told_what_to_write(mediator):
    with pytest.raises(RegistrationError, match="annotate its first parameter"):

        @mediator.handler
        def ask(request: Told) -> str:
            return ""


def test_a_return_annotation_that_cannot_fit_is_refused_all_the_same(mediator):
    with pytest.raises(RegistrationError, match=r"the response type of .* is str"):

        @mediator.handler
        def ask(request: Ask) -> int:
            return 1

"""What a class cannot say of itself."""

from dataclasses import dataclass

import pytest

from catga_sync.errors import RegistrationError
from catga_sync.messages import Event, MessageOptions, Query, Request, message, options_of


@message(name="users.Get", aliases=["Acme.Get"], idempotent=True, route="round-robin", key="user_id", remote=False)
@dataclass(frozen=True)
class Get(Request[str]):
    user_id: str


class Child(Get):
    pass


def test_the_decorator_returns_the_class_itself():
    @dataclass(frozen=True)
    class Plain(Event):
        pass

    assert message(name="x")(Plain) is Plain


def test_what_was_said_is_kept_with_the_class():
    assert options_of(Get) == MessageOptions(
        name="users.Get",
        aliases=("Acme.Get",),
        idempotent=True,
        route="round-robin",
        key="user_id",
        remote=False,
    )


def test_a_subclass_inherits_no_name():
    assert options_of(Child) == MessageOptions()


def test_a_class_without_the_decorator_has_said_nothing():
    class Bare(Request[None]):
        pass

    assert options_of(Bare) == MessageOptions()
    assert options_of(int) == MessageOptions()


def test_leaving_the_parentheses_out_is_an_error_that_says_so():
    with pytest.raises(RegistrationError, match="parentheses"):

        @message
        class Wrong(Event):
            pass


def test_a_single_text_is_no_list_of_aliases():
    with pytest.raises(RegistrationError, match=r"^aliases: "):
        message(aliases="Acme.Get")


def test_aliases_may_come_from_an_iterator():
    assert options_of(message(aliases=iter(["a", "b"]))(type("T", (Event,), {}))).aliases == ("a", "b")


def test_a_query_is_a_request_and_an_event_is_not():
    assert issubclass(Query, Request)
    assert not issubclass(Event, Request)


@pytest.mark.parametrize("base", [Request, Query, Event])
def test_the_bases_cost_an_instance_nothing(base):
    assert base.__slots__ == ()

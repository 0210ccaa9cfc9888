"""A local send with the check that a remote one gets on arrival."""

from dataclasses import dataclass

import pytest
from marshmallow import ValidationError, fields, validate

from catga_sync import CatgaSchema
from catga_sync.behaviors import validation_behavior
from catga_sync.errors import Delivery, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message


@dataclass(frozen=True)
class Plain(Query[int]):
    number: int


class AgeSchema(CatgaSchema):
    age = fields.Integer(required=True, validate=validate.Range(0, 150))


@message(schema=AgeSchema)
@dataclass(frozen=True)
class Age(Query[int]):
    age: int


@pytest.fixture
def ran():
    return []


@pytest.fixture
def mediator(ran):
    made = Mediator()
    for kind in (Plain, Age):
        made.register(kind, lambda request: ran.append(request) or 0)
    made.add_behavior(validation_behavior(made.registry))
    return made


@pytest.mark.parametrize("request_", [Plain(1), Age(30)])
def test_a_request_that_fits_its_schema_goes_through(mediator, ran, request_):
    assert mediator.send(request_)
    assert ran == [request_]


@pytest.mark.parametrize(("request_", "field"), [(Plain("one"), "number"), (Plain(None), "number"), (Age(200), "age")])
def test_one_that_does_not_is_refused_and_the_handler_does_not_run(mediator, ran, request_, field):
    result = mediator.send(request_)
    assert (result.code, result.delivery) == (ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED)
    assert field in result.error
    assert ran == []


def test_the_text_of_an_exception_of_the_application_is_not_shown(ran):
    class Secretive(CatgaSchema):
        name = fields.String(validate=lambda value: fail())

    def fail():
        raise RuntimeError("hunter2")

    @message(schema=Secretive)
    @dataclass(frozen=True)
    class Named(Query[int]):
        name: str

    mediator = Mediator()
    mediator.register(Named, ran.append)
    mediator.add_behavior(validation_behavior(mediator.registry))
    result = mediator.send(Named("x"))
    assert result.code is ErrorCode.INVALID_ARGUMENT
    assert "hunter2" not in result.error


def test_what_a_schema_says_to_the_user_is_shown(ran):
    class Speaking(CatgaSchema):
        name = fields.String(validate=lambda value: fail())

    def fail():
        raise ValidationError("give your full name")

    @message(schema=Speaking)
    @dataclass(frozen=True)
    class Named(Query[int]):
        name: str

    mediator = Mediator()
    mediator.register(Named, ran.append)
    mediator.add_behavior(validation_behavior(mediator.registry))
    assert "give your full name" in mediator.send(Named("x")).error

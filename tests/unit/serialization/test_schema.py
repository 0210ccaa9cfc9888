"""Schemas of the user's own: CatgaSchema and plain marshmallow."""

import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from marshmallow import RAISE, Schema, ValidationError, fields, post_load, validate

from catga_sync.errors import RegistrationError, SerializationError
from catga_sync.messages import Request, message
from catga_sync.serialization import CatgaSchema, MessageRegistry
from tests.tables import every_row


@dataclass
class Point:
    x_pos: int


@dataclass
class User:
    user_id: str
    home: Point | None = None


class PointSchema(CatgaSchema):
    class Meta:
        model = Point

    x_pos = fields.Int(required=True, strict=True)


class UserSchema(CatgaSchema):
    user_id = fields.Str(required=True, validate=validate.Length(max=5, error="too long, my friend"))
    home = fields.Nested(PointSchema, data_key="Home_Point", load_default=None)


def codec(cls, schema, **options):
    return MessageRegistry().register(cls, schema=schema, **options).codec


def test_it_writes_camel_case_and_keeps_a_data_key():
    found = codec(User, UserSchema)
    assert found.encode(User("1", Point(2))) == b'{"userId":"1","Home_Point":{"xPos":2}}'


@pytest.mark.parametrize(
    "raw", [b'{"USER_ID":"1","homepoint":{"X_POS":2},"more":1}', b'{"userId":"1","Home_Point":{"xPos":2}}']
)
def test_it_reads_any_spelling_and_makes_the_objects(raw):
    assert codec(User, UserSchema).decode(raw) == User("1", Point(2))


def test_what_the_validators_of_an_app_say_is_shown():
    with pytest.raises(SerializationError, match=r"User\.userId: too long, my friend"):
        codec(User, UserSchema).decode(b'{"userId":"123456"}')


def test_a_nested_error_has_its_path():
    with pytest.raises(SerializationError, match=r"User\.Home_Point\.xPos: Not a valid integer"):
        codec(User, UserSchema).decode(b'{"userId":"1","Home_Point":{"xPos":"a"}}')


def test_two_spellings_of_one_property_are_refused():
    with pytest.raises(SerializationError, match="userId: is given twice"):
        codec(User, UserSchema).decode(b'{"userId":"1","user_id":"2"}')


def test_two_fields_with_one_wire_name_are_an_error():
    class Twice(CatgaSchema):
        a_b = fields.Int()
        ab = fields.Int()

    with pytest.raises(RegistrationError, match="'a_b' and 'ab'"):
        Twice()
    with pytest.raises(RegistrationError, match=r"User: schema: Twice\(\) raised"):
        MessageRegistry().register(User, schema=Twice)


def test_without_a_model_it_makes_a_dict_and_with_one_an_object():
    assert UserSchema().load({"UserId": "1"}) == {"user_id": "1", "home": None}
    assert PointSchema().load({"x_pos": 1}) == Point(1)
    assert PointSchema(many=True).load([{"x_pos": 1}]) == [Point(1)]
    assert PointSchema().load({}, partial=True) == {}


def test_loading_changes_nothing_that_was_given():
    data = {"x_pos": 1, "b": 2}
    PointSchema().load(data)
    assert data == {"x_pos": 1, "b": 2}


def test_unknown_properties_can_be_refused():
    class Strict(CatgaSchema):
        class Meta:
            model = Point
            unknown = RAISE

        x_pos = fields.Int()

    with pytest.raises(ValidationError, match="more"):
        Strict().load({"X_POS": 1, "more": 1})


def test_an_instance_will_do_and_the_registry_says_what_it_makes():
    schema = UserSchema()
    entry = MessageRegistry().register(User, schema=schema)
    assert entry.schema is schema
    assert schema.load({"userid": "1"}) == User("1")


def test_one_instance_is_for_one_class():
    schema = UserSchema()
    MessageRegistry().register(User, schema=schema)
    with pytest.raises(RegistrationError, match="makes User; give a schema for Point"):
        MessageRegistry().register(Point, schema=schema)


class PlainSchema(Schema):
    x_pos = fields.Int(required=True)


def test_a_plain_schema_loads_the_arguments_of_the_class():
    found = codec(Point, PlainSchema)
    assert found.encode(Point(1)) == b'{"x_pos":1}'
    assert found.decode(b'{"x_pos":1}') == Point(1)
    with pytest.raises(SerializationError, match=r"Point\.more: Unknown field"):
        found.decode(b'{"x_pos":1,"more":1}')


def test_a_hook_may_make_the_object_itself():
    class Hooked(PlainSchema):
        @post_load
        def make(self, data, **kwargs):
            return Point(data["x_pos"] + 1)

    class HookedToo(CatgaSchema, Hooked):
        pass

    assert codec(Point, Hooked).decode(b'{"x_pos":1}') == Point(2)


def test_a_hook_that_makes_something_else_is_refused():
    class Hooked(PlainSchema):
        @post_load
        def make(self, data, **kwargs):
            return 7

    with pytest.raises(SerializationError, match="Hooked did not make a Point"):
        codec(Point, Hooked).decode(b'{"x_pos":1}')


@pytest.mark.parametrize("error", [KeyError("secret"), AttributeError("secret"), ZeroDivisionError("secret")])
def test_an_accident_in_a_schema_is_an_error_without_its_text(error):
    class Broken(Schema):
        x_pos = fields.Method("write", "read")

        def write(self, value):
            raise error

        def read(self, value):
            raise error

    found = codec(Point, Broken)
    with pytest.raises(SerializationError, match=r"Point: Broken cannot write it$") as caught:
        found.encode(Point(1))
    assert caught.value.__cause__ is error
    with pytest.raises(SerializationError, match=r"Point: Broken cannot read it$") as caught:
        found.decode(b'{"x_pos":1}')
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("schema", [UserSchema, type("S", (Schema,), {"user_id": fields.Str()})])
def test_a_class_that_refuses_the_values_keeps_its_reason(schema):
    @dataclass
    class Picky:
        user_id: str
        home: Any = None

        def __post_init__(self):
            raise ValueError("secret")

    with pytest.raises(SerializationError, match=r"Picky: Picky refused the values$") as caught:
        codec(Picky, schema).decode(b'{"user_id":"1"}')
    assert isinstance(caught.value.__cause__, ValueError)


def test_what_a_schema_dumps_must_be_json():
    class Odd(Schema):
        x_pos = fields.Raw()

    with pytest.raises(SerializationError, match=r"Point: JSON: object is not plain JSON data"):
        codec(Point, Odd).encode(Point(object()))


@every_row(
    "schema",
    [
        type("A", (Schema,), {"it": fields.Decimal(allow_none=True)}),
        type("B", (Schema,), {"it": fields.List(fields.Decimal())}),
        type("C", (Schema,), {"it": fields.Dict(keys=fields.Str(), values=fields.Decimal())}),
        type("D", (Schema,), {"it": fields.Tuple((fields.Decimal(), fields.Str()))}),
        type("E", (Schema,), {"it": fields.Nested(type("F", (Schema,), {"it": fields.Decimal()}))}),
        type("G", (CatgaSchema,), {"it": fields.Nested(lambda: G()), "other": fields.Decimal()}),  # noqa: PLW0108
    ],
)
def test_a_decimal_in_a_schema_keeps_its_digits(schema):
    @dataclass
    class Price:
        it: Any = None
        other: Any = None

    digits = "1.1000000000000000000000000000001"
    shapes = {
        "A": digits,
        "B": f"[{digits}]",
        "C": f'{{"k":{digits}}}',
        "D": f'[{digits},"x"]',
        "E": f'{{"it":{digits}}}',
    }
    raw = f'{{"it":{shapes[schema.__name__]}}}' if schema.__name__ in shapes else f'{{"other":{digits}}}'
    found = codec(Price, schema)
    assert digits in str(found.decode(raw.encode()))
    assert digits.encode() in found.encode(found.decode(raw.encode()))


class G(CatgaSchema):
    other = fields.Decimal()


@every_row("schema", [7, User, "UserSchema", UserSchema(many=True)])
def test_what_is_no_schema_is_an_error(schema):
    with pytest.raises(RegistrationError, match=r"User: schema: "):
        MessageRegistry().register(User, schema=schema)


def test_a_schema_for_the_answer_overrides_how_it_is_written():
    class Rows(Schema):
        x_pos = fields.Int(data_key="X")

    @dataclass
    class Get(Request[Point]):
        pass

    @message(response_schema=Rows(many=True))
    @dataclass
    class GetAll(Request[list]):
        pass

    entry = MessageRegistry().register(Get, response_schema=Rows)
    assert entry.response_codec.encode(Point(1)) == b'{"X":1}'
    assert entry.response_codec.decode(b'{"X":1}') == Point(1)
    assert entry.response_type is Point
    entry = MessageRegistry().register(GetAll)
    assert entry.response_codec.encode([Point(1), Point(2)]) == b'[{"X":1},{"X":2}]'
    assert entry.response_codec.decode(b'[{"X":1}]') == [{"x_pos": 1}]
    assert entry.response_check == (list,)


def test_a_request_may_have_a_schema_and_no_dataclass():
    @message(schema=PlainSchema, key="x_pos")
    class Get(Request[enum.IntFlag("Bits", "A B")]):
        def __init__(self, x_pos):
            self.x_pos = x_pos

    entry = MessageRegistry().register(Get)
    assert entry.codec.decode(entry.codec.encode(Get(3))).x_pos == 3
    assert entry.key == "x_pos"


def test_a_decimal_written_as_text_stays_text():
    class Text(Schema):
        x_pos = fields.Decimal(as_string=True)

    found = codec(Point, Text)
    assert found.encode(Point(Decimal("1.10"))) == b'{"x_pos":"1.10"}'


@every_row("name", ["x" * 100_000, "\\ud800", "a\\nb", "a\\u202eb"])
def test_an_error_about_a_property_of_any_name_is_short_and_printable(name):
    with pytest.raises(SerializationError, match="Unknown field") as caught:
        codec(Point, PlainSchema).decode(f'{{"x_pos":1,"{name}":1}}'.encode())
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_what_a_validator_repeats_can_always_be_sent_on():
    class Chatty(PlainSchema):
        x_pos = fields.Str(validate=validate.OneOf(["a"], error="{input} is wrong"))

    with pytest.raises(SerializationError, match=r"is wrong|\.\.\.$") as caught:
        codec(Point, Chatty).decode(b'{"x_pos":"\\ud800%s"}' % (b"x" * 1000))
    assert len(str(caught.value).encode()) < 500

# ruff: noqa: UP045  # both ways to write a union
"""A contract depends on what is visible on the wire, and on nothing else."""

import enum
import subprocess
import sys
import types
from dataclasses import dataclass
from typing import Any, Optional

import pytest
from marshmallow import Schema, fields

from catga_sync.messages import Request
from catga_sync.serialization import MessageRegistry
from tests.tables import every_row


def of(annotations, answer=int, **defaults):
    base = Request[answer]
    namespace = {"__annotations__": annotations, "__module__": __name__, **defaults}
    cls = types.new_class("C", (base,), {}, lambda ns: ns.update(namespace))
    return MessageRegistry().register(dataclass(cls, kw_only=True)).contract


def data(name, annotations, **defaults):
    return dataclass(type(name, (), {"__annotations__": annotations, "__module__": __name__, **defaults}))


def test_the_order_of_fields_and_the_names_of_classes_do_not_count():
    one = data("One", {"x": int, "y_z": str})
    two = data("Two", {"yZ": str, "x": int})
    assert of({"a": one, "b": list[one]}, one) == of({"b": list[two], "a": two}, two)


BASE = {"a": int, "b": Optional[str]}


@every_row(
    ("annotations", "answer", "defaults"),
    [
        ({"a": int}, int, {}),
        ({"a": int, "c": Optional[str]}, int, {}),
        ({"a": int, "b": str}, int, {}),
        ({"a": float, "b": Optional[str]}, int, {}),
        ({"a": list[int], "b": Optional[str]}, int, {}),
        (BASE, str, {}),
        (BASE, Any, {}),
        (BASE, int, {"b": None}),
    ],
)
def test_what_is_visible_on_the_wire_counts(annotations, answer, defaults):
    assert of(annotations, answer, **defaults) != of(BASE, int)


def test_what_is_nested_counts():
    def three(kind):
        return {"a": list[data("A", {"b": dict[str, data("B", {"c": kind})]})]}

    assert of(three(int)) == of(three(int))
    assert of(three(int)) != of(three(str))


def test_the_values_of_an_enum_count_and_their_names_do_not():
    one = enum.Enum("One", {"A": 1, "B": 2})
    two = enum.Enum("Two", {"Y": 2, "X": 1})
    more = enum.Enum("One", {"A": 1, "B": 2, "C": 3})
    assert of({"a": one}) == of({"a": two}) != of({"a": more})


@dataclass
class Tree:
    kids: list["Tree"]


@dataclass
class Even:
    kids: list["Odd"]


@dataclass
class Odd:
    kids: list["Even"]


@dataclass
class Stop:
    kids: list[int]


def test_types_that_contain_themselves_are_told_apart_by_what_they_contain():
    assert of({"a": Tree}) == of({"a": Even}) == of({"a": Odd})
    assert of({"a": Tree}) != of({"a": Stop})


def test_a_schema_counts_by_its_fields():
    def of_schema(**declared):
        cls = data("Plain", {"a": Any, "b": Any}, b=None)
        return MessageRegistry().register(cls, schema=Schema.from_dict(declared)).contract

    one = of_schema(a=fields.Int(required=True), b=fields.Str())
    assert one == of_schema(b=fields.String(), a=fields.Integer(required=True))
    for other in (
        {"a": fields.Int(), "b": fields.Str()},
        {"a": fields.Int(required=True), "b": fields.Str(allow_none=True)},
        {"a": fields.Int(required=True), "b": fields.Str(data_key="B")},
        {"a": fields.Int(required=True), "b": fields.Raw()},
        {"a": fields.Int(required=True), "b": fields.Nested(Schema.from_dict({"c": fields.Int()}))},
    ):
        assert of_schema(**other) != one


SCRIPT = """
import enum
from dataclasses import dataclass
from typing import Any, Optional
from decimal import Decimal
from marshmallow import Schema, fields
from catga_sync.messages import Request, message
from catga_sync.serialization import MessageRegistry

class Bits(enum.Flag):
    A = 1
    B = 2
    AB = 3

@message(schema=Schema.from_dict({"x": fields.List(fields.Decimal()), "y": fields.DateTime(required=True)}))
@dataclass
class Other:
    x: Any
    y: Any

@dataclass
class Node:
    kids: list["Node"]
    bits: Bits
    names: dict[str, Optional[Decimal]]
    other: Other

@dataclass
class Get(Request[tuple[int, Node]]):
    node: Node
    some: frozenset[str] = frozenset()

print(MessageRegistry().register(Get).contract)
"""


@pytest.mark.parametrize("seed", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_it_is_the_same_in_every_process_on_every_python_and_marshmallow(seed, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    found = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "node:6d115000!,some:a80852f3|:4886deba"

"""What two nodes' forms of a type differ in, by name and in words."""

from __future__ import annotations

from dataclasses import make_dataclass
from decimal import Decimal
from typing import Any

from catga_sync.cluster.snapshot import reason_against
from catga_sync.messages import Request, message
from catga_sync.nodes import ClusterNode
from catga_sync.serialization import MessageRegistry
from catga_sync.serialization.contract import differences
from tests.tables import every_row


def contract(request: dict[str, Any], response: Any = int) -> str:
    """Return the contract of a type with these fields: name -> type, or (type, default)."""
    fields = [(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in request.items()]
    cls = message(name="T")(make_dataclass("T", fields, bases=(Request[response],), frozen=True))  # type: ignore[misc]
    registry = MessageRegistry()
    return registry.ensure(cls).contract


def response(**fields: Any) -> Any:
    return make_dataclass(
        "Response", [(name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in fields.items()]
    )


@every_row(
    ("here", "there", "expected"),
    [
        ({"sku": str}, {"sku": str, "tenant": str}, "`tenant` is required there, absent here"),
        ({"price": Decimal}, {"price": int}, "`price` is another kind of value there"),
        ({"name": str | None}, {"name": str}, "`name` may be null here and not there"),
        ({"tags": list[str]}, {"tags": list[int]}, "`tags` is another kind of value there"),
        ({"user_id": str}, {"user_id": int}, "`userId` is another kind of value there"),
    ],
)
def test_what_another_node_cannot_read_of_a_request_is_named_by_field(
    here: dict[str, Any], there: dict[str, Any], expected: str
) -> None:
    assert differences(contract(here), contract(there)) == (expected,)


@every_row(
    ("here", "there", "expected"),
    [
        (response(total=int), response(sum=int), "`total` of the response is required here, absent there"),
        (response(total=int), response(total=str), "`total` of the response is another kind of value there"),
        (response(total=int), response(total=int | None), "`total` of the response may be null there and not here"),
        (int, str, "the response is another kind of value there"),
        (response(total=int), list[int], "`total` of the response is required here, absent there"),
    ],
    ids=["absent", "kind", "null", "no object", "object and list"],
)
def test_what_this_node_cannot_read_of_a_response_is_named_by_field(here: Any, there: Any, expected: str) -> None:
    assert expected in differences(contract({}, here), contract({}, there))


@every_row(
    ("here", "there"),
    [
        ({"sku": str}, {"sku": str}),
        ({"sku": str}, {"sku": str, "tenant": (str, "none")}),
        ({"sku": str, "tenant": str}, {"sku": str}),
        ({"name": str}, {"name": str | None}),
    ],
    ids=["the same", "a new field with a default", "a field that is not known there", "null is allowed there only"],
)
def test_forms_that_can_be_read_have_no_difference(here: dict[str, Any], there: dict[str, Any]) -> None:
    assert differences(contract(here), contract(there)) == ()


@every_row("there", ["", "a", "a:1!|b:2!|c", "a!|", "|a"])
def test_a_text_that_is_no_contract_is_a_difference(there: str) -> None:
    assert differences("a:1!|b:2!", there) == ("its contract has a format that this version cannot read",)


def test_a_name_in_a_contract_of_another_node_is_fit_for_a_line_of_text() -> None:
    assert differences("|", "a%1b;%110000;%a;:1!|") == ("`a???` is required there, absent here",)
    (text,) = differences("|", f"{'a' * 500}:1!|")
    assert len(text) < 120


def test_of_many_differences_three_are_told_and_the_rest_is_counted() -> None:
    there = ClusterNode("a", "http://a:1", handles={"T"}, contracts={"T": contract(dict.fromkeys("abcde", str))})
    assert reason_against(there, "T", contract({})) == (
        "its form of this type cannot be read from here: `a` is required there, absent here; "
        "`b` is required there, absent here; `c` is required there, absent here; and 2 more"
    )

# ruff: noqa: UP045  # both ways to write a union
"""Calls in both directions between a Python node and one that does what the original (.NET) does."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional
from uuid import UUID

import pytest

from catga_sync import ClusterMediator, Delivery, ErrorCode, Mediator, Query, create_cluster, message
from tests.integrations.dotnet_peer import ASSEMBLY, DotnetError, DotnetPeer, full_name, resolve
from tests.processes import free_port
from tests.unit.serving import serving

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "dotnet.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Price:
    amount: float
    valid_from: datetime | None = None


class Priority(enum.Enum):
    LOW = 0
    VERY_HIGH = 3


UTC = timezone.utc
ID = UUID("0b9f6a4e-1c1d-4b5e-9d2f-3a4b5c6d7e8f")
NOON = datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)
LIST, DICTIONARY = "System.Collections.Generic.List", "System.Collections.Generic.Dictionary"
PRICE, PRIORITY = "Shop.Contracts.Price", "Shop.Contracts.Priority"
CARD = {"amount": -0.0, "validFrom": "2026-01-31T12:00:00.1234567Z"}

#: The annotation of the answer, its type there, its value here, and what System.Text.Json makes of the value there.
ANSWERS: list[tuple[Any, str, Any, Any]] = [
    (int, "System.Int32", 7, 7),
    (str, "System.String", "Grüße \"<a>&'+` 🙂", "Grüße \"<a>&'+` 🙂"),
    (bool, "System.Boolean", True, True),
    (float, "System.Double", -0.0, -0.0),
    (Decimal, "System.Decimal", Decimal("12.30"), Decimal("12.30")),
    (bytes, "System.Byte[]", b"\x00\xff", "AP8="),
    (UUID, "System.Guid", ID, str(ID)),
    (timedelta, "System.TimeSpan", timedelta(days=1, seconds=5), "1.00:00:05"),
    (datetime, "System.DateTime", NOON, "2026-01-31T12:00:00.1234567Z"),
    (Priority, PRIORITY, Priority.VERY_HIGH, 3),
    (Optional[int], "System.Nullable<System.Int32>", 7, 7),
    (list[int], f"{LIST}<System.Int32>", [1, 2], [1, 2]),
    (list[str | None], f"{LIST}<System.String>", ["a", None], ["a", None]),
    (list[list[int]], f"{LIST}<{LIST}<System.Int32>>", [[1]], [[1]]),
    (set[int], "System.Collections.Generic.HashSet<System.Int32>", {1, 2}, [1, 2]),
    (dict[str, float], f"{DICTIONARY}<System.String,System.Double>", {"A_b": -0.0}, {"A_b": -0.0}),
    (dict[Priority, int], f"{DICTIONARY}<{PRIORITY},System.Int32>", {Priority.VERY_HIGH: 1}, {"VeryHigh": 1}),
    (Price, PRICE, Price(-0.0, NOON), CARD),
    (list[Price], f"{LIST}<{PRICE}>", [Price(-0.0, NOON), Price(1.5)], [CARD, {"amount": 1.5, "validFrom": None}]),
    (dict[str, Price], f"{DICTIONARY}<System.String,{PRICE}>", {"a": Price(1.5)}, {"a": {"amount": 1.5}}),
    (Any, "System.Object", {"a": [1, None]}, {"a": [1, None]}),
]  # fmt: skip


def query_of(annotation: Any, **options: Any) -> Any:
    """Return a query class that is ``Shop.Contracts.Ask`` to .NET."""

    def body(namespace: dict[str, Any]) -> None:
        namespace.update(__module__=__name__, __annotations__={"product_id": str})

    made = types.new_class("Ask", (Query[annotation],), exec_body=body)
    return message(name=f"Shop.Contracts.Ask{ASSEMBLY}", **options)(dataclass(frozen=True)(made))


@pytest.fixture
def peer() -> Iterator[DotnetPeer]:
    with DotnetPeer() as made:
        yield made


@pytest.fixture
def mediator(peer: DotnetPeer) -> Iterator[ClusterMediator]:
    with create_cluster(Mediator(), node_id="py", peers={"dotnet-1": peer.endpoint}) as made:
        yield made


@contextlib.contextmanager
def node_of(request_type: Any, handler: Callable[[Any], Any]) -> Iterator[str]:
    """Serve a Python node with one handler; yield its endpoint."""
    local, port = Mediator(), free_port()
    local.register(request_type, handler)
    endpoint = f"http://127.0.0.1:{port}"
    options = {"endpoint": endpoint, "discovery": "memory://", "insecure": True}  # a .NET node signs nothing
    with create_cluster(local, node_id="py", **options) as node, serving(node, port):
        yield endpoint


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, signs of zeros included."""
    return bool(one == other) and repr(one).count("-0.0") == repr(other).count("-0.0")


@pytest.mark.parametrize(("annotation", "kind", "value", "written"), ANSWERS, ids=lambda each: str(each)[:40])
def test_dotnet_answers_python_with_every_kind_of_value(
    peer: DotnetPeer, mediator: ClusterMediator, annotation: Any, kind: str, value: Any, written: Any
) -> None:
    peer.handle("Shop.Contracts.Ask", kind, lambda query: written if query == {"productid": "p-1"} else None)
    result = mediator.send(query_of(annotation)("p-1"))
    assert result.error is None
    assert same(result.value, value)
    assert (result.delivery, result.node_id, result.processing_time_ms) == (Delivery.EXECUTED, "dotnet-1", 3.0)
    assert resolve(peer.envelopes[0]["responsetypename"]) == resolve(full_name(kind)) is not None


@pytest.mark.parametrize(("annotation", "kind", "value", "written"), ANSWERS, ids=lambda each: str(each)[:40])
def test_python_answers_dotnet_with_every_kind_of_value(
    peer: DotnetPeer, annotation: Any, kind: str, value: Any, written: Any
) -> None:
    asked: list[Any] = []
    with node_of(query_of(annotation), lambda query: asked.append(query.product_id) or value) as endpoint:
        found = peer.call(endpoint, f"Shop.Contracts.Ask{ASSEMBLY}", full_name(kind), {"PRODUCTID": "p-1"})
    assert asked == ["p-1"]
    assert same(found, as_read_there(value))


def as_read_there(value: Any) -> Any:
    """Return the JSON that a value is to .NET."""
    if dataclasses.is_dataclass(value):
        return {"amount": value.amount, "validFrom": as_read_there(value.valid_from)}  # type: ignore[attr-defined]
    if isinstance(value, dict):
        return {str(as_read_there(key)): as_read_there(item) for key, item in value.items()}
    if isinstance(value, (list, set)):
        return [as_read_there(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    plain = {Decimal: float, UUID: str, bytes: lambda raw: "AP8=", timedelta: lambda span: "1.00:00:05"}
    return plain.get(type(value), lambda each: each)(value)


def test_a_type_that_is_another_than_the_usual_one_is_named_by_the_request(
    peer: DotnetPeer, mediator: ClusterMediator
) -> None:
    kind = f"System.Collections.Generic.IReadOnlyList<{PRICE}>"
    peer.handle("Shop.Contracts.Ask", kind, lambda query: [{"amount": 1.5}])
    unnamed = mediator.send(query_of(list[Price])("p-1"))
    assert (unnamed.code, unnamed.delivery) == (ErrorCode.INTERNAL, Delivery.UNKNOWN)
    assert "violates the constraint" in str(unnamed.error)
    with create_cluster(Mediator(), node_id="other", peers={"dotnet-1": peer.endpoint}) as other:
        assert other.send(query_of(list[Price], response_name=full_name(kind))("p-1")).value == [Price(1.5)]


def test_what_goes_wrong_there_is_said_here(peer: DotnetPeer, mediator: ClusterMediator) -> None:
    ask = query_of(int)("p-1")

    def fail(query: Any) -> Any:
        raise RuntimeError("Object reference not set to an instance of an object.")

    peer.handle("Shop.Contracts.Ask", "System.Int32", fail)
    raised = mediator.send(ask)
    assert (raised.delivery, raised.code) == (Delivery.UNKNOWN, ErrorCode.INTERNAL)
    assert raised.error == (
        f"node dotnet-1 at {peer.endpoint} reported a failure without the id of the request (HTTP status 500): "
        "Object reference not set to an instance of an object."
    )
    peer.handle("Shop.Contracts.Ask", "System.Int32", lambda query: None)
    assert (mediator.send(ask).error, mediator.send(ask).delivery) == ("No value in result", Delivery.EXECUTED)


def test_a_name_of_another_answer_is_refused_with_both_names_and_what_to_write(peer: DotnetPeer) -> None:
    with node_of(query_of(list[Price]), lambda query: []) as endpoint, pytest.raises(DotnetError) as caught:
        peer.call(endpoint, f"Shop.Contracts.Ask{ASSEMBLY}", f"Shop.Contracts.Prices{ASSEMBLY}", {})
    assert str(caught.value) == (
        f"responseTypeName: Shop.Contracts.Ask{ASSEMBLY} has the response type "
        f"System.Collections.Generic.List`1[[{PRICE}{ASSEMBLY}]], not Shop.Contracts.Prices{ASSEMBLY}; "
        "see @message(response_name=...)"
    )


def example_of_the_page(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the first block of docs/dotnet.md as it is written, but for the address; return its names."""
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    text = found[1].replace("http://localhost:5100", endpoint)
    assert text != found[1]
    module = types.ModuleType("page_dotnet")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, "docs/dotnet.md", "exec"), vars(module))
    return vars(module)


def test_the_example_of_the_page_works_as_written_in_both_directions(
    peer: DotnetPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.handle("Shop.Contracts.GetPriceQuery", PRICE, lambda query: {"amount": 9.5, "currency": query["productid"]})
    names = example_of_the_page(peer.endpoint, monkeypatch)
    with names["shop"] as shop:
        assert shop.send(names["GetPrice"]("p-1")).unwrap() == names["Price"](9.5)
    assert peer.envelopes[0]["responsetypename"] == f"{PRICE}{ASSEMBLY}"

    with node_of(names["GetPrice"], lambda query: names["Price"](float(len(query.product_id)))) as endpoint:
        query = full_name("Shop.Contracts.GetPriceQuery")
        found = peer.call(endpoint, query, full_name(PRICE), {"productId": "p-1"})
    assert found == {"amount": 3.0}

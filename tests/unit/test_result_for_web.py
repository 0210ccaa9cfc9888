"""A result in the response of a web view: as plain JSON data, and as an HTTP status."""

import enum
import json
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.results import Attempt
from tests.tables import every_row

# As the gateway of gRPC maps them: https://github.com/grpc-ecosystem/grpc-gateway, runtime/errors.go.
STATUSES = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}


@every_row("code", list(ErrorCode))
def test_a_code_of_grpc_has_the_status_of_its_gateway(code):
    assert CatgaResult.failure("no", code).http_status == STATUSES[code]


def test_a_success_is_200():
    assert CatgaResult.success(1).http_status == 200


@pytest.mark.parametrize("code", ["shop.out_of_stock", "", None])
def test_a_failure_that_the_application_has_chosen_is_422(code):
    assert CatgaResult.failure("no", code).http_status == 422


def test_a_failure_without_a_code_whose_handler_may_not_have_run_is_500():
    for delivery in (Delivery.NOT_EXECUTED, Delivery.UNKNOWN):
        assert CatgaResult.failure("no", delivery=delivery).http_status == 500


def test_all_of_a_result_is_in_the_dict():
    result = CatgaResult(
        False,
        None,
        "no",
        ErrorCode.ABORTED,
        Delivery.UNKNOWN,
        request_id="r-1",
        node_id="node-2",
        processing_time_ms=1.5,
        attempts=(Attempt("node-2", 0.25, Delivery.UNKNOWN, ErrorCode.ABORTED, "no"),),
        metadata={"zone": "a", "at": (1, Decimal("1.50"))},
    )
    found = result.to_dict()
    assert found == {
        "is_success": False,
        "value": None,
        "error": "no",
        "code": "ABORTED",
        "delivery": "UNKNOWN",
        "request_id": "r-1",
        "node_id": "node-2",
        "processing_time_ms": 1.5,
        "attempts": [
            {"node_id": "node-2", "elapsed": 0.25, "delivery": "UNKNOWN", "code": "ABORTED", "error": "no"},
        ],
        "metadata": {"zone": "a", "at": [1, "1.50"]},
    }
    assert json.loads(json.dumps(found)) == found


def test_the_id_that_is_made_on_first_use_stays_the_same():
    result = CatgaResult.success()
    assert result.to_dict()["request_id"] == result.request_id


class Size(enum.Enum):
    LARGE = "large"


@dataclass(frozen=True)
class Item:
    sku: str
    price: Decimal


@dataclass(frozen=True, slots=True)
class Order:
    items: tuple[Item, ...]
    by_size: dict[Size, int] = field(default_factory=dict)


class Plain:
    def __init__(self):
        self.user_id = 7
        self._cache = 8


class Opaque:
    __slots__ = ()

    def __str__(self):
        return "opaque"


Point = namedtuple("Point", "x y")


@every_row(
    ("value", "expected"),
    [
        (True, True),
        (12345678901234567890, 12345678901234567890),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("1.10"), "1.10"),
        (Size.LARGE, "large"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc), "2024-02-29T12:30:00+00:00"),
        (date(2024, 2, 29), "2024-02-29"),
        (time(12, 30), "12:30:00"),
        (timedelta(days=1, seconds=1.5), 86401.5),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        ({1: [b"a"], "b": {UUID(int=1): None}}, {"1": ["YQ=="], "b": {"00000000-0000-0000-0000-000000000001": None}}),
        ({3}, [3]),
        (frozenset({"a"}), ["a"]),
        (Point(1, 2), [1, 2]),
        (
            Order((Item("A-1", Decimal("2.50")),), {Size.LARGE: 2}),
            {"items": [{"sku": "A-1", "price": "2.50"}], "by_size": {"large": 2}},
        ),
        (Plain(), {"user_id": 7}),
        (Opaque(), "opaque"),
        (Item, str(Item)),
    ],
)
def test_a_value_is_plain_json_data(value, expected):
    found = CatgaResult.success(value).to_dict()["value"]
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_texts_of_subclasses_are_plain_texts():
    class Shouting(str):
        __slots__ = ()

        def __str__(self):
            return self.upper()

    found = CatgaResult.success(["a", Shouting("b"), ErrorCode.ABORTED]).to_dict()["value"]
    assert found == ["a", "b", "ABORTED"]
    assert {type(each) for each in found} == {str}

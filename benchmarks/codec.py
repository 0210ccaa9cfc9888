"""How long a message takes to write and to read, next to marshmallow, msgspec and the json module.

    python benchmarks/codec.py                  prints the medians, and how they compare in the same round
    python benchmarks/codec.py --rounds 1000

The message has 27 values: a UUID, a datetime, a list of five objects with a Decimal each, lists, a dict. In each round
every library writes and reads it some times, one library after another, so that what else the machine does meets all of
them; the time is that of the processor. msgspec is left out where it is not installed (extra bench).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from decimal import Decimal

import marshmallow as ma

from catga_sync.serialization import MessageRegistry

#: How often a library writes or reads the message in a round.
CALLS = 40


@dataclass(frozen=True)
class Line:
    sku: str
    count: int
    price: Decimal


@dataclass(frozen=True)
class Order:
    order_id: uuid.UUID
    placed_at: datetime
    customer: str
    lines: list[Line]
    tags: list[str]
    scores: list[int]
    labels: dict[str, str]
    paid: bool
    note: str | None


ORDER = Order(
    order_id=uuid.UUID("0b9f6a4e-1c1d-4b5e-9d2f-3a4b5c6d7e8f"),
    placed_at=datetime(2026, 11, 27, 12, 30, tzinfo=timezone.utc),
    customer="Jane Roe",
    lines=[Line(f"sku-{number}", number, Decimal("19.90")) for number in range(5)],
    tags=["new", "gift"],
    scores=[1, 2],
    labels={"source": "web", "campaign": "autumn", "partner": "none"},
    paid=True,
    note=None,
)


class LineSchema(ma.Schema):
    sku = ma.fields.Str(required=True)
    count = ma.fields.Int(required=True, strict=True)
    price = ma.fields.Decimal(required=True, as_string=True)

    @ma.post_load
    def make(self, data: dict[str, object], **kwargs: object) -> Line:
        return Line(**data)  # type: ignore[arg-type]


class OrderSchema(ma.Schema):
    order_id = ma.fields.UUID(required=True, data_key="orderId")
    placed_at = ma.fields.DateTime(required=True, data_key="placedAt")
    customer = ma.fields.Str(required=True)
    lines = ma.fields.List(ma.fields.Nested(LineSchema()), required=True)
    tags = ma.fields.List(ma.fields.Str(), required=True)
    scores = ma.fields.List(ma.fields.Int(strict=True), required=True)
    labels = ma.fields.Dict(ma.fields.Str(), ma.fields.Str(), required=True)
    paid = ma.fields.Bool(required=True)
    note = ma.fields.Str(required=True, allow_none=True)

    @ma.post_load
    def make(self, data: dict[str, object], **kwargs: object) -> Order:
        return Order(**data)  # type: ignore[arg-type]


Write, Read = Callable[[], bytes], Callable[[bytes], object]


def libraries() -> dict[str, tuple[Write, Read]]:
    """Return how each library writes and reads the order; each has shown that it reads what it writes."""
    codec = MessageRegistry().register(Order, name="Order").codec
    schema = OrderSchema()
    plain = json.loads(codec.encode(ORDER))
    found: dict[str, tuple[Write, Read]] = {
        "catga_sync": (lambda: codec.encode(ORDER), codec.decode),
        "marshmallow": (lambda: json.dumps(schema.dump(ORDER)).encode(), lambda raw: schema.load(json.loads(raw))),
        "json alone": (lambda: json.dumps(plain).encode(), json.loads),
    }
    try:
        import msgspec
    except ImportError:
        print("msgspec is not installed")
    else:
        decoder, encoder = msgspec.json.Decoder(Order), msgspec.json.Encoder()
        found["msgspec"] = (lambda: encoder.encode(ORDER), decoder.decode)
    for name, (write, read) in found.items():
        read_back = read(write())
        if read_back != ORDER and name != "json alone":
            raise SystemExit(f"{name} does not read what it writes: {read_back}")
    return found


def count(value: object) -> int:
    """Return how many values there are that consist of no others."""
    if isinstance(value, dict):
        return sum(map(count, value.values()))
    return sum(map(count, value)) if isinstance(value, list) else 1


def microseconds(call: Callable[[], object]) -> float:
    began = time.thread_time()
    for _ in range(CALLS):
        call()
    return (time.thread_time() - began) / CALLS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    tried = libraries()
    raws = {name: write() for name, (write, _) in tried.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tried}
    for _ in range(args.rounds):
        for name, (write, read) in tried.items():
            times[name].append((microseconds(write), microseconds(lambda raw=raws[name], read=read: read(raw))))
    print(f"{count(asdict(ORDER))} values; microseconds, medians of {args.rounds} rounds")
    print(f"{'':12}{'write':>8}{'read':>8}{'both':>8}{'catga_sync takes':>20}")
    for name, both in times.items():
        write_time, read_time = (statistics.median(one[at] for one in both) for at in (0, 1))
        ratios = [sum(ours) / sum(theirs) for ours, theirs in zip(times["catga_sync"], both, strict=True)]
        quarters = statistics.quantiles(ratios, n=4)
        print(
            f"{name:12}{write_time:8.1f}{read_time:8.1f}{write_time + read_time:8.1f}"
            f"{quarters[1]:12.2f} x  ({quarters[0]:.2f} to {quarters[2]:.2f})"
        )


if __name__ == "__main__":
    main()

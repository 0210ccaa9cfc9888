"""How long the receiver takes over the worst bodies of ``max_body_bytes``: ``python benchmarks/worst_bodies.py``.

Each body is as long as the receiver lets in by default (4 MB), and is handed to the real receiver in this process, as
a request of a caller who is let in. The table has the time until the response, the longest time for which another
thread of the process had to wait meanwhile (the interpreter runs one thread at a time, and a piece of work in C is not
interrupted), and what the response says. Both are medians, of processor time: a busy machine makes them no longer.
Words as arguments choose the bodies whose names have one of them.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import logging
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, make_dataclass
from datetime import date, datetime, timedelta, timezone
from datetime import time as dt_time
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from catga_sync import ClusterOptions, Mediator, Request
from catga_sync.receiver.authentication import OpenGuard
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.wire.envelope import ResponseEnvelope, read_batch_response
from catga_sync.wire.routes import BATCH_PATH, INVOKE_PATH

BODY = ClusterOptions().max_body_bytes
#: Bytes of JSON that fit as a payload: base64 makes four of three.
PAYLOAD = (BODY - 400) // 4 * 3 - 20
RUNS = 3
#: Hashes of numbers are taken modulo this one.
MODULUS = 2**61 - 1


class Case(NamedTuple):
    """A body: its name, where it is sent, and what makes it."""

    name: str
    path: str
    make: Callable[[], bytes]


@dataclass(frozen=True)
class Point:
    """An object with a few fields."""

    x: int
    y: int | None = None
    name: str | None = None


class Colour(Enum):
    """A value out of a few."""

    RED = "red"


# -- what bodies are made of ------------------------------------------------------------------------------------------


def joined(parts: Iterator[str], *, around: str = "[]", limit: int = PAYLOAD) -> bytes:
    """Return as many parts as fit, with commas between them and brackets around them."""
    taken, size = [], 2
    for part in parts:
        size += len(part) + 1
        if size > limit:
            break
        taken.append(part)
    return (around[0] + ",".join(taken) + around[1]).encode()


def as_keys(parts: Iterator[str]) -> bytes:
    """Return an object with these texts as its keys."""
    return joined((f'"{part}":0' for part in parts), around="{}")


def quoted(parts: Iterator[str]) -> bytes:
    """Return an array of these texts."""
    return joined(f'"{part}"' for part in parts)


def multiples(of: int) -> Iterator[str]:
    """Yield numbers that are regular: each a multiple of one, small and large ones in turns."""
    return (str(of * n) for n in itertools.count(1))


def uuids(step: int) -> Iterator[str]:
    """Yield UUIDs at equal distances."""
    return (str(UUID(int=(step * n) % 2**128)) for n in itertools.count(1))


def random_numbers() -> Iterator[str]:
    """Yield numbers of 18 digits at most."""
    rng = random.Random(1)
    return (str(rng.getrandbits(59)) for _ in itertools.count())


def times() -> Iterator[str]:
    """Yield one second after the other."""
    return (f"{datetime.fromtimestamp(n, timezone.utc):%Y-%m-%dT%H:%M:%S}" for n in itertools.count())


def nested(levels: int, opening: str, closing: str) -> str:
    """Return a value that is so many levels deep."""
    return opening * levels + "0" + closing * levels


# -- envelopes --------------------------------------------------------------------------------------------------------


def envelope(type_name: str, payload: bytes, extra: str = "") -> bytes:
    """Return the JSON of a request; ``extra`` is put before its own properties."""
    return (
        f'{{{extra}"requestTypeName":"{type_name}","responseTypeName":"none","requestId":"{"1" * 32}",'
        f'"timestamp":"2026-01-01T00:00:00Z","payloadData":"{base64.b64encode(payload).decode()}"}}'
    ).encode()


def unknown_property(value: bytes) -> bytes:
    """Return a request with a property that the receiver does not know."""
    return envelope("Nothing", b"{}", f'"unknown":{value.decode()},')


def batch(item: Callable[[int], str]) -> bytes:
    """Return a batch of 10,000 requests, or as many as fit."""
    return joined(map(item, range(10_000)), limit=BODY - 20).join((b'{"requests":', b"}"))


ROOM = BODY - 400

#: Bodies in which the envelope is what is odd.
ENVELOPES: dict[str, Callable[[], bytes]] = {
    "no JSON: opening brackets alone": lambda: b"[" * BODY,
    "no JSON: brackets and quotes": lambda: b'[{"\\"' * (BODY // 6),
    "no JSON: backslashes": lambda: b'"' + b"\\" * (BODY - 50) + b"[" * 40,
    "unknown property: nested 31 levels deep, often": lambda: unknown_property(
        joined(itertools.repeat(nested(30, "[", "]")), limit=ROOM)
    ),
    "unknown property: objects nested 31 levels deep": lambda: unknown_property(
        joined(itertools.repeat(nested(29, '{"a":', "}")), limit=ROOM)
    ),
    "unknown property: a million small lists": lambda: unknown_property(joined(itertools.repeat("[]"), limit=ROOM)),
    "unknown property: a million empty objects": lambda: unknown_property(joined(itertools.repeat("{}"), limit=ROOM)),
    "unknown property: numbers of 4,300 digits": lambda: unknown_property(
        joined(itertools.repeat("9" * 4_300), limit=ROOM)
    ),
    "unknown property: one number of 4 million digits": lambda: unknown_property(b"9" * ROOM),
    "unknown property: one fraction of 4 million digits": lambda: unknown_property(b"0." + b"9" * (ROOM - 2)),
    "unknown property: numbers of one digit": lambda: unknown_property(joined(itertools.repeat("1"), limit=ROOM)),
    "unknown property: fractions": lambda: unknown_property(joined(itertools.repeat("1e9"), limit=ROOM)),
    "unknown property: a text of escapes": lambda: unknown_property(b'"' + b"\\u0041" * ((ROOM - 2) // 6) + b'"'),
    "unknown property: an object of many keys": lambda: unknown_property(
        joined((f'"{n:x}":0' for n in itertools.count()), around="{}", limit=ROOM)
    ),
    "many unknown properties": lambda: envelope(
        "Nothing", b"{}", joined((f'"{n:x}":0' for n in itertools.count()), limit=ROOM).decode()[1:-1] + ","
    ),
    "payload of escapes": lambda: envelope("Nothing", b"{}").replace(
        b'"payloadData":"e30="', b'"payloadData":"' + b"\\u0041" * (ROOM // 24 * 4) + b'"'
    ),
}

#: Bodies in which the payload is what is odd: annotation of the only field, and its JSON.
PAYLOADS: dict[str, tuple[Any, Callable[[], bytes]]] = {
    "set[int], random": (set[int], lambda: joined(random_numbers())),
    "set[int], one after the other": (set[int], lambda: joined(multiples(1))),
    # Of all powers of two, the multiples of these take the check for collisions the longest.
    "set[int], multiples of 2**44": (set[int], lambda: joined(multiples(2**44))),
    "set[int], multiples of 2**61 - 1: all collide": (set[int], lambda: joined(multiples(MODULUS))),
    "set[int], 32 of each hash": (
        set[int],
        lambda: joined(str(n + MODULUS * k) for n in itertools.count() for k in range(1, 33)),
    ),
    "set[int], the same number": (set[int], lambda: joined(itertools.repeat("1"))),
    "set[UUID], random": (set[UUID], lambda: quoted(uuids(0x9E3779B97F4A7C15F39CC0605CEDC835))),
    "set[UUID], multiples of 2**64": (set[UUID], lambda: quoted(uuids(2**64))),
    "set[UUID], multiples of 2**61 - 1: all collide": (set[UUID], lambda: quoted(uuids(MODULUS))),
    "set[str]": (set[str], lambda: quoted(f"{n:x}" for n in itertools.count())),
    "set[float]": (set[float], lambda: joined(f"{n}.5" for n in itertools.count())),
    "set[Decimal]": (set[Decimal], lambda: joined(f"{n}.1" for n in itertools.count())),
    "set[Decimal], all collide": (set[Decimal], lambda: quoted(multiples(MODULUS))),
    "set[Decimal], large exponents": (set[Decimal], lambda: joined(f"1e{n}" for n in itertools.count(900_000))),
    "set[Decimal], 4,300 digits": (set[Decimal], lambda: joined(f"{n}." + "1" * 4_290 for n in range(10**8, 10**9))),
    "set[timedelta]": (set[timedelta], lambda: quoted(f"{n}.00:00:00" for n in itertools.count(1))),
    "set[datetime]": (set[datetime], lambda: quoted(times())),
    "set[tuple[int, int]]": (set[tuple[int, int]], lambda: joined(f"[{n},1]" for n in itertools.count())),
    "set[frozenset[int]]": (set[frozenset[int]], lambda: joined(f"[{n}]" for n in itertools.count())),
    "set[Point]": (set[Point], lambda: joined(f'{{"x":{n}}}' for n in itertools.count())),
    "dict[int, int], random": (dict[int, int], lambda: as_keys(random_numbers())),
    "dict[int, int], multiples of 2**28": (dict[int, int], lambda: as_keys(multiples(2**28))),
    "dict[int, int], all collide": (dict[int, int], lambda: as_keys(multiples(MODULUS))),
    "dict[UUID, int], multiples of 2**64": (dict[UUID, int], lambda: as_keys(uuids(2**64))),
    "dict[Decimal, int]": (dict[Decimal, int], lambda: as_keys(f"{n}.1" for n in itertools.count())),
    "dict[datetime, int]": (dict[datetime, int], lambda: as_keys(times())),
    "dict[str, int]": (dict[str, int], lambda: as_keys(f"{n:x}" for n in itertools.count())),
    "list[int]": (list[int], lambda: joined(itertools.repeat("1"))),
    "list[int], 4,300 digits": (list[int], lambda: joined(itertools.repeat("9" * 4_300))),
    "list[float]": (list[float], lambda: joined(itertools.repeat("1e9"))),
    "list[float], -0": (list[float], lambda: joined(itertools.repeat("-0"))),
    "list[Decimal]": (list[Decimal], lambda: joined(itertools.repeat("1e9"))),
    "list[Decimal], one of 3 million digits": (list[Decimal], lambda: b"[0." + b"9" * (PAYLOAD - 10) + b"]"),
    "list[float], one of 3 million digits": (list[float], lambda: b"[0." + b"9" * (PAYLOAD - 10) + b"]"),
    "list[str], escapes": (list[str], lambda: b'["' + b"\\u00e9" * ((PAYLOAD - 10) // 6) + b'"]'),
    "list[str], empty": (list[str], lambda: joined(itertools.repeat('""'))),
    "list[datetime]": (list[datetime], lambda: quoted(times())),
    "list[UUID]": (list[UUID], lambda: quoted(uuids(1))),
    "list[bytes]": (list[bytes], lambda: joined(itertools.repeat('""'))),
    "list[list[int]], a million": (list[list[int]], lambda: joined(itertools.repeat("[]"))),
    "list[dict[str, int]]": (list[dict[str, int]], lambda: joined(itertools.repeat("{}"))),
    "list[set[int]]": (list[set[int]], lambda: joined(itertools.repeat("[]"))),
    "list[Point]": (list[Point], lambda: joined(itertools.repeat('{"x":1}'))),
    "list[Point], other letter case": (list[Point], lambda: joined(itertools.repeat('{"X":1}'))),
    "Point with many unknown properties": (
        Point,
        lambda: joined((f'"{n:x}":0' for n in itertools.count(2**20)), around="{}"),
    ),
    "Any, nested 28 levels deep, often": (Any, lambda: joined(itertools.repeat(nested(28, "[", "]")))),
    "Any, objects nested 28 levels deep": (Any, lambda: joined(itertools.repeat(nested(28, '{"a":', "}")))),
    "Any, many keys": (Any, lambda: as_keys(f"{n:x}" for n in itertools.count())),
    "Any, numbers of 4,300 digits": (Any, lambda: joined(itertools.repeat("9" * 4_300))),
}


def cases(local: Mediator) -> list[Case]:
    """Return all bodies; the types that they name are registered."""
    found = [Case(name, INVOKE_PATH, make) for name, make in ENVELOPES.items()]
    found += [
        Case("batch of 10,000 items that are no envelopes", BATCH_PATH, lambda: batch(lambda n: "{}")),
        Case(
            "batch of 10,000 requests",
            BATCH_PATH,
            lambda: batch(lambda n: envelope("Nothing", b"{}").decode().replace("1" * 32, f"{n:032}")),
        ),
        Case("batch of two million items", BATCH_PATH, lambda: b'{"requests":[' + b"0," * (BODY // 2 - 10) + b"0]}"),
    ]
    register(local, "Nothing", [])
    for number, (name, (annotation, make)) in enumerate(PAYLOADS.items()):
        register(local, f"Type{number}", [("value", annotation)])
        found.append(Case(name, INVOKE_PATH, wrapped(f"Type{number}", make)))
    for kind in (date, datetime, Decimal, dt_time, timedelta, UUID, bytes, Colour):
        register(local, f"One{kind.__name__}", [("value", kind)])
        make = wrapped(f"One{kind.__name__}", lambda: b'"' + b"1" * (PAYLOAD - 2) + b'"')
        found.append(Case(f"{kind.__name__}, a text of 3 million digits", INVOKE_PATH, make))
    return found


def register(local: Mediator, name: str, fields: list[tuple[str, Any]]) -> None:
    """Register a request type with these fields, and a handler that does nothing."""
    cls = make_dataclass(name, fields, bases=(Request[None],), frozen=True)
    local.registry.register(cls, name=name)
    local.register(cls, lambda request: None)


def wrapped(name: str, make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return what makes the envelope of a payload with one field."""
    return lambda: envelope(name, b'{"value":%b}' % make())


# -- measuring --------------------------------------------------------------------------------------------------------


class Waits(threading.Thread):
    """Notes the longest time for which this thread had to wait for its turn."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self._over = threading.Event()

    def run(self) -> None:
        """Wake up a thousand times a second."""
        while not self._over.is_set():
            before = time.process_time()
            time.sleep(0.001)
            self.longest = max(self.longest, time.process_time() - before)

    def end(self) -> float:
        """Stop; return the longest wait in seconds."""
        self._over.set()
        self.join()
        return self.longest


def measure(receiver: Receiver, case: Case) -> tuple[float, float, str]:
    """Return median seconds until the response, the longest wait of another thread, and what the response says."""
    body = case.make()
    assert len(body) <= BODY, f"{case.name}: {len(body)} bytes"
    seconds, waits = [], []
    for _ in range(RUNS):
        headers = {"content-type": "application/json"}
        raw = RawRequest("POST", case.path, headers, io.BytesIO(body).read, len(body))
        waiting = Waits()
        waiting.start()
        started = time.thread_time()
        reply = receiver.handle(raw)
        seconds.append(time.thread_time() - started)
        waits.append(waiting.end())
    return statistics.median(seconds), statistics.median(waits), f"{reply.status} {said(case.path, reply.body)}"


def said(path: str, body: bytes) -> str:
    """Return the code of a response, or of the first item of a batch."""
    batched = path == BATCH_PATH and body.startswith(b'{"responses"')
    reply = read_batch_response(body)[0][0] if batched else ResponseEnvelope.decode(body)
    return "OK" if reply.is_success else f"{getattr(reply.error_code, 'name', reply.error_code)}"


def main() -> None:
    """Print the table, the slowest body first."""
    parser = argparse.ArgumentParser(description="How long the receiver takes over the worst bodies.")
    parser.add_argument("word", nargs="*", help="measure the bodies only whose names have one of these words")
    words = parser.parse_args().word
    logging.disable(logging.CRITICAL)
    local = Mediator()
    receiver = Receiver(local, node_id="n", describe=dict, guard=OpenGuard(), max_body_bytes=BODY)
    chosen = [case for case in cases(local) if not words or any(word in case.name for word in words)]
    rows = [(*measure(receiver, case), case.name) for case in chosen]
    print(f"| body of {BODY / 2**20:g} MiB | response | s | longest wait of another thread, s |\n|---|---|--:|--:|")
    for seconds, wait, code, name in sorted(rows, reverse=True):
        print(f"| {name} | {code} | {seconds:.2f} | {wait:.2f} |")


if __name__ == "__main__":
    main()

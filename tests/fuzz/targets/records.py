"""Records of nodes: as text, as a description, and as what stands in an SQLite file or on a Redis server."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from catga_sync._endpoint import check_endpoint
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import MAX_RECORD, ClusterNode, NodeRecord
from tests.fuzz.target import Check, Finding, Target, join, pure, split

__all__ = ["TARGETS"]

_GOOD = NodeRecord(ClusterNode("good", "http://localhost:5001", incarnation="run-1"), 3)
#: Seconds; no input takes as long.
_TTL = 3600.0
_WORDS = (
    "nodeId", "endpoint", "status", "DRAINING", "load", "incarnation", "seq", "handles", "subscribes", "contracts",
    "keepAlive", "concurrency", "features", "metadata", "1e999", "-1", "true", "null", "http://[::1]:1", "grpc://",
    "http://169.254.169.254", "\\ud800", "\\n", "{", "[[", "]]", ":", ",",
)  # fmt: skip


def _is_sound(record: NodeRecord) -> None:
    """Judge what was read: it is written and read again as it is, and leads nowhere where no node can be."""
    node = record.node
    check_endpoint(node.endpoint)
    text = record.to_text()
    if len(text) <= MAX_RECORD and NodeRecord.from_text(text) != replace(record, age=None):
        raise Finding(f"read again it is another record: {text!a}")
    json.loads(text, parse_constant=_no_json)


def _no_json(text: str) -> None:
    raise Finding(f"a record is no JSON: it has {text} in it")


def _text(data: bytes) -> bool:
    try:
        record = NodeRecord.from_text(data.decode("utf-8", "replace"))
    except ConfigurationError as exc:
        if not str(exc).isprintable() or len(str(exc)) > 1000:
            raise Finding(f"a refusal is not one printable line: {str(exc)!a}") from exc
        return False
    _is_sound(record)
    return True


def _text_seeds() -> list[bytes]:
    node = ClusterNode(
        "bad",
        "https://10.0.0.1:5002",
        load=12.5,
        metadata={"zone": "a", "weight": 2, "deep": {"er": [1.5, None]}},
        handles=frozenset({"Ask", "Acme.Ask, Acme"}),
        incarnation="run-2",
        subscribes=frozenset(),
        contracts={"Ask": "a:3f2a9c01!|"},
        keep_alive=5.0,
        concurrency=4,
        features=frozenset({"batch"}),
    )
    deep = json.dumps({"nodeId": "bad", "endpoint": "http://localhost:1", "metadata": {"a": 0}})
    return [
        NodeRecord(node, 7).to_text().encode(),
        b'{"nodeId":"bad","endpoint":"http://localhost:5002"}',
        deep.replace("0}", "[" * 600 + "]" * 600 + "}").encode(),
        deep.replace("0}", "1e999}").encode(),
    ]


# -- SQLite -----------------------------------------------------------------------------------------------------------


def _cell(part: bytes) -> Any:
    """Return the value of a cell, of a kind that its first byte tells."""
    kind, rest = part[:1], part[1:]
    if kind == b"t":
        return rest.decode("utf-8", "replace")
    if kind == b"n":
        with contextlib.suppress(ValueError):
            return float(rest)
    return None if kind == b"0" else rest


def _prepare_sqlite(place: str) -> Check:
    file = Path(place, "nodes.sqlite3")
    store = SqliteDiscovery(file)
    store.register(_GOOD, _TTL)
    with contextlib.closing(sqlite3.connect(file)) as db:
        ((boot, default),) = db.execute("SELECT boot, expires FROM nodes").fetchall()

    def check(data: bytes) -> bool:
        node_id, written, expires, record = map(_cell, split(data, 4))
        row = ("default", node_id, "run", record, "http://localhost:5002", boot, written, expires or default)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute("DELETE FROM nodes WHERE node_id IS NOT 'good'")
            try:
                db.execute("INSERT INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError:  # no row that can be there
                return False
        return _judge(store.nodes())

    return check


def _judge(found: Any) -> bool:
    """Judge what a store returned in which one good record and another one are."""
    if [each.node for each in found if each.node.node_id == "good"] != [_GOOD.node]:
        raise Finding(f"a bad record took a good one along: {found!a}")
    for each in found:
        _is_sound(each)
        if each.age is None or not each.age >= 0.0:
            raise Finding(f"a record has an age of {each.age}")
    return len(found) > 1


def _sqlite_seeds() -> list[bytes]:
    texts = _text_seeds()
    return [
        join(b"tbad", b"n1.5", b"", b"t" + texts[0]),
        join(b"tbad", b"n1e12", b"", b"t" + texts[1]),
        join(b"bbad", b"t2026-01-31", b"tlater", b"b" + texts[1]),
        join(b"t", b"0", b"n1e999", b"t{}"),
        join(b"b\xff\xfe", b"nnan", b"", b"b\xff"),
        join(b"tbad", b"n-1e999", b"b", b"t" + texts[1]),
    ]


# -- Redis ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _redis_server() -> Iterator[str]:
    from tests.external.redis_server import RedisServer

    server = RedisServer()
    server.__enter__()
    try:
        yield server.url
    finally:
        # It tells what it has said, for the report of a test.
        with contextlib.redirect_stdout(io.StringIO()):
            server.__exit__()


def _prepare_redis(place: str) -> Check:
    import redis

    from catga_sync.discovery.redis import RedisDiscovery

    client = redis.Redis.from_url(place, socket_timeout=5.0, protocol=2)
    records, expiry, late, changes = (f"{{catga:default}}:{key}" for key in ("records", "expiry", "late", "changes"))

    def check(data: bytes) -> bool:
        node_id, expires, lates, version, value = split(data, 5)
        store = RedisDiscovery(client=client)
        client.flushdb()
        store.register(_GOOD, _TTL)
        known = store.nodes()
        with client.pipeline(transaction=True) as pipe:
            pipe.hset(records, node_id, value)
            for key, score in ((expiry, expires), (late, lates), (changes, version)):
                pipe.execute_command("ZADD", key, _score(score, 1e15), node_id)
            pipe.execute()
        if len(known) != 1 or node_id == b"good":
            return False
        # One that has looked before, and one that has not.
        found = [_judge(each.nodes()) for each in (RedisDiscovery(client=client), store)]
        return found[0]

    return check


def _score(part: bytes, otherwise: float) -> float:
    try:
        score = float(part)
    except ValueError:
        return otherwise
    return score if score == score else otherwise  # Redis keeps no NaN


def _redis_seeds() -> list[bytes]:
    texts = _text_seeds()
    head = b'"http://localhost:5002"\n"run-1"\n' + b"0" * 64 + b"\n"
    return [
        *(join("bad", "", "", "", head + text) for text in texts),
        join("bad", "1e300", "-inf", "inf", head + texts[1]),
        join("bad", "inf", "0", "-inf", head + texts[1]),
        join(b"\xff", "", "", "", b"\n\n\n{}"),
        join("", "", "", "", b""),
    ]


TARGETS = (
    Target("record", pure(_text), _text_seeds, _WORDS),
    Target("record-sqlite", _prepare_sqlite, _sqlite_seeds, _WORDS),
    Target(
        "record-redis",
        _prepare_redis,
        _redis_seeds,
        _WORDS,
        place=_redis_server,
        packages=("redis",),
        programs=("redis-server",),
    ),
)

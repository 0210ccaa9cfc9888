"""Records on a Redis server, for nodes on many machines.

Rules of this file:
1. The server keeps the time. No clock of a node is read, so none has to be right.
2. Every call is one script, and so atomic; ``nodes`` writes nothing. All keys of a cluster share one hash tag, and
   none is found by a pattern.
3. What the server returns is untrusted: its size is limited, it is parsed strictly, and an invalid record is left out.

    {prefix:cluster}:records   hash    node id -> endpoint, incarnation, digest, record; a line each
    {prefix:cluster}:expiry    zset    node id -> server time at which the record expires, in milliseconds
    {prefix:cluster}:late      zset    node id -> server time from which it is late: a quarter of its ttl has passed
    {prefix:cluster}:changes   zset    node id, of one that is gone too -> version of its last change; "" -> the first
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from catga_sync._redis import Options, RedisServer, check_names
from catga_sync.errors import ConfigurationError, NodeIdTaken
from catga_sync.nodes import MAX_RECORD, NodeRecord

__all__ = ["RedisDiscovery"]

#: Bytes of a record with its head, and of all records in one response.
_MAX_VALUE, _MAX_RESPONSE = MAX_RECORD + 1024, 64 * 1024 * 1024
#: Changes are kept for so many more nodes that are gone than nodes that are there.
_MAX_GONE = 100

_log = logging.getLogger(__name__)

_COMMON = """
local records, expiry, late, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# Versions are times in microseconds that are made to grow: one from before the store was emptied never comes again.
_CHANGING = """
local function drop(id)
  redis.call('HDEL', records, id); redis.call('ZREM', expiry, id); redis.call('ZREM', late, id)
end

local function note(ids)
  local version = time[1] * 1000000 + time[2]
  local last = tonumber(redis.call('ZREVRANGE', changes, 0, 0, 'WITHSCORES')[2])
  if not last then
    redis.call('ZADD', changes, version, '')
    last = version
  end
  version = math.max(version, last + 1)
  for _, id in ipairs(ids) do redis.call('ZADD', changes, version, id) end
end
"""

# Without any expiry the other keys mean nothing: the last node left, or the server evicted a key. A record whose head
# cannot be read reserves no id.
_REGISTER = f"""
{_COMMON}{_CHANGING}
local id, endpoint, head, record, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
if redis.call('ZCARD', expiry) == 0 and redis.call('EXISTS', records, late, changes) > 0 then
  redis.call('DEL', records, late, changes)
end
local held = redis.call('HGET', records, id)
local expires = tonumber(redis.call('ZSCORE', expiry, id) or 0)
if held and expires > now then
  local other = string.match(held, '^("[!#-~]*")\\n')
  if other and other ~= endpoint then return other end
end
local changed = {{}}
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, 1000)) do
  if gone ~= id then drop(gone); changed[#changed + 1] = gone end
end
if not held or string.sub(held, 1, #head) ~= head or not redis.call('ZSCORE', changes, id) then
  redis.call('HSET', records, id, head .. record)
  changed[#changed + 1] = id
end
redis.call('ZADD', expiry, now + ttl, id)
redis.call('ZADD', late, now + math.floor(ttl / 4), id)
if #changed > 0 then note(changed) end
if redis.call('ZCARD', changes) > 2 * redis.call('ZCARD', expiry) + {_MAX_GONE} then
  for _, member in ipairs(redis.call('ZRANGE', changes, 0, -1)) do
    if redis.call('HSTRLEN', records, member) == 0 then redis.call('ZREM', changes, member) end
  end
  note({{''}})
end
if redis.call('PTTL', expiry) < ttl then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 2 * ttl) end
end
return false
"""

_DEREGISTER = f"""
{_COMMON}{_CHANGING}
local id, incarnation = ARGV[1], ARGV[2]
local held = redis.call('HGET', records, id)
if held and string.match(held, '^[^\\n]*\\n([^\\n]*)\\n') == incarnation then
  drop(id)
  if redis.call('ZCARD', expiry) == 0 then redis.call('DEL', records, late, changes) else note({{id}}) end
end
return false
"""

# The mark is "beginning:version". A caller with this beginning gets the changes since its version, any other caller all
# records. Nothing is written: expired records are removed by register.
_NODES = f"""
{_COMMON}
local base = redis.call('ZSCORE', changes, '') or '0'
local last = redis.call('ZREVRANGE', changes, 0, 0, 'WITHSCORES')[2] or '0'
local seen_base, seen = string.match(ARGV[1], '^(.*):(.*)$')
local whole, ids = 0, {{}}
if seen_base ~= base or tonumber(seen) > tonumber(last) then
  whole, ids = 1, redis.call('HKEYS', records)
elseif seen ~= last then
  ids = redis.call('ZRANGEBYSCORE', changes, '(' .. seen, '+inf')
end
local changed, size = {{}}, 0
for _, id in ipairs(ids) do
  if id ~= '' then
    local length, value = redis.call('HSTRLEN', records, id), ''
    if length > {_MAX_VALUE} then value = 'too long' elseif length > 0 then value = redis.call('HGET', records, id) end
    size = size + #id + #value
    if size > {_MAX_RESPONSE} then return redis.error_reply('ERR more than {_MAX_RESPONSE} bytes of records') end
    changed[#changed + 1] = id; changed[#changed + 1] = value
  end
end
local ages, from = {{}}, redis.call('ZRANGEBYSCORE', late, '-inf', now, 'WITHSCORES')
for i = 1, #from, 2 do
  local expires, age = tonumber(redis.call('ZSCORE', expiry, from[i]) or 0), -1
  if expires > now then age = now - from[i + 1] + math.floor((expires - from[i + 1]) / 3) end
  ages[#ages + 1] = from[i]; ages[#ages + 1] = age
end
return {{base .. ':' .. last, whole, redis.call('HLEN', records), changed, ages}}
"""


@dataclass(frozen=True, slots=True)
class _View:
    """The records at one version. Immutable, so that threads may swap it without a lock."""

    mark: bytes = b"0:0"
    records: Mapping[str, NodeRecord] = field(default_factory=dict)
    #: Node id -> digest of a record that is invalid.
    refused: Mapping[str, bytes] = field(default_factory=dict)
    #: The records, sorted, with an age of 0.
    listed: tuple[NodeRecord, ...] = ()


class RedisDiscovery:
    """
    Keep the records on a Redis server (5.0 or later). Thread-safe, and safe to share with forked processes.

    Nothing is opened at construction. ``nodes`` fetches only what has changed since its last call, so the ``seq`` of a
    record is that of its last change and not of its last heartbeat; ``age`` is exact once a quarter of the record's
    ``ttl`` has passed, and 0 before.

    Args:
        url: ``redis://[[user]:password@]host[:port][/db]``, or ``rediss://`` for TLS with a checked certificate. Its
            query may hold ``db`` and the options below that start with ``ssl_``.
        cluster_name: Nodes of other clusters on the same server are not seen.
        prefix: The start of all keys; keys have it in braces, followed by the cluster's name.
        username: Takes precedence over the URL's.
        password: Takes precedence over the URL's.
        ssl_ca_certs: File with CA certificates to trust beside the system's.
        ssl_certfile: File with a client certificate.
        ssl_keyfile: File with its key. None means that ``ssl_certfile`` holds it.
        client: A client of your own in place of a URL, such as a ``redis.RedisCluster``; made with
            ``socket_timeout=0.5``, without retries and without ``decode_responses``. It is never closed here.

    Raises:
        ImportError: The redis package is not installed.
        ConfigurationError: The URL or an option is wrong.

    .. versionadded:: 0.1
    """

    refresh_interval = 1.0

    def __init__(
        self,
        url: str | None = None,
        *,
        cluster_name: str = "default",
        prefix: str = "catga",
        username: str | None = None,
        password: str | None = None,
        ssl_ca_certs: str | os.PathLike[str] | None = None,
        ssl_certfile: str | os.PathLike[str] | None = None,
        ssl_keyfile: str | os.PathLike[str] | None = None,
        client: Any = None,
    ) -> None:
        check_names(prefix=prefix, cluster_name=cluster_name)
        self._keys = tuple(f"{{{prefix}:{cluster_name}}}:{key}" for key in ("records", "expiry", "late", "changes"))
        options = Options(username, password, ssl_ca_certs, ssl_certfile, ssl_keyfile)
        self._server = RedisServer("discovery", "RedisDiscovery", url, client, options)
        self.where = f"{self._server.where} ({self._server.database}cluster_name {cluster_name!r}, prefix {prefix!r})"
        # Swapped whole.
        self._view = _View()

    def register(self, record: NodeRecord, ttl: float) -> None:
        """See ``Discovery``."""
        node, text = record.node, record.to_text()
        if len(text) > MAX_RECORD:
            raise ConfigurationError(
                f"metadata: a record has at most {MAX_RECORD} characters; this one has {len(text)}"
            )
        digest = hashlib.sha256(replace(record, seq=0).to_text().encode("ascii")).hexdigest()
        endpoint = json.dumps(node.endpoint)
        head = f"{endpoint}\n{json.dumps(node.incarnation)}\n{digest}\n"
        other = self._run(_REGISTER, node.node_id, endpoint, head, text, max(1, round(ttl * 1000)))
        if other is not None:
            raise NodeIdTaken(node.node_id, _text(other[1:-1])[:300])

    def deregister(self, node_id: str, incarnation: str) -> None:
        """See ``Discovery``."""
        self._run(_DEREGISTER, node_id, json.dumps(incarnation))

    def nodes(self) -> Sequence[NodeRecord]:
        """See ``Discovery``."""
        view, count, ages = self._read(self._view)
        if len(view.records) + len(view.refused) != count:
            # After a fail-over the server may lack the last writes: read everything again.
            view, count, ages = self._read(_View(b":0", refused=view.refused))
        self._view = view
        if not ages:
            return view.listed
        late = ((record, ages.get(record.node.node_id, 0)) for record in view.listed)
        return [replace(record, age=age / 1000) if age else record for record, age in late if age >= 0]

    def close(self) -> None:
        """See ``Discovery``. A later call opens a connection again."""
        self._server.close()

    def _run(self, script: str, *values: object) -> Any:
        try:
            return self._server.run(script, self._keys, *values)
        except self._server.errors.RedisError as exc:
            explained = self._server.explained(exc)
            if explained is None:
                raise
            raise ConfigurationError(f"discovery: {explained}") from exc

    def _read(self, before: _View) -> tuple[_View, int, Mapping[str, int]]:
        """Return the records as of now, their number on the server, and the age in ms of those that are late."""
        mark, whole, count, changed, late = self._run(_NODES, before.mark)
        ages = dict(zip(map(_text, late[::2]), late[1::2], strict=True))
        if not whole and not changed:
            return (before if mark == before.mark else replace(before, mark=mark)), count, ages
        records: dict[str, NodeRecord] = {} if whole else dict(before.records)
        refused: dict[str, bytes] = {} if whole else dict(before.refused)
        news: list[str] = []
        for key, value in zip(changed[::2], changed[1::2], strict=True):
            node_id = _text(key)
            records.pop(node_id, None)
            refused.pop(node_id, None)
            if not value:
                continue
            try:
                records[node_id] = _parsed(node_id, value)
            except Exception as exc:  # an invalid record may raise anything, and the others stay
                refused[node_id] = hashlib.sha256(value).digest()
                if before.refused.get(node_id) != refused[node_id]:
                    news.append(f"{node_id[:128]!a}: {str(exc)[:200]!a}")
        if news:
            _log.warning("%d invalid records in the discovery store are left out, such as %s", len(news), news[0])
        return _View(mark, records, refused, tuple(records[key] for key in sorted(records))), count, ages


def _parsed(node_id: str, value: bytes) -> NodeRecord:
    _, _, _, text = value.decode("utf-8").split("\n", 3)
    record = NodeRecord.from_text(text)
    if record.node.node_id != node_id:
        raise ConfigurationError("nodeId: it differs from the record's key")
    return replace(record, age=0.0)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")

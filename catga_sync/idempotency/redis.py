"""Claims on a Redis server, for nodes on many machines.

Rules of this file:
1. Every call is one script on one key, and so atomic.
2. The server keeps the time. The end of a lease is a field of the entry and not the key's expiry: a claim whose holder
   died must not look like one that was never made.
3. Only a claim whose connection broke is sent again, once, with the same token, by which the server recognises it.
   redis-py by itself tries ten times, waits five seconds each, and takes its own claim for another caller's
   (``redis/_defaults.py``).
4. A server that executes a claim too late refuses it: its caller has given up, and a claim without a caller would keep
   the request from running at all.

    {prefix}:{cluster}:claim:{key}   hash   fingerprint, token
                                            lease: server time until which it is RUNNING, in milliseconds
                                            done: 1, and then body, if it is kept
    {prefix}:{cluster}:store         string the identity of the store; it never expires
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from typing import Any

from catga_sync._checks import check_seconds, check_whole
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._redis import Options, RedisServer, check_names
from catga_sync.idempotency.base import MAX_BODY_BYTES, Claim, ClaimState, poll

__all__ = ["RedisIdempotency"]

#: Seconds after which the server refuses a claim: longer than a caller waits for it.
_CLAIM_WITHIN = 1.0

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_SEEN = """
local function seen()
  local held = redis.call('HMGET', KEYS[1], 'lease', 'done')
  if held[2] then return {'DONE', now, redis.call('HGET', KEYS[1], 'body')} end
  if tonumber(held[1]) > now then return {'RUNNING', now} end
  return {'LOST', now}
end
"""
# ARGV: fingerprint, token, lease, ttl, server time after which it is too late; 0 means never.
_CLAIM = f"""
{_NOW}{_SEEN}
if tonumber(ARGV[5]) > 0 and now > tonumber(ARGV[5]) then return {{'LATE', now}} end
local held = redis.call('HMGET', KEYS[1], 'fingerprint', 'token', 'done')
if not held[1] or (held[2] == ARGV[2] and not held[3]) then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'token', ARGV[2], 'lease', now + ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[3] + ARGV[4])
  return {{'NEW', now}}
end
if held[1] ~= ARGV[1] then return {{'MISMATCH', now}} end
return seen()
"""
_LOOK = f"""
{_NOW}{_SEEN}
if redis.call('EXISTS', KEYS[1]) == 0 then return {{'NEW', now}} end
return seen()
"""
# ARGV: token, ttl, and the body if it is kept.
_COMPLETE = """
local held = redis.call('HMGET', KEYS[1], 'token', 'done')
if held[1] ~= ARGV[1] then return 0 end
if held[2] then return 1 end
redis.call('HSET', KEYS[1], 'done', 1)
if ARGV[3] then redis.call('HSET', KEYS[1], 'body', ARGV[3]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
# ARGV: token.
_RELEASE = """
local held = redis.call('HMGET', KEYS[1], 'token', 'done')
if held[1] == ARGV[1] and not held[2] then redis.call('DEL', KEYS[1]) end
return 0
"""
# ARGV: the identity for a store that has none. The run of the server is added to it: a server that was restarted, and a
# replica that became the master, have the key and may lack the last claims.
_IDENTITY = """
local held = redis.call('GET', KEYS[1])
if not held then
  held = ARGV[1]
  redis.call('SET', KEYS[1], held)
end
return held .. ' ' .. (string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '')
"""


class RedisIdempotency:
    """
    Keep claims and responses on a Redis server (5.0 or later). Thread-safe, and safe to share with forked processes.

    Nothing is opened at construction. A restart, a fail-over or an eviction policy of the server may lose claims: see
    ``docs/idempotency.md``.

    Args:
        url:
            ``redis://[[user]:password@]host[:port][/db]``, or ``rediss://`` for TLS with a checked certificate. Its
            query may hold ``db`` and the options below that start with ``ssl_``.

        ttl:
            Seconds for which a completed claim is kept, and a lost one from the end of its lease on.

        cluster_name:
            Clusters on the same server do not see each other's claims.

        prefix:
            The start of all keys, followed by the cluster's name.

        max_body_bytes:
            The longest response that is kept; of a longer one only the fact is.

        username, password:
            Take precedence over the URL's.

        ssl_ca_certs, ssl_certfile, ssl_keyfile:
            Files with CA certificates to trust beside the system's, a client certificate, and its key.

        client:
            A client of your own in place of a URL, such as a ``redis.RedisCluster``; made with
            ``socket_timeout=0.5``, without retries and without ``decode_responses``. It is never closed here.

        clock:
            Measures the time that a claim and ``wait`` take; None means the system's.

        sleep:
            Waits between two looks of ``wait``.

    Raises:
        ImportError: The redis package is not installed.
        ConfigurationError: The URL or an option is wrong.

    .. versionadded:: 0.1
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        ttl: float = 24 * 3600.0,
        cluster_name: str = "default",
        prefix: str = "catga",
        max_body_bytes: int = MAX_BODY_BYTES,
        username: str | None = None,
        password: str | None = None,
        ssl_ca_certs: str | os.PathLike[str] | None = None,
        ssl_certfile: str | os.PathLike[str] | None = None,
        ssl_keyfile: str | os.PathLike[str] | None = None,
        client: Any = None,
        clock: Clock | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._ttl = _milliseconds(check_seconds("ttl", ttl))
        self._max_body_bytes = check_whole("max_body_bytes", max_body_bytes, 0)
        check_names(prefix=prefix, cluster_name=cluster_name)
        self._prefix = f"{prefix}:{cluster_name}:claim:"
        self._store_key = f"{prefix}:{cluster_name}:store"
        options = Options(username, password, ssl_ca_certs, ssl_certfile, ssl_keyfile)
        self._server = RedisServer("idempotency", "RedisIdempotency", url, client, options)
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._sleep = sleep
        # The server's time minus that of the clock here, in milliseconds, as of the last response; None before the
        # first.
        self._ahead: float | None = None

    def claim(self, key: str, fingerprint: str, lease: float) -> Claim:
        """See ``IdempotencyStore``."""
        values = (fingerprint, uuid.uuid4().hex, _milliseconds(lease), self._ttl)
        try:
            found = self._claim(key, *values)
        except self._server.errors.ConnectionError:
            # The claim may have been made and its response lost. A timeout is another error, which is final.
            found = self._claim(key, *values)
        if found[0] == b"LATE":
            # It was delayed, or the server's clock was set: nothing was claimed, and the server's time is known now.
            found = self._claim(key, *values)
            if found[0] == b"LATE":
                raise self._server.errors.TimeoutError("idempotency: the server executes claims too late")
        return _seen(found, values[1])

    def complete(self, key: str, token: str, body: bytes | None) -> bool:
        """See ``IdempotencyStore``."""
        kept = () if body is None or len(body) > self._max_body_bytes else (body,)
        return bool(self._run(_COMPLETE, key, token, self._ttl, *kept))

    def release(self, key: str, token: str) -> None:
        """See ``IdempotencyStore``."""
        self._run(_RELEASE, key, token)

    def wait(self, key: str, timeout: float) -> Claim:
        """See ``IdempotencyStore``."""
        return poll(lambda: _seen(self._run(_LOOK, key)), timeout, self._clock, self._sleep)

    def identity(self) -> str:
        """See ``SharedIdempotencyStore``."""
        found: bytes = self._server.run(_IDENTITY, (self._store_key,), uuid.uuid4().hex)
        return found.decode("utf-8", "replace")

    def close(self) -> None:
        """See ``IdempotencyStore``."""
        self._server.close()

    def _claim(self, key: str, *values: object) -> Any:
        ahead = self._ahead
        limit = 0 if ahead is None else round((self._clock.monotonic() + _CLAIM_WITHIN) * 1000 + ahead)
        found = self._run(_CLAIM, key, *values, limit)
        self._ahead = found[1] - self._clock.monotonic() * 1000
        return found

    def _run(self, script: str, key: str, *values: object) -> Any:
        return self._server.run(script, (self._prefix + key,), *values)


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _seen(found: Any, token: str = "") -> Claim:
    state = ClaimState(found[0].decode("ascii"))
    if state is ClaimState.DONE:
        return Claim(state, body=found[2])
    return Claim(state, token if state is ClaimState.NEW else "")

"""A Redis server that processes share: its URL and options, and each process's client.

Rules of this file:
1. No call is repeated, where redis-py would try ten times for five seconds each: a call that fails raises at once.
2. A process has a client of its own. That of its parent is dropped without a message to the server.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from catga_sync import _fork
from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError

__all__ = ["Options", "RedisServer", "check_names"]

#: Seconds to wait for a connection, and for each part of a response.
_TIMEOUT = 0.5
#: Connections of a process: more than any server has threads. redis-py takes 100.
_MAX_CONNECTIONS = 10_000

_NAME = re.compile(r"[A-Za-z0-9._:\-]{1,64}")
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Options(NamedTuple):
    """Options that take precedence over the URL's; None means that one is not given."""

    username: str | None
    password: str | None
    ssl_ca_certs: str | os.PathLike[str] | None
    ssl_certfile: str | os.PathLike[str] | None
    ssl_keyfile: str | os.PathLike[str] | None


def check_names(**names: object) -> None:
    """
    Check options that become parts of keys.

    Raises:
        ConfigurationError: A value is wrong; the text starts with its option.
    """
    for option, value in names.items():
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            wanted = "give 1 to 64 characters of A-Z a-z 0-9 . _ : -"
            raise ConfigurationError(f"{option}: {wanted}, not {shown(value)}")


class RedisServer:
    """
    Run scripts on a server. Thread-safe, and safe to share with forked processes. Nothing is opened at construction.

    Args:
        option: The option's name, for errors; the page of that name in ``docs`` has the ACL rule.
        owner: The name of the store's class, for errors.
        url: The URL; None where there is a client.
        client: The user's own client, which is never closed here; None where there is a URL.
        options: Options that take precedence over the URL's.

    Raises:
        ImportError: The redis package is not installed.
        ConfigurationError: The URL or an option is wrong.
    """

    def __init__(self, option: str, owner: str, url: str | None, client: Any, options: Options) -> None:
        self._redis = _load_redis(option)
        self._option, self._owner = option, owner
        given = {name: os.fspath(value) for name, value in options._asdict().items() if value is not None}
        if (url is None) == (client is None) or (client is not None and given):
            raise ConfigurationError(f"{option}: give {owner} a URL, or a client that has all it needs")
        if client is not None and client.get_encoder().decode_responses:
            raise ConfigurationError(f"{option}: make the Redis client with decode_responses=False")
        #: The arguments of the client; empty for a client of the user's own.
        self.settings = {} if url is None else _settings(self._redis, option, url, given)
        #: The server and its database, for texts; the database is "" where it is not known.
        self.where, self.database = "the client's Redis server", ""
        if url is not None:
            self.where = "the Redis server {host}:{port}".format(**self.settings)
            self.database = f"database {self.settings['db']}, "
        #: redis-py's module of exceptions.
        self.errors = self._redis.exceptions
        self._client = client
        # The client of this process. Of two that threads make at the same time one is dropped.
        self._own: Any = None
        _fork.watch(self)

    def run(self, script: str, keys: Sequence[str], *values: object) -> Any:
        """Run a script and return its result. Errors are redis-py's."""
        client = self.connected()
        try:
            return client.evalsha(_name(script), len(keys), *keys, *values)
        except self.errors.NoScriptError:
            # The server was restarted, or its scripts were flushed. EVAL loads and runs in one step, so that no other
            # flush comes in between.
            return client.eval(script, len(keys), *keys, *values)
        except self.errors.RedisError as exc:
            if "unauthenticated" in str(exc):
                # The server closes the connection after a long command without a login, so the next call needs another.
                self.close()
            raise

    def connected(self) -> Any:
        """Return the client of this process."""
        if self._client is not None:
            return self._client
        _fork.check_process()
        own = self._own
        if own is None:
            once = self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0)
            own = self._own = self._redis.Redis(
                **self.settings,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                max_connections=_MAX_CONNECTIONS,
                retry=once,
                protocol=2,  # every server speaks it, and a new connection costs no HELLO
            )
        return own

    def close(self) -> None:
        """Close this process's client. A later call opens one again."""
        _fork.check_process()
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def explained(self, exc: Exception) -> str | None:
        """Return what to do about an error that a wrong setting causes; None for any other error."""
        errors, settings, where, text = self.errors, self.settings, self.where, str(exc)
        if isinstance(exc, errors.AuthenticationError) or "unauthenticated" in text:
            if settings and settings["credential_provider"] is None:
                return f"{where} requires a password; write it into the URL as in redis://user:password@host ({text})"
            return f"{where} does not accept the user name or the password ({text})"
        # For a command in a script the error has another class, and a text that differs between versions.
        if isinstance(exc, errors.NoPermissionError) or re.search(r"NOPERM|ACL failure|can't run this command", text):
            rule = f"see the ACL rule in docs/{self._option}.md"
            return f"{where} does not permit this user what is needed; {rule} ({text})"
        if text.startswith("MOVED ") or isinstance(exc, errors.MovedError):
            return f"{where} is part of a Redis Cluster; give {self._owner}(client=redis.RedisCluster(...))"
        for option in _TLS_OPTIONS:
            if settings.get(option) and not Path(settings[option]).exists():
                return f"{option} names a file that is not there: {settings[option]}"
        refused = _tls_error(exc)
        if isinstance(refused, ssl.SSLCertVerificationError):
            return f"the certificate of {where} is not trusted ({refused.verify_message}); give its CA as ssl_ca_certs"
        if refused is not None:
            return f"no TLS with {where} ({refused}): it hangs, its port has no TLS, or it requires another certificate"
        return None

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``. The parent's connections are dropped without a protocol shutdown."""
        self._own = None


@functools.cache
def _name(script: str) -> str:
    return hashlib.sha1(script.encode("ascii"), usedforsecurity=False).hexdigest()


def _tls_error(exc: BaseException | None) -> BaseException | None:
    # A server without TLS may wait for more of the "command": the handshake times out, which is no SSLError.
    while exc is not None and not isinstance(exc, ssl.SSLError) and "handshake" not in str(exc):
        exc = exc.__cause__ or exc.__context__
    return exc


def _load_redis(option: str) -> Any:
    try:
        import redis.backoff
        import redis.credentials
        import redis.exceptions
        import redis.retry
    except ImportError as exc:
        raise ImportError(f"{option}: Redis needs the redis package: pip install catga-sync[redis]") from exc
    return redis


def _settings(redis: Any, option: str, url: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of ``redis.Redis``. No error shows the URL: any part of it may belong to the password."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 6379
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        db = int(query.pop("db", parts.path.strip("/") or "0"))
    except ValueError:
        parts, host, port, query, db = urlsplit(""), "", 0, {}, -1
    if parts.scheme not in ("redis", "rediss") or parts.fragment or "@" in parts.path + parts.query or db < 0:
        raise ConfigurationError(
            f"{option}: write redis://user:password@host:port/db, or rediss:// for TLS; in a password or a path "
            "write %23 for #, %2F for /, %3A for :, %3F for ?, %40 for @"
        )
    if query.pop("ssl_cert_reqs", "required") != "required" or not query.keys() <= set(_TLS_OPTIONS):
        raise ConfigurationError(f"{option}: the query takes db and {_TLS_OPTIONS}; a certificate is always checked")
    user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    merged: dict[str, Any] = {"username": user or None, "password": password, **query, **given}
    tls = [each for each in _TLS_OPTIONS if each in merged]
    if tls and parts.scheme != "rediss":
        raise ConfigurationError(f"{option}: {tls[0]} requires rediss://; redis:// is not encrypted")
    if "ssl_keyfile" in tls and "ssl_certfile" not in tls:
        raise ConfigurationError(f"{option}: ssl_keyfile requires ssl_certfile, the certificate of that key")
    if parts.scheme == "rediss":
        # All given: redis-py 5 does not check the name in the certificate by default.
        merged.update(ssl=True, ssl_cert_reqs="required", ssl_check_hostname=True)
    # In a provider: redis-py up to 7 shows a password in the repr of its client.
    login = (merged.pop("username"), merged.pop("password"))
    provider = None if login == (None, None) else redis.credentials.UsernamePasswordCredentialProvider(*login)
    return {**merged, "host": host, "port": port, "db": db, "credential_provider": provider}

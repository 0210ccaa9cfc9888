"""Options from the environment, the URLs in them, and what is shown of all that."""

from __future__ import annotations

from dataclasses import fields
from urllib.parse import quote

from catga_sync._redaction import cause_of, printable, shown, without_credentials
from catga_sync.discovery import create_discovery
from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import create_idempotency
from catga_sync.options import ClusterOptions
from tests.fuzz.target import Finding, Target, join, pure, split

__all__ = ["TARGETS"]

#: Stands for a key or a password where one is; no text of the library has it in it.
_CANARY = "5up3rs3cr3t5up3rs3cr3t5up3rs3cr3t5up3rs3cr3t"
_MARK = "\x01"
_STARTS = tuple(f"{each.name}{mark}" for each in fields(ClusterOptions) for mark in (":", "["))
_NAME = "CATGA_"
_URLS = frozenset({f"{_NAME}DISCOVERY", f"{_NAME}IDEMPOTENCY", f"{_NAME}ENDPOINT"})


def _environ(data: bytes) -> dict[str, str]:
    """Return environment variables, with the canary where a secret may stand."""
    environ = {}
    for line in data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n"):
        name, equals, value = line.partition("=")
        if not equals:
            continue
        before, mark, after = value.partition(_MARK)
        if name == f"{_NAME}SECRET" or (name in _URLS and mark and "://" in before and "@" in after):
            value = f"{before}{_CANARY}{after}" if mark else value + _CANARY
        environ[name] = value.replace(_MARK, "")
    return environ


def _options(data: bytes) -> bool:
    try:
        options = ClusterOptions.from_env(_environ(data))
        _hides(repr(options))
        create_discovery(options.discovery, cluster_name=options.cluster_name, peers=options.peers).close()
        store = create_idempotency(options.idempotency, cluster_name=options.cluster_name)
        if store is not None:
            store.close()
    except ConfigurationError as exc:
        _hides(str(exc))
        if not str(exc).startswith(_STARTS) and "no such option" not in str(exc):
            raise Finding(f"an error that does not start with the name of an option: {str(exc)!a}") from exc
        return False
    return True


def _hides(text: str) -> None:
    if _CANARY in text:
        raise Finding(f"a secret is shown: {text!a}")


def _option_seeds() -> list[bytes]:
    lines = (
        "CATGA_NODE_ID=node-1\nCATGA_ENDPOINT=http://localhost:5001\nCATGA_ROUTER=random\nCATGA_MAX_RETRIES=3",
        "CATGA_ENDPOINT=http://10.0.0.1:5001\nCATGA_SECRET=k\nCATGA_DISCOVERY=redis://user:\x01@host:6379/1",
        'CATGA_PEERS={"node-2":{"url":"http://[::1]:5002","signed":false}}\nCATGA_VERIFY=off\nCATGA_INSECURE=yes',
        'CATGA_METADATA={"zone":"a","deep":[[1.5,null]]}\nCATGA_REQUEST_TIMEOUT=1e1\nCATGA_HEARTBEAT_TIMEOUT=nan',
        "CATGA_DISCOVERY=sqlite:////tmp/a%20b.sqlite3\nCATGA_IDEMPOTENCY=rediss://:\x01@host?ssl_ca_certs=/a",
        "CATGA_DISCOVERY=kubernetes://shop/orders:http?scheme=https\nCATGA_IDEMPOTENCY=sqlite:///a.sqlite3",
        "CATGA_X_PORT=tcp://10.0.0.1:6379\nCATGA_X_SERVICE_HOST=10.0.0.1\nCATGA_HARTBEAT_INTERVAL=1",
        'CATGA_SECRET=["' + "k" * 40 + '"]',
        'CATGA_METADATA={"a":' + "[" * 900 + "]" * 900 + "}",
        'CATGA_METADATA={"a":1e999}',
        "CATGA_DISCOVERY=memory://\nCATGA_IDEMPOTENCY=off\nCATGA_POOL_SIZE=4\nCATGA_MAX_BODY_BYTES=99999999999999999999",
    )
    return [each.encode() for each in lines]


# -- what is shown ----------------------------------------------------------------------------------------------------


def _redaction(data: bytes) -> bool:
    scheme, user, rest, text = (part.decode("utf-8", "surrogateescape") for part in split(data, 4))
    url = f"{scheme}://{user}:{_CANARY}@{rest}"
    for value in (
        url, f"{text}{url}", [url], (url, text), {text: url}, {"password": _CANARY}, {f"{text}secret": _CANARY},
        ValueError(url), _CANARY.encode() + data, {"url": {"a": [url]}},
    ):  # fmt: skip
        _hides(shown(value))
    for value in (url, f"{text}{url}", f"a password={_CANARY}", f"{text} token={_CANARY} {rest}"):
        _hides(without_credentials(value))
        line = printable(value)
        _hides(line)
        if not line.isprintable() or len(line) > 300:
            raise Finding(f"not one printable line: {line!a}")
    _hides(cause_of(ValueError(url)))
    query = f"{text}?password={quote(_CANARY)}"
    _hides(shown(f"redis://host/{query}"))
    return shown(text) == repr(text)


def _redaction_seeds() -> list[bytes]:
    return [
        join("redis", "user", "host:6379/0?db=1", "plain text"),
        join(" http", "", "[::1]:80", "http://user:pass@host"),
        join("a", "us/er?#@", "host", "?a=b&c=d#e"),
        join("", "\n", "\x7f\xff", "no://"),
    ]


_OPTION_WORDS = (
    "CATGA_", "NODE_ID=", "ENDPOINT=", "DISCOVERY=", "IDEMPOTENCY=", "SECRET=", "METADATA=", "PEERS=", "CERT=",
    "VERIFY=", "MAX_CONCURRENCY=", "COMPRESSION=", "redis://", "rediss://", "sqlite:///", "kubernetes://",
    "memory://", "static", "?scheme=https", "?db=1", "\x01@", "nan", "inf", "1e999", "[", "]", "{", "}", ":memory:",
    "%00", "~", "@", "#", "?",
)  # fmt: skip

TARGETS = (
    Target("options", pure(_options), _option_seeds, _OPTION_WORDS, packages=("redis",)),
    Target(
        "redaction", pure(_redaction), _redaction_seeds, ("://", "@", "?", "#", "=", "&", "secret", "\n", "[", "]:")
    ),
)

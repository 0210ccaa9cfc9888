"""The options of a cluster: one frozen value, checked when it is made.

Each option is described once, with ``option``: the table in docs/options.md is made from it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypedDict

from catga_sync._endpoint import check_endpoint, check_grpc_endpoint, is_loopback
from catga_sync._environment import PREFIX, layered, option_values
from catga_sync._option import (
    Kind,
    anything,
    boolean,
    json_object,
    naming_as_written,
    of,
    option,
    read_secret,
    read_text,
    read_verify,
    seconds,
    suggesting,
    whole,
)
from catga_sync._redaction import Secret, shown
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import MAX_LEVELS, check_node_id, check_peer, is_plain_json
from catga_sync.wire.signatures import KeyRing

__all__ = ["ENVIRONMENT_PREFIX", "ClusterOptions", "OptionValues"]

ENVIRONMENT_PREFIX = PREFIX

_METADATA_VALUES = f"a mapping of names to JSON values, at most {MAX_LEVELS} levels deep"
_CLUSTER_NAME = re.compile(r"[A-Za-z0-9._\-]{1,64}")


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._\-]", "-", socket.gethostname())[:128] or "node"


def _metadata(name: str, value: Any) -> Mapping[str, Any]:
    try:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            plain = dict(json.loads(json.dumps(dict(value), allow_nan=False)))
            if is_plain_json(plain):
                return MappingProxyType(plain)
    except (TypeError, ValueError, RecursionError):
        pass
    raise ConfigurationError(f"{name}: give {_METADATA_VALUES}, not {shown(value)}")


def _secret(name: str, value: Any) -> Secret | None:
    if value is None:
        return None
    secret = Secret(value)
    KeyRing(secret)  # raises if a key is too short
    return secret


def _is_cert(value: Any) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) for part in value)
    return value is None or isinstance(value, str) or pair


@suggesting
@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """
    How a node takes part in a cluster. Immutable.

    A wrong name of a ``router``, ``discovery`` or ``idempotency`` is found later, by ``create_cluster``.

    Raises:
        ConfigurationError: A value is wrong: the text starts with the option's name and says what to write. Or no
            option has that name: the text suggests the nearest one.

    .. versionadded:: 0.1
    """

    node_id: str | None = option(
        None,
        Kind(
            lambda name, value: check_node_id(_host_name() if value is None else value),
            "1 to 128 characters of A-Z a-z 0-9 . _ : -, or None",
        ),
        "name of this node, unique in the cluster. None: the name of the host",
    )
    endpoint: str | None = option(
        None,
        Kind(
            lambda name, value: None if value is None else check_endpoint(value),
            "http://host:port, https://host:port, grpc://host:port, grpcs://host:port, or None",
        ),
        "URL at which other nodes reach this node. None: a pure client, which sends requests and receives none",
    )
    grpc_endpoint: str | None = option(
        None,
        Kind(
            lambda name, value: None if value is None else check_grpc_endpoint(value),
            "grpc://host:port, grpcs://host:port, or None",
        ),
        "URL at which other nodes reach this node over gRPC, beside an `endpoint` for HTTP; `serve_grpc` serves it. "
        "None: it has none, or `endpoint` is one",
    )
    cluster_name: str = option(
        "default",
        of(
            lambda value: isinstance(value, str) and _CLUSTER_NAME.fullmatch(value),
            "1 to 64 characters of A-Z a-z 0-9 . _ -",
        ),
        "nodes with the same name form one cluster",
    )
    discovery: Any = option(
        None,
        anything("a URL, 'static', an object, or None"),
        "where nodes find each other: `sqlite:///path`, `redis://host`, `rediss://host`, "
        "`kubernetes://namespace/service`, `memory://` (within one process), `static` with `peers`, or an object with "
        "the methods of `catga_sync.discovery.Discovery`. None: `static` if `peers` are given, else an SQLite file of "
        "this user on this machine; in a test run (pytest, or an app with `TESTING`) this process alone",
    )
    peers: Mapping[str, str | Mapping[str, Any]] | None = option(
        None,
        json_object(lambda name, value: value, "a mapping, or None"),
        "for `static`: node id -> endpoint of each other node, or -> a mapping with `url` and what else is known: "
        "`handles` (the names of its request types) and `signed` (False: it cannot sign, so calls to it and its "
        "responses are unsigned)",
    )
    router: Any = option(
        "local-first",
        anything("a name or an object"),
        "chooses the node for a request that several nodes handle: `local-first`, `round-robin`, "
        "`weighted-round-robin`, `consistent-hash`, `least-connections`, `least-load`, `p2c-ewma`, `random`, or an "
        "object with `route(message, nodes)`",
    )
    request_timeout: float = option(
        30.0, seconds(), "time for a whole call, all attempts included, unless `send` gives another"
    )
    heartbeat_interval: float = option(
        5.0,
        seconds(),
        "time between two heartbeats. A lower value shows changes of a node sooner, and writes to the store more often",
    )
    heartbeat_timeout: float = option(
        30.0,
        seconds(),
        "time without a heartbeat after which a node counts as gone. A lower value notices a dead node sooner, and "
        "more often takes a busy node for a dead one",
    )
    enable_failover: bool = option(
        True, boolean, "whether another node is tried after an attempt that failed in a way that allows it"
    )
    max_retries: int = option(2, whole(0), "further attempts after the first")
    retry_delay: float = option(
        0.1,
        seconds(zero=True),
        "upper bound of the random wait before a further attempt; it doubles with each attempt, up to 0.25 s",
    )
    metadata: Mapping[str, Any] = option(
        {},
        json_object(_metadata, _METADATA_VALUES),
        "data about this node for the other nodes: zone, version, `weight` for some routers",
    )
    secret: Any = option(
        None,
        Kind(
            _secret,
            "a key of at least 32 bytes, a list of keys, or None",
            read_secret,
            "write one key, or several as a JSON list",
            hidden=True,
        ),
        "key that signs requests and responses; all nodes of a cluster have the same. Of several keys the first signs "
        "and all are accepted. None: the processes of one user on one machine share a key of their own, for calls over "
        "loopback",
    )
    idempotency: Any = option(
        "memory",
        of(lambda value: value is not None and value is not True, "'memory', 'off', a URL or an object"),
        "where a node remembers request ids, so that none runs twice: `memory` (one process; a restart forgets them), "
        "`sqlite:///path` (one machine), `redis://host` (the cluster), `off`, or an object with the methods of "
        "`catga_sync.idempotency.IdempotencyStore`",
    )
    session: Any = option(
        None,
        of(
            lambda value: value is None or (hasattr(value, "get_adapter") and hasattr(value, "send")),
            "a requests.Session, or None",
            read=None,
        ),
        "a session of your own, with its adapters. None: one that the library makes",
    )
    verify: bool | str = option(
        True,
        of(
            lambda value: isinstance(value, (bool, str)),
            "True, False, or a path to CA certificates",
            read_verify,
        ),
        "check of the certificates of `https://` endpoints, as in `requests`",
    )
    cert: Any = option(
        None,
        of(_is_cert, "a path, a pair (certificate, key), or None"),
        "client certificate for `https://` endpoints, as in `requests`",
    )
    insecure: bool = option(
        False,
        boolean,
        "True: no key is used, and unsigned calls (`curl`, a .NET node) are served: on a loopback endpoint those that "
        "come straight from this machine, elsewhere all. Not for use behind a reverse proxy on the same machine",
    )
    compression: str = option(
        "auto",
        of(lambda value: value in ("auto", "off"), "'auto' or 'off'"),
        "`auto`: requests and responses of 1 KiB and more are compressed between nodes that both can, but for nodes on "
        "the same machine: with brotli where both have it (extra `brotli`), else with gzip. `off`: nothing is "
        "compressed, and compressed requests are refused",
    )
    stream: str = option(
        "auto",
        of(lambda value: value in ("auto", "on", "off"), "'auto', 'on' or 'off'"),
        "the fast way between two nodes: connections of the node's own port that carry calls without HTTP around them, "
        "where the server of the node lends them (gunicorn with threads). `auto`: not where a `session` is given, or "
        "where a library has replaced `Session.send`, so that it sees every call; `on`: there, too; `off`: HTTP only, "
        "and none are offered",
    )
    max_streams: int = option(512, whole(0), "streams that one worker serves at once; further callers use HTTP")
    max_body_bytes: int = option(
        4 * 1024 * 1024,
        whole(1024),
        "the longest body that is sent or read. All large requests of a process together get 48 times as much memory; "
        "further ones wait",
    )
    max_concurrency: int | None = option(
        None,
        whole(1, optional=True),
        "calls in, from other nodes, that one worker runs at once; one more is refused, so that threads stay free for "
        "health checks and refusals. None: one or two less than the server's threads where a server hook has their "
        "number. Where that is unknown, calls by POST are not limited; a call over a stream waits while 32 calls "
        "run, and is refused after half of its time",
    )
    load_reporter: Any = option(
        None,
        of(lambda value: value is None or callable(value), "a function that returns 0 to 100, or None", read=None),
        "reports the load of this node to the weighted routers. None: the larger of the share of `max_concurrency` in "
        "use and the load of the processors",
    )
    hooks: Sequence[object] = option(
        (),
        of(lambda value: isinstance(value, (list, tuple)), "a list of hooks", read=None),
        "objects whose methods are called for sends, attempts, handlers and events of the cluster; see "
        "`catga_sync.hooks`",
    )
    pool_size: int = option(
        64, whole(1), "connections to one node, and so calls out to it at once; further callers wait"
    )

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            kind: Kind = each.metadata["kind"]
            object.__setattr__(self, each.name, kind.check(each.name, getattr(self, each.name)))
        if self.heartbeat_timeout <= self.heartbeat_interval:
            raise ConfigurationError(
                f"heartbeat_timeout: give more than heartbeat_interval ({self.heartbeat_interval} s), "
                f"not {self.heartbeat_timeout} s"
            )
        self._check_discovery()
        self._check_exposure()

    def __repr__(self) -> str:
        values = [f"{each.name}={shown(getattr(self, each.name))}" for each in dataclasses.fields(self)]
        return f"{type(self).__name__}({', '.join(values)})"

    def _check_discovery(self) -> None:
        if self.peers is not None and self.discovery is None:
            object.__setattr__(self, "discovery", "static")
        if self.discovery == "static":
            wanted = '{"node-2": "http://host:port"}'
            if self.peers is None:
                raise ConfigurationError(f'peers: discovery="static" needs them, as in {wanted}')
            if not isinstance(self.peers, Mapping):
                raise ConfigurationError(f"peers: give a mapping such as {wanted}, not {shown(self.peers)}")
            for node_id, given in self.peers.items():
                check_peer(node_id, given)
            kept = {name: MappingProxyType(dict(x)) if isinstance(x, Mapping) else x for name, x in self.peers.items()}
            object.__setattr__(self, "peers", MappingProxyType(kept))
        elif self.peers is not None:
            raise ConfigurationError('peers: they go with discovery="static" only')

    def _check_exposure(self) -> None:
        open_to_all = [
            (name, url)
            for name, url in (("endpoint", self.endpoint), ("grpc_endpoint", self.grpc_endpoint))
            if url is not None and not is_loopback(url)
        ]
        if self.insecure or self.secret is not None or not open_to_all:
            return
        name, url = open_to_all[0]
        raise ConfigurationError(
            f"{name}: {shown(url)} can be reached from other machines, and whoever reaches it could call "
            f"every handler; give the cluster a secret, use a loopback endpoint (http://localhost:port), or write "
            f"insecure=True if the network guards it"
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], /, **overrides: Any) -> ClusterOptions:
        """
        Read the options from a mapping with keys such as ``CATGA_NODE_ID``, as ``app.config`` has them.

        Args:
            mapping: Keys that do not start with ``CATGA_``, or stand for no option (see ``from_env``), are ignored.
            overrides: Options that win over the mapping.

        Raises:
            ConfigurationError: A ``CATGA_`` key names no option, or a value is wrong; the text begins with the key.
        """
        with naming_as_written(overrides):
            return cls.make(layered(option_values(mapping), overrides))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> ClusterOptions:
        """
        Read the options from environment variables such as ``CATGA_NODE_ID``.

        Numbers are written as digits, booleans as ``true`` or ``false``, ``metadata`` and ``peers`` as JSON objects,
        several secrets as a JSON list. Ignored are service links of Kubernetes and Docker (``CATGA_X_SERVICE_HOST``
        and the like), ``CATGA_RUNTIME_DIR`` and ``CATGA_TESTS_*``.

        Args:
            environ: None means ``os.environ``.
            overrides: Options that win over the environment. One of ``discovery`` and ``peers`` sets both.

        Raises:
            ConfigurationError: A ``CATGA_`` variable names no option, or a value is wrong.
        """
        if environ is None:
            environ = os.environ
        kinds = {each.name: each.metadata["kind"] for each in dataclasses.fields(cls)}
        # A name that is no option stays a text; ``make`` refuses it.
        given = {
            name: read_text(name, kinds[name], text) if name in kinds else text
            for name, text in option_values(environ).items()
            if name not in overrides
        }
        return cls.make(layered(given, overrides))

    @classmethod
    def make(cls, given: Mapping[str, Any]) -> ClusterOptions:
        """Return the options with these values."""
        return cls(**given)

    def with_changes(self, changes: Mapping[str, Any]) -> ClusterOptions:
        """Return options in which the given ones differ."""
        if not changes:
            return self
        return self.make({**{each.name: getattr(self, each.name) for each in dataclasses.fields(self)}, **changes})


class OptionValues(TypedDict, total=False):
    """The options by name, for checkers: those of ``ClusterOptions``, any of which may be left out."""

    node_id: str | None
    endpoint: str | None
    grpc_endpoint: str | None
    cluster_name: str
    discovery: Any
    peers: Mapping[str, str | Mapping[str, Any]] | None
    router: Any
    request_timeout: float
    heartbeat_interval: float
    heartbeat_timeout: float
    enable_failover: bool
    max_retries: int
    retry_delay: float
    metadata: Mapping[str, Any]
    secret: Any
    idempotency: Any
    session: Any
    verify: bool | str
    cert: Any
    insecure: bool
    compression: str
    stream: str
    max_streams: int
    max_body_bytes: int
    max_concurrency: int | None
    load_reporter: Any
    hooks: Sequence[object]
    pool_size: int

"""The options of a cluster: one frozen value, checked when it is made.

Each option is described once, with ``option``: the table in docs/options.md is made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

from catga_sync._environment import PREFIX, layered, option_values
from catga_sync._option import Kind, anything, boolean, json_object, of, option, read_boolean, read_text, seconds, whole
from catga_sync._redaction import Secret, shown
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import (
    MAX_LEVELS,
    check_endpoint,
    check_node_id,
    check_peer,
    is_loopback,
    is_plain_json,
)
from catga_sync.wire.signatures import KeyRing

__all__ = ["ENVIRONMENT_PREFIX", "ClusterOptions", "OptionValues", "pytest_runs_here"]

ENVIRONMENT_PREFIX = PREFIX

T = TypeVar("T")

_CLUSTER_NAME = re.compile(r"[A-Za-z0-9._\-]{1,64}")


def _suggesting(cls: type[T]) -> type[T]:
    """Have a dataclass take a name that it does not know for a slip of the pen, where it would be a ``TypeError``."""
    target: Any = cls
    made = target.__init__
    known = [each.name for each in dataclasses.fields(target)]

    @functools.wraps(made)
    def init(self: Any, *args: Any, **given: Any) -> None:
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
                raise ConfigurationError(f"{name}: no such option{hint}")
        made(self, *args, **given)

    target.__init__ = init
    return cls


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
    raise ConfigurationError(
        f"{name}: give a mapping of names to JSON values, at most {MAX_LEVELS} levels deep, not {shown(value)}"
    )


def _secret(name: str, value: Any) -> Secret | None:
    if value is None:
        return None
    secret = Secret(value)
    KeyRing(secret)  # raises what is wrong with it
    return secret


def _read_secret(text: str) -> str | list[str]:
    """Several keys are written as a JSON list; anything else is one key."""
    return json.loads(text) if text.startswith("[") else text


def _read_verify(text: str) -> bool | str:
    try:
        return read_boolean(text)
    except ValueError:
        return text


def _is_cert(value: Any) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, str) for part in value)
    return value is None or isinstance(value, str) or pair


@_suggesting
@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """
    How a node takes part in a cluster. Immutable.

    Which routers and stores there are is not known here: a ``router``, ``discovery`` or ``idempotency`` that names none
    is refused by ``create_cluster``.

    Raises:
        ConfigurationError: An option is wrong; the text starts with its name and says what to write. Or there is none
            of that name; the text suggests the nearest one.

    .. versionadded:: 0.1
    """

    node_id: str | None = option(
        None,
        Kind(lambda name, value: check_node_id(_host_name() if value is None else value)),
        "what this node is called; unique in the cluster. None: the host's name",
    )
    endpoint: str | None = option(
        None,
        Kind(lambda name, value: None if value is None else check_endpoint(value)),
        "where the others reach this node, `http://host:port`. None: a pure client, which sends and is never a target",
    )
    cluster_name: str = option(
        "default",
        of(
            lambda value: isinstance(value, str) and _CLUSTER_NAME.fullmatch(value),
            "give 1 to 64 characters of A-Z a-z 0-9 . _ -",
        ),
        "nodes of one name see each other",
    )
    discovery: Any = option(
        None,
        anything,
        "where nodes find each other: `sqlite:///path`, `redis://host`, `rediss://host`, "
        "`kubernetes://namespace/service`, `memory://` (within one process), `static` with `peers`, or an object with "
        "the methods of `catga_sync.discovery.Discovery`. None: `static` if `peers` are given, else an SQLite file of "
        "this user on this machine; in a test run (pytest, or an app with `TESTING`) this process alone",
    )
    peers: Mapping[str, str | Mapping[str, Any]] | None = option(
        None,
        json_object(lambda name, value: value),
        "for `static`: node id -> endpoint of the others, or -> a mapping with `url` and what else is known: `handles` "
        "(the names of its request types) and `signed` (False: it cannot sign, and is called and believed unsigned)",
    )
    router: Any = option(
        "local-first",
        anything,
        "which node takes a request that several handle: `local-first`, `round-robin`, `weighted-round-robin`, "
        "`consistent-hash`, `least-connections`, `least-load`, `p2c-ewma`, `random`, or an object with "
        "`route(message, nodes)`",
    )
    request_timeout: float = option(
        30.0, seconds(), "seconds for a whole call, all attempts included, unless `send` says otherwise"
    )
    heartbeat_interval: float = option(
        5.0,
        seconds(),
        "seconds between two signs of life. Lower notices a return sooner, at more writes to the store",
    )
    heartbeat_timeout: float = option(
        30.0,
        seconds(),
        "seconds without one after which a node is gone. Lower notices sooner, and takes a busy node for dead sooner",
    )
    enable_failover: bool = option(
        True, boolean, "whether another node is tried when one fails in a way that allows it"
    )
    max_retries: int = option(2, whole(0), "further attempts after the first")
    retry_delay: float = option(
        0.1,
        seconds(zero=True),
        "seconds; the wait before a further attempt is drawn from 0 to this, then from 0 to twice as much, and so on "
        "up to 0.25 s",
    )
    metadata: Mapping[str, Any] = option(
        {},
        json_object(_metadata),
        f"what this node tells of itself: zone, version; JSON of at most {MAX_LEVELS} levels",
    )
    secret: Any = option(
        None,
        Kind(_secret, _read_secret, "write one key, or several as a JSON list", hidden=True),
        "key of at least 32 bytes with which requests and responses are signed; several while one takes the place of "
        "another: the first signs, all are accepted. None: the processes of one user on one machine share a key by "
        "themselves, for calls over loopback",
    )
    idempotency: Any = option(
        "memory",
        of(lambda value: value is not None and value is not True, "give 'memory', 'off', a URL or an object"),
        "where request ids are remembered, so that none runs twice: `memory` (one process, and forgotten with it: "
        "after a restart a repeated id runs again), `sqlite:///path` (one machine), `redis://host` (the cluster), "
        "`off`, or an object with the methods of `catga_sync.idempotency.IdempotencyStore`",
    )
    session: Any = option(
        None,
        of(
            lambda value: value is None or (hasattr(value, "get_adapter") and hasattr(value, "send")),
            "give a requests.Session, or None",
        ),
        "a `requests.Session` of your own, with its adapters",
    )
    verify: bool | str = option(
        True,
        of(
            lambda value: isinstance(value, (bool, str)),
            "give True, False, or a path to CA certificates",
            _read_verify,
        ),
        "as in `requests`: True, False, or a path to CA certificates",
    )
    cert: Any = option(
        None,
        of(_is_cert, "give a path, a pair (certificate, key), or None"),
        "as in `requests`: a path to a client certificate, or (certificate, key)",
    )
    insecure: bool = option(
        False,
        boolean,
        "True: no key is used, and unsigned calls (`curl`, a .NET node) are served: on a loopback endpoint those that "
        "come straight from this machine, elsewhere all. Not behind a reverse proxy on the same machine",
    )
    compression: str = option(
        "auto", of(lambda value: value in ("auto", "off"), "give 'auto' or 'off'"), "reserved; not there yet"
    )
    max_body_bytes: int = option(4 * 1024 * 1024, whole(1024), "the longest body that is sent or read")
    max_concurrency: int | None = option(
        None,
        whole(1, optional=True),
        "calls of other nodes that one worker runs at once; one more is refused, so that health checks and refusals "
        "get through. None: one or two less than the server's threads where a server hook tells them, else any number",
    )
    load_reporter: Any = option(
        None,
        of(lambda value: value is None or callable(value), "give a function that returns 0 to 100"),
        "a function that returns this node's load, 0 to 100, for the weighted routers. None: the larger of the share "
        "of `max_concurrency` in use and the load of the processors",
    )
    pool_size: int = option(64, whole(1), "connections to one node, and so calls to it at once; further callers wait")

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
            peers = self.peers
            for node_id, given in peers.items():
                check_peer(node_id, given)
            kept = {name: MappingProxyType(dict(x)) if isinstance(x, Mapping) else x for name, x in peers.items()}
            object.__setattr__(self, "peers", MappingProxyType(kept))
        elif self.peers is not None:
            raise ConfigurationError('peers: they go with discovery="static" only')

    def _check_exposure(self) -> None:
        if self.endpoint is None or self.insecure or self.secret is not None or is_loopback(self.endpoint):
            return
        raise ConfigurationError(
            f"endpoint: {shown(self.endpoint)} can be reached from other machines, and whoever reaches it could call "
            f"every handler; give the cluster a secret, use a loopback endpoint (http://localhost:port), or write "
            f"insecure=True if something else guards it"
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], /, **overrides: Any) -> ClusterOptions:
        """
        Read the options from a mapping with keys such as ``CATGA_NODE_ID``, as ``app.config`` has them.

        Args:
            mapping: Keys that do not start with ``CATGA_``, or stand for no option (see ``from_env``), are ignored.
            overrides: Options that win over the mapping.

        Raises:
            ConfigurationError: A ``CATGA_`` key names no option, or a value is wrong.
        """
        return cls.make(layered(option_values(mapping), overrides))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> ClusterOptions:
        """
        Read the options from environment variables such as ``CATGA_NODE_ID``.

        Numbers and true/false are written as one would; ``metadata`` and ``peers`` as JSON objects, several secrets
        as a JSON list. Service links of Kubernetes and Docker (``CATGA_X_SERVICE_HOST`` and the like),
        ``CATGA_RUNTIME_DIR`` and ``CATGA_TESTS_*`` are no options.

        Args:
            environ: None means ``os.environ``.
            overrides: Options that win over the environment. One of ``discovery`` and ``peers`` sets both.

        Raises:
            ConfigurationError: A ``CATGA_`` variable names no option, or a value is wrong.
        """
        if environ is None:
            import os

            environ = os.environ
        kinds = {each.name: each.metadata["kind"] for each in dataclasses.fields(cls)}
        given = {
            name: read_text(name, kinds.get(name, anything), text)
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


def pytest_runs_here() -> bool:
    """Return whether this very process runs tests with pytest; a server that a test has started does not."""
    import os

    # Its variables are inherited by child processes, its modules are not.
    return "_pytest" in sys.modules and not {"PYTEST_VERSION", "PYTEST_CURRENT_TEST"}.isdisjoint(os.environ)


class OptionValues(TypedDict, total=False):
    """The options by name, for checkers: those of ``ClusterOptions``, any of which may be left out."""

    node_id: str | None
    endpoint: str | None
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
    max_body_bytes: int
    max_concurrency: int | None
    load_reporter: Any
    pool_size: int

"""The options of a cluster: one frozen value, checked when it is made.

Each option's comment says what it is, what raising and lowering it does, and what None means.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

from catga_sync._environment import PREFIX, layered, option_values, read_text
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

    #: What this node is called; unique in the cluster. None means the host's name.
    node_id: str | None = None
    #: Where the others reach this node: ``http://host:port``. None makes it a pure client, which is never a target.
    endpoint: str | None = None
    #: Nodes of one name see each other.
    cluster_name: str = "default"
    #: Where nodes find each other: ``memory://``, ``sqlite:///path``, ``redis://host``, ``rediss://host``,
    #: ``kubernetes://namespace/service``, ``static`` (with ``peers``), or an object with the methods of
    #: ``catga_sync.discovery.Discovery``. None means ``static`` if ``peers`` are given, else an SQLite file of this
    #: user on this machine; in a test run (pytest, or an app with ``TESTING``) this process alone.
    discovery: Any = None
    #: With ``discovery="static"``: node id -> endpoint of the others, or -> mapping with ``url`` and what else is
    #: known: ``handles`` (the names of its request types) and ``signed``. Where a secret is in use, False (it cannot
    #: sign) has it called and believed unsigned, and a peer of which nothing is said must show first that it signs.
    peers: Mapping[str, str | Mapping[str, Any]] | None = None
    #: Which node takes a request: ``local-first``, ``round-robin``, ``weighted-round-robin``, ``consistent-hash``,
    #: ``least-connections``, ``least-load``, ``p2c-ewma``, ``random``, or an object with ``route(message, nodes)``.
    router: Any = "local-first"
    #: Seconds for a whole call, all tries included, when ``send`` is not told otherwise.
    request_timeout: float = 30.0
    #: Seconds between two signs of life of this node. Lower notices a return sooner, at more writes to the store.
    heartbeat_interval: float = 5.0
    #: Seconds without one after which a node is gone. Lower notices sooner, and takes a busy node for dead sooner.
    heartbeat_timeout: float = 30.0
    #: Whether another node is tried when one fails in a way that allows it.
    enable_failover: bool = True
    #: Further tries after the first.
    max_retries: int = 2
    #: Seconds; the wait before a further try is drawn from 0 to this, then from 0 to twice as much, up to 0.25 s.
    retry_delay: float = 0.1
    #: What this node tells of itself, such as zone or version: names and JSON values, at most 31 levels deep.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Key for signing requests and answers, at least 32 bytes; several while one takes the place of another: the first
    #: signs, all are accepted. None: see ``insecure``. It is kept as a ``Secret``, which shows none of it.
    secret: Any = None
    #: Where request ids are remembered, so that none runs twice: ``memory`` (this process only), ``sqlite:///path``
    #: (this machine), ``redis://host`` (the cluster), ``off``, or an object with the methods of
    #: ``catga_sync.idempotency.IdempotencyStore``. With a store that all nodes share, plain requests may be sent
    #: again, too.
    idempotency: Any = "memory"
    #: A ``requests.Session`` of the user's own for all calls; None means one made for the purpose.
    session: Any = None
    #: As in ``requests``: True, False (no check of certificates), or a path to CA certificates.
    verify: bool | str = True
    #: As in ``requests``: a path to a client certificate, or (certificate, key). None means none.
    cert: Any = None
    #: True: no key is used, and unsigned calls are served: on a loopback endpoint those that come straight from this
    #: machine, elsewhere all. False, without a secret: the nodes of one user on one machine share a key by themselves.
    insecure: bool = False
    #: ``auto`` or ``off``. Compression is not available yet: both send as it is.
    compression: str = "auto"
    #: The longest body that is sent or read, in bytes. The large requests that a worker reads at once take 48 times as
    #: much of its memory at most; further ones wait.
    max_body_bytes: int = 4 * 1024 * 1024
    #: Calls of other nodes that one worker process runs at once; one more is refused, so that health checks and
    #: refusals get through. None means one or two less than the server's threads where a server hook tells them, else
    #: any number.
    max_concurrency: int | None = None
    #: Returns the load of this node, 0 to 100, before each heartbeat. None means the larger of the share of
    #: ``max_concurrency`` in use and the load of the processors.
    load_reporter: Any = None
    #: Connections to one node, and so calls to it at once; more callers wait for a free one.
    pool_size: int = 64

    def __post_init__(self) -> None:
        fill = object.__setattr__
        if self.node_id is None:
            fill(self, "node_id", _host_name())
        check_node_id(self.node_id)
        if self.endpoint is not None:
            fill(self, "endpoint", check_endpoint(self.endpoint))
        _check(
            isinstance(self.cluster_name, str) and _CLUSTER_NAME.fullmatch(self.cluster_name),
            f"cluster_name: give 1 to 64 characters of A-Z a-z 0-9 . _ -, not {shown(self.cluster_name)}",
        )
        for name in ("request_timeout", "heartbeat_interval", "heartbeat_timeout"):
            fill(self, name, _seconds(name, getattr(self, name), zero=False))
        fill(self, "retry_delay", _seconds("retry_delay", self.retry_delay, zero=True))
        _check(
            self.heartbeat_timeout > self.heartbeat_interval,
            f"heartbeat_timeout: give more than heartbeat_interval ({self.heartbeat_interval} s), "
            f"not {self.heartbeat_timeout} s",
        )
        for name, least in (("max_retries", 0), ("max_body_bytes", 1024), ("pool_size", 1)):
            _whole(name, getattr(self, name), least)
        if self.max_concurrency is not None:
            _whole("max_concurrency", self.max_concurrency, 1)
        _check(
            self.load_reporter is None or callable(self.load_reporter),
            f"load_reporter: give a function that returns 0 to 100, not {shown(self.load_reporter)}",
        )
        for name in ("enable_failover", "insecure"):
            value = getattr(self, name)
            _check(isinstance(value, bool), f"{name}: give True or False, not {shown(value)}")
        fill(self, "metadata", MappingProxyType(_json_object("metadata", self.metadata)))
        _check(
            self.verify is True or self.verify is False or isinstance(self.verify, str),
            f"verify: give True, False, or a path to CA certificates, not {shown(self.verify)}",
        )
        pair = isinstance(self.cert, tuple) and len(self.cert) == 2 and all(isinstance(part, str) for part in self.cert)
        _check(
            self.cert is None or isinstance(self.cert, str) or pair,
            f"cert: give a path, a pair (certificate, key), or None, not {shown(self.cert)}",
        )
        _check(
            self.session is None or (hasattr(self.session, "get_adapter") and hasattr(self.session, "send")),
            f"session: give a requests.Session, or None, not {shown(self.session)}",
        )
        _check(self.compression in ("auto", "off"), f"compression: give 'auto' or 'off', not {shown(self.compression)}")
        if self.secret is not None:
            fill(self, "secret", Secret(self.secret))
            KeyRing(self.secret)
        _check(
            self.idempotency is not None and self.idempotency is not True,
            "idempotency: give 'memory', 'off', a URL or an object",
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
            _check(self.peers is not None, f'peers: discovery="static" needs them, as in {wanted}')
            _check(isinstance(self.peers, Mapping), f"peers: give a mapping such as {wanted}, not {shown(self.peers)}")
            peers = self.peers or {}
            for node_id, given in peers.items():
                check_peer(node_id, given)
            kept = {name: MappingProxyType(dict(x)) if isinstance(x, Mapping) else x for name, x in peers.items()}
            object.__setattr__(self, "peers", MappingProxyType(kept))
        else:
            _check(self.peers is None, 'peers: they go with discovery="static" only')

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
        given = {name: read_text(name, text) for name, text in option_values(environ).items() if name not in overrides}
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


def _check(condition: object, text: str) -> None:
    if not condition:
        raise ConfigurationError(text)


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._\-]", "-", socket.gethostname())[:128] or "node"


def _seconds(name: str, value: object, *, zero: bool) -> float:
    bound = "of at least 0" if zero else "above 0"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not _is_finite(value) or value < 0 or (value == 0 and not zero):  # type: ignore[operator]
        raise ConfigurationError(f"{name}: give seconds {bound}, not {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}: give a whole number of at least {least}, not {shown(value)}")


def _json_object(name: str, value: object) -> dict[str, Any]:
    try:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            plain = dict(json.loads(json.dumps(dict(value), allow_nan=False)))
            if is_plain_json(plain):
                return plain
    except (TypeError, ValueError, RecursionError):
        pass
    raise ConfigurationError(
        f"{name}: give a mapping of names to JSON values, at most {MAX_LEVELS} levels deep, not {shown(value)}"
    )

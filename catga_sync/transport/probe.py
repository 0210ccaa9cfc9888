"""Asking a node what it says of itself (``GET /catga/cluster/node``), or to go offline (``POST .../drain``)."""

from __future__ import annotations

import enum
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from catga_sync.errors import SerializationError
from catga_sync.serialization import jsontext
from catga_sync.transport.connection import Exchange
from catga_sync.transport.session import new_session
from catga_sync.transport.signing import Signing

__all__ = ["NODE_PATH", "HttpProbe", "Probe", "ProbeOutcome", "nobody_listens"]

NODE_PATH = "/catga/cluster/node"
DRAIN_PATH = "/catga/cluster/drain"

_LIMIT = 1024 * 1024
#: Seconds for a connection within this machine.
_LOCAL_CONNECT = 0.2


class ProbeOutcome(enum.Enum):
    """How a probe ended."""

    #: With a description.
    ANSWERED = "ANSWERED"
    #: Something is there, but it has no such route or says no.
    OTHER = "OTHER"
    #: Nobody listens at the address.
    REFUSED = "REFUSED"
    #: Nothing came within the time; a busy node looks like this too.
    SILENT = "SILENT"


@dataclass(frozen=True)
class Probe:
    """What came of asking. Immutable."""

    outcome: ProbeOutcome
    #: What the node says of itself, as parsed JSON; empty unless it answered. Unchecked: see ``NodeRecord``.
    description: Mapping[str, Any] = field(default_factory=dict)
    #: The HTTP status; None when no answer came.
    status: int | None = None


class HttpProbe:
    """
    Ask nodes to describe themselves. Thread-safe; every probe opens a connection of its own.

    Args:
        verify: As in ``requests``.
        cert: As in ``requests``.
        signing: Signs requests and checks answers; None means that neither is signed.
    """

    def __init__(
        self,
        *,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        signing: Signing | None = None,
    ) -> None:
        self._verify = verify
        self._cert = cert
        self._signing = signing

    def ask(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """Ask the node at ``endpoint``; wait up to ``timeout`` seconds. Raises nothing."""
        return self._exchange("GET", NODE_PATH, node_id, endpoint, timeout)

    def drain(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """Ask the node to go offline; the answer is what it says of itself then. As ``ask`` in all else."""
        return self._exchange("POST", DRAIN_PATH, node_id, endpoint, timeout)

    def _exchange(self, method: str, path: str, node_id: str, endpoint: str, timeout: float) -> Probe:
        exchange = Exchange(time.monotonic() + timeout)
        headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "catga-sync"}
        if method == "POST":
            headers["Content-Type"] = "application/json"
        nonce = "" if self._signing is None else self._signing.sign(method, path, node_id, headers, b"")
        try:
            with new_session(1) as session, exchange.run():
                answer = session.request(
                    method,
                    endpoint + path,
                    headers=headers,
                    timeout=timeout,
                    verify=self._verify,
                    cert=self._cert,
                    stream=True,
                    allow_redirects=False,
                )
                with answer:
                    raw = answer.raw.read(_LIMIT)
            status = answer.status_code
            if self._signing and not self._signing.is_authentic(nonce, node_id, status, answer.headers, raw):
                return Probe(ProbeOutcome.OTHER, status=status)
            parsed = jsontext.loads(raw) if status == 200 else None
        except SerializationError:
            return Probe(ProbeOutcome.OTHER)
        except Exception as exc:  # not only what requests and urllib3 raise: there may be no thread for a name
            refused = not exchange.request_complete and _refused(exc)
            return Probe(ProbeOutcome.REFUSED if refused else ProbeOutcome.SILENT)
        if isinstance(parsed, dict):
            return Probe(ProbeOutcome.ANSWERED, parsed, status)
        return Probe(ProbeOutcome.OTHER, status=status)


def nobody_listens(endpoint: str) -> bool:
    """Return whether a connection to the endpoint, which is on this machine, is refused."""
    parts = urlsplit(endpoint)
    port = parts.port if parts.port is not None else (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_LOCAL_CONNECT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _refused(exc: BaseException) -> bool:
    seen: list[BaseException] = [exc]
    while seen:
        current = seen.pop()
        if isinstance(current, ConnectionRefusedError):
            return True
        linked = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        seen.extend(item for item in linked if isinstance(item, BaseException))
    return False

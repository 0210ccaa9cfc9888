"""Asks a node to describe itself (``GET /catga/cluster/node``) or to go offline (``POST /catga/cluster/drain``)."""

from __future__ import annotations

import enum
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from catga_sync.errors import ConfigurationError, SerializationError
from catga_sync.serialization import jsontext
from catga_sync.transport.http.causes import in_words, is_refused
from catga_sync.transport.http.connection import Exchange
from catga_sync.transport.http.user_session import new_session
from catga_sync.transport.signing import MISDIRECTED, Signing
from catga_sync.wire.routes import DRAIN_PATH, NODE_PATH

__all__ = ["HttpProbe", "Probe", "ProbeOutcome", "nobody_listens"]


_LIMIT = 1024 * 1024
_FOR_PEOPLE = ("Date", "Server", "Via")
#: Seconds for a connection within this machine.
_LOCAL_CONNECT = 0.2
#: Why a node that requires signed calls describes itself by its status alone.
STRANGER = "callers without its key get only its status"


class ProbeOutcome(enum.Enum):
    """How a probe ended."""

    #: The node has described itself.
    DESCRIBED = "DESCRIBED"
    #: There was another response: the server has no such route, or refuses.
    OTHER = "OTHER"
    #: The connection was refused: nothing listens at the address.
    REFUSED = "REFUSED"
    #: There was no response within the time; a busy node looks like this too.
    SILENT = "SILENT"


@dataclass(frozen=True)
class Probe:
    """The outcome of a probe. Immutable; ``diagnosis.py`` puts it into a sentence."""

    outcome: ProbeOutcome
    #: The description, as parsed JSON; empty unless there is one. Unchecked: see ``NodeRecord``.
    description: Mapping[str, Any] = field(default_factory=dict)
    #: The HTTP status; None without a response.
    status: int | None = None
    #: URL and method of the request.
    url: str = ""
    method: str = "GET"
    #: The target of a redirect, without its query; None when the response is no redirect.
    location: str | None = None
    #: Why there is no response; None when there is one.
    error: str | None = None
    #: The address that was reached, as in ``127.0.0.1:5001``; None when no connection was made.
    address: str | None = None
    #: The id of the node that responds, self-reported; None when the response is not that of a node.
    node_id: str | None = None
    #: The reason that the node gives for a refusal.
    refusal: str | None = None
    #: Whether the response has the signature that it needs.
    authentic: bool = True
    #: ``Date``, ``Server`` and ``Via`` of the response, as far as it has them: unsigned, and for people.
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpProbe:
    """
    Ask nodes to describe themselves. Thread-safe; each probe opens a connection of its own.

    Args:
        verify: As in ``requests``.
        cert: As in ``requests``.
        signing: Signs requests and verifies responses; None means that neither is signed.
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
        return self._exchange("GET", NODE_PATH, node_id, endpoint, time.monotonic() + timeout)

    def drain(self, node_id: str, endpoint: str, timeout: float) -> Probe:
        """Ask the node to go offline, and return its description as ``ask`` does. Raises nothing."""
        return self._exchange("POST", DRAIN_PATH, node_id, endpoint, time.monotonic() + timeout)

    def _exchange(
        self, method: str, path: str, node_id: str, endpoint: str, expires: float, *, again: bool = False
    ) -> Probe:
        exchange = Exchange(expires)
        headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "catga-sync"}
        if method == "POST":
            headers["Content-Type"] = "application/json"
        signing = self._signing if self._signing is not None and self._signing.covers(endpoint) else None
        authentic = True
        url = endpoint + path
        try:
            if signing is not None:
                signed = signing.sign(method, path, node_id, signing.incarnation_for(node_id, ""), headers, b"")
                exchange.finish = signed.renew
            with new_session(1) as session, exchange.run():
                response = session.request(
                    method,
                    url,
                    headers=headers,
                    timeout=exchange.left(),
                    verify=self._verify,
                    cert=self._cert,
                    stream=True,
                    allow_redirects=False,
                )
                with response:
                    raw = response.raw.read(_LIMIT)
            status = response.status_code
            if signing is not None:
                present = signing.signer(signed.nonce, node_id, status, response.headers, raw)
                # With the local key only a description has to be signed: a server without the route may send anything.
                bare = signing.loopback_only and (status != 200 or _parsed(raw) is None)
                authentic = present is not None or bare
                if present is not None and status == MISDIRECTED and not again:
                    signing.note_incarnation(node_id, "", present)
                    return self._exchange(method, path, node_id, endpoint, expires, again=True)
        except Exception as exc:  # not only errors of requests and urllib3: the resolver may get no thread
            refused = not exchange.request_complete and is_refused(exc)
            outcome = ProbeOutcome.REFUSED if refused else ProbeOutcome.SILENT
            # Signing may fail for want of a key; the text of that error has the cure.
            error = str(exc) if isinstance(exc, ConfigurationError) else in_words(exc, endpoint)
            return Probe(outcome, url=url, method=method, error=error, address=_address(exchange.peer))
        parsed = _parsed(raw)
        stranger = status == 200 and parsed is not None and parsed.keys() == {"status"}
        is_description = authentic and status == 200 and parsed is not None and not stranger
        fields = {} if parsed is None else parsed
        location = response.headers.get("Location") if 300 <= status < 400 else None
        return Probe(
            ProbeOutcome.DESCRIBED if is_description else ProbeOutcome.OTHER,
            fields if is_description else {},
            status,
            url,
            method,
            None if location is None else location.partition("?")[0],
            address=_address(exchange.peer),
            node_id=_text(fields.get("nodeId" if status == 200 else "processedByNodeId")),
            refusal=STRANGER if stranger else None if status == 200 else _text(fields.get("errorMessage")),
            authentic=authentic,
            headers={name: response.headers[name] for name in _FOR_PEOPLE if name in response.headers},
        )


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


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object; None when it is none."""
    try:
        parsed = jsontext.loads(raw)
    except SerializationError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _address(peer: tuple[Any, ...] | None) -> str | None:
    if peer is None:
        return None
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"

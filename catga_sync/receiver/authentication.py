"""Who may call a node: nobody by accident.

A call is served if it is signed for this run of this node, wherever it comes from: with the secret of the cluster, or,
where none was given, with the key that the nodes of one user on one machine share.

With ``insecure=True`` everybody is served; on a loopback endpoint, whoever calls straight from this machine. A page in
somebody's browser can reach loopback, under a name of its own (DNS rebinding) or under ours, so the ``Host`` must be
loopback and nothing may show that a page sent it: no machine sends ``Origin``, or a ``Sec-Fetch-Site`` that names a
site. What a proxy on this machine passes on comes from loopback as well, so whatever shows a proxy refuses a call: a
forwarding header, or HTTP/1.0. A proxy that shows nothing cannot be told from a neighbour: nginx from
1.29.7 on is one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import is_loopback_host
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.receiver.replay import NonceStore
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.headers import SIGNATURE
from catga_sync.wire.keys import Keys
from catga_sync.wire.signatures import (
    NONCE_LIFETIME,
    REFUSAL,
    NotAuthentic,
    Verified,
    named_key,
    sign_response,
    verify_request,
)

__all__ = ["Guard", "LoopbackGuard", "OpenGuard", "SignatureGuard", "unsigned_refusal"]

#: The route that tells what the node says of itself.
_DESCRIPTION = "/catga/cluster/node"
_CANNOT_CHECK = "the node cannot check signatures now; ask another node"


class Guard(Protocol):
    """Decides who is let in. Thread-safe."""

    def admit(self, raw: RawRequest) -> None:
        """Refuse a request by its head alone, or do nothing."""

    def is_stranger(self, raw: RawRequest) -> bool:
        """Return whether a request shows no key where one is needed: its caller is told the node's status alone."""

    def verify(self, raw: RawRequest, body: bytes, node_id: str) -> Any:
        """Refuse a request by its whole, or return what ``seal`` needs; nothing is parsed before."""

    def seal(self, caller: Any, status: int, executed: str, node_id: str, body: bytes) -> Mapping[str, str]:
        """Return the headers that prove who made a reply. ``caller`` is None when nobody was verified."""


class OpenGuard:
    """Let everybody in. Thread-safe."""

    def admit(self, raw: RawRequest) -> None:
        """See ``Guard``."""

    def is_stranger(self, raw: RawRequest) -> bool:
        """See ``Guard``."""
        return False

    def verify(self, raw: RawRequest, body: bytes, node_id: str) -> None:
        """See ``Guard``."""

    def seal(self, caller: None, status: int, executed: str, node_id: str, body: bytes) -> Mapping[str, str]:
        """See ``Guard``."""
        return {}


class LoopbackGuard(OpenGuard):
    """Let in what comes straight from this machine. Thread-safe."""

    def admit(self, raw: RawRequest) -> None:
        """See ``Guard``."""
        reason = unsigned_refusal(raw.remote_address, raw.headers, raw.protocol)
        if reason is not None:
            raise Refused(Reason.NOT_ALLOWED, reason)


class SignatureGuard:
    """
    Let in what is signed, once, for this node and its present run. Thread-safe.

    A nonce keeps a request from being let in twice for as long as it is remembered, and a run of the node whose folder
    is another one, or lost, remembers nothing of the run before. Therefore a request names the incarnation of the node
    that it is meant for. One for another incarnation is not served; the refusal is signed and names the true one, so
    that the caller believes it and can sign again. A caller that knows no incarnation (nor has a node one that has just
    come up) signs for none: that is served if it was signed after this process began, for what was signed before may
    have been let in before.

    A description is given to any caller with the secret: it changes nothing, and is how an incarnation is learnt.

    Args:
        ring: The keys.

        nonces:
            Remembers what was let in; shared by all workers of the node. None for a key that is used on this machine
            alone, where whoever could record a call can read the key as well: then nothing is remembered.

        cluster: The name of the cluster.
        incarnation: Returns the incarnation of the node, "" while it has none.
        clock: Tells the time; None means the system's.
        refusal: What a caller is told that is not let in; the cause is for the log.
    """

    def __init__(
        self,
        ring: Keys,
        nonces: NonceStore | None,
        *,
        cluster: str,
        incarnation: Callable[[], str],
        clock: Clock | None = None,
        refusal: str = REFUSAL,
    ) -> None:
        self._ring = ring
        self._nonces = nonces
        self._cluster = cluster
        self._incarnation = incarnation
        self._clock = SYSTEM_CLOCK if clock is None else clock
        self._refusal = refusal
        #: The epoch time at which this process began to remember nonces.
        self._began = self._clock.time()
        _fork.watch(self)

    def admit(self, raw: RawRequest) -> None:
        """See ``Guard``. What cannot have been signed with a key of ours need not be read any further."""
        try:
            key_id = named_key(raw.headers.get(SIGNATURE.lower()))
        except NotAuthentic as exc:
            self._refuse(exc.cause)
        try:
            known = self._ring.knows(key_id)
        except ConfigurationError as exc:
            cause = f"no signed call is let in: {exc}"
            raise Refused(Reason.CANNOT_VERIFY, _CANNOT_CHECK, cause=cause) from exc
        if not known:
            self._refuse(f"it is signed with key {key_id}, and this node has {', '.join(self._ring.key_ids)}")

    def is_stranger(self, raw: RawRequest) -> bool:
        """See ``Guard``."""
        return SIGNATURE.lower() not in raw.headers

    def verify(self, raw: RawRequest, body: bytes, node_id: str) -> Verified:
        """See ``Guard``."""
        now = self._clock.time()
        try:
            verified = verify_request(
                self._ring,
                raw.headers.get(SIGNATURE.lower()),
                method=raw.method,
                path=raw.path,
                cluster=self._cluster,
                audience=node_id,
                headers=raw.headers,
                body=body,
                now=now,
            )
        except NotAuthentic as exc:
            self._refuse(exc.cause)
        if self._nonces is not None:
            self._refuse_a_replay(self._nonces, verified.nonce)
        if raw.path != _DESCRIPTION and not self._is_for_this_run(verified, now):
            text = f"node {node_id} has been restarted since this call was signed; it is to be signed again"
            raise Refused(Reason.OTHER_RUN, text, caller=verified)
        return verified

    def seal(self, caller: Verified | None, status: int, executed: str, node_id: str, body: bytes) -> Mapping[str, str]:
        """See ``Guard``."""
        if caller is None:
            return {}
        signature = sign_response(
            self._ring,
            nonce=caller.nonce,
            status=status,
            executed=executed,
            node_id=node_id,
            incarnation=self._incarnation(),
            content_type="application/json",
            content_encoding=None,
            body=body,
            key_id=caller.key_id,
        )
        return {SIGNATURE: signature}

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: the child has let in nothing."""
        self._began = self._clock.time()

    def _refuse_a_replay(self, nonces: NonceStore, nonce: str) -> None:
        try:
            new = nonces.add(nonce, NONCE_LIFETIME)
        except Exception as exc:
            # A node that cannot tell whether it has seen a request must take it for a replay.
            cause = f"the nonces cannot be read, so no signed call is let in: {shown(exc)}"
            raise Refused(Reason.CANNOT_VERIFY, _CANNOT_CHECK, cause=cause) from exc
        if not new:
            self._refuse("it was let in before: a replay")

    def _is_for_this_run(self, verified: Verified, now: float) -> bool:
        if verified.incarnation == "":
            return now - verified.age > self._began
        return verified.incarnation == self._incarnation()

    def _refuse(self, cause: str) -> NoReturn:
        raise Refused(Reason.UNAUTHENTICATED, self._refusal, cause=cause)


_FORWARDING = frozenset(
    {
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-real-ip",
    }
)
_FORWARDING_FAMILIES = ("x-envoy-", "x-forwarded", "x-original-")

# Not urlsplit, which before Python 3.13 drops what stands around an address in brackets.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.\-]{1,253})(?::\d{1,5})?")

_HINT = (
    "with insecure=True a node on a loopback endpoint serves only direct calls from its own machine; "
    "give the cluster a secret"
)


def unsigned_refusal(remote_address: str | None, headers: Mapping[str, str], protocol: str = "HTTP/1.1") -> str | None:
    """
    Return why an unsigned call is refused, or None when it comes straight from loopback.

    Args:
        remote_address: Address of the peer as the server saw it.
        headers: The headers of the request, names in lower case.
        protocol: The version of HTTP in which it came.
    """
    if not _is_loopback(remote_address or ""):
        return _HINT
    # "none" is what a user typed into the address bar himself.
    if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        return f"the call was sent by a web page: {_HINT}"
    forwarded = any(name in _FORWARDING or name.startswith(_FORWARDING_FAMILIES) for name in headers)
    if forwarded or protocol == "HTTP/1.0":
        return f"the call was forwarded by a proxy: {_HINT}"
    if not is_loopback_host(_host_of(headers.get("host", ""))):
        return f"the Host header is not loopback: {_HINT}"
    return None


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return parsed.is_loopback if mapped is None else bool(mapped.is_loopback)


def _host_of(value: str) -> str:
    found = _HOST.fullmatch(value)
    return found[1] if found else ""

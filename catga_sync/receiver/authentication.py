"""Authentication: which callers a node accepts.

A call is served if it is signed for this incarnation of this node, wherever it comes from: with the secret of the
cluster, or, where none was given, with the key that the nodes of one user on one machine share.

With ``insecure=True`` every call is served; on a loopback endpoint, every call that comes straight from this machine. A
page in a browser can reach loopback, under a name of its own (DNS rebinding) or under that of the node, so the ``Host``
must be loopback and nothing may show that a page sent the call: no machine sends ``Origin``, or a ``Sec-Fetch-Site``
that names a site. What a proxy on this machine passes on comes from loopback as well, so whatever shows a proxy refuses
a call: a forwarding header, or HTTP/1.0. A proxy that shows nothing cannot be distinguished from a neighbour: nginx
from 1.29.7 on is one.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from catga_sync import _fork
from catga_sync._clock import SYSTEM_CLOCK, Clock
from catga_sync._endpoint import is_loopback_host
from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError
from catga_sync.receiver.refusal import Reason, Refused
from catga_sync.receiver.replay import NonceStore
from catga_sync.receiver.request import RawRequest
from catga_sync.wire.headers import SIGNATURE
from catga_sync.wire.keys import Keys
from catga_sync.wire.routes import NODE_PATH
from catga_sync.wire.signatures import (
    NONCE_LIFETIME,
    REFUSAL,
    NotAuthentic,
    Verified,
    sign_response,
    signature_fields,
    verify_request,
)
from catga_sync.wire.stream_keys import StreamKeys, stream_keys

__all__ = ["Guard", "LoopbackGuard", "OpenGuard", "SignatureGuard", "unsigned_refusal"]

_SIGNATURE = SIGNATURE.lower()
_CANNOT_CHECK = "the node cannot check signatures now; ask another node"


class Guard(Protocol):
    """Decides which callers are accepted. Thread-safe."""

    def admit(self, raw: RawRequest) -> Any:
        """Refuse a request by its head alone, or return what ``verify`` needs of it."""

    def lacks_signature(self, raw: RawRequest) -> bool:
        """Return whether a request has no signature where one is needed: it gets the status of the node and no more."""

    def verify(self, raw: RawRequest, body: bytes, node_id: str, admitted: Any) -> Any:
        """
        Refuse a request by its head and body, or return what ``seal`` needs; nothing is parsed before.

        Args:
            raw: The request.
            body: Its body.
            node_id: The id of this node.
            admitted: What ``admit`` has returned for it.
        """

    def seal(
        self,
        caller: Any,
        status: int,
        executed: str,
        node_id: str,
        body: bytes,
        content_type: str = "application/json",
        coding: str | None = None,
    ) -> Mapping[str, str]:
        """Return the headers that prove which node responds. ``caller`` is None when no caller was verified."""

    def stream_keys(self, caller: Any, nonce: str, node_id: str) -> StreamKeys | None:
        """Return the keys of a stream that a verified caller opens; None where it is not signed."""


class OpenGuard:
    """Lets every caller in but web pages. Thread-safe."""

    def admit(self, raw: RawRequest) -> None:
        """See ``Guard``. A page whose host name points here (DNS rebinding) is to a browser of the same origin."""
        if _is_of_a_page(raw.headers):
            raise Refused(Reason.NOT_ALLOWED, "the call was sent by a web page: it has Origin or Sec-Fetch-Site")

    def lacks_signature(self, raw: RawRequest) -> bool:
        """See ``Guard``."""
        return False

    def verify(self, raw: RawRequest, body: bytes, node_id: str, admitted: None) -> None:
        """See ``Guard``."""

    def seal(
        self,
        caller: None,
        status: int,
        executed: str,
        node_id: str,
        body: bytes,
        content_type: str = "application/json",
        coding: str | None = None,
    ) -> Mapping[str, str]:
        """See ``Guard``."""
        return {}

    def stream_keys(self, caller: None, nonce: str, node_id: str) -> None:
        """See ``Guard``."""


class LoopbackGuard(OpenGuard):
    """Accepts calls that come directly from this machine. Thread-safe."""

    def admit(self, raw: RawRequest) -> None:
        """See ``Guard``."""
        reason = unsigned_refusal(raw.remote_address, raw.headers, raw.protocol)
        if reason is not None:
            raise Refused(Reason.NOT_ALLOWED, reason)


class SignatureGuard:
    """
    Accepts requests that are signed for this node and its incarnation, each of them once. Thread-safe.

    A request is signed for one incarnation of the node, since a restarted node may have lost its stored nonces. A
    request for another incarnation is refused; the refusal is signed and has the present incarnation, so that the
    caller can sign again. A caller without a known incarnation signs for none. Such a request is accepted only if it
    was signed after this process began: an earlier one may have been accepted before.

    The description route accepts requests for any incarnation: it changes nothing, and callers get the incarnation
    there.

    Args:
        ring: The keys.

        nonces:
            The store of accepted nonces, shared by all workers of the node. None for a key that is used on this machine
            alone: a program that can record a call there can read the key as well.

        cluster: The name of the cluster.
        incarnation: Returns the incarnation of the node, "" while it has none.
        clock: None means the system's.
        refusal: The error text for a caller that is not accepted; the cause is for the log.
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
        #: The epoch time since which this process stores nonces.
        self._began = self._clock.time()
        _fork.watch(self)

    def admit(self, raw: RawRequest) -> tuple[str, ...]:
        """See ``Guard``. The body of a request that names no key of this node need not be read."""
        try:
            fields = signature_fields(raw.headers.get(_SIGNATURE))
        except NotAuthentic as exc:
            self._refuse(exc.cause)
        key_id = fields[0]
        try:
            # The keys of now first: only for another one is it worth looking whether there is a new key.
            known = key_id in self._ring.present().key_ids or self._ring.knows(key_id)
        except ConfigurationError as exc:
            cause = f"no signed call is accepted: {exc}"
            raise Refused(Reason.CANNOT_VERIFY, _CANNOT_CHECK, cause=cause) from exc
        if not known:
            self._refuse(f"it is signed with key {key_id}, and this node has {', '.join(self._ring.key_ids)}")
        return fields

    def lacks_signature(self, raw: RawRequest) -> bool:
        """See ``Guard``."""
        return _SIGNATURE not in raw.headers

    def verify(self, raw: RawRequest, body: bytes, node_id: str, admitted: tuple[str, ...]) -> Verified:
        """See ``Guard``."""
        now = self._clock.time()
        try:
            verified = verify_request(
                self._ring,
                admitted,
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
        signed_for = verified.incarnation
        # Signed for no incarnation: accepted if it was signed after this process began to store nonces.
        for_this_run = signed_for == self._incarnation() if signed_for else now - verified.age > self._began
        if not for_this_run and raw.path != NODE_PATH:
            text = f"node {node_id} has been restarted since this call was signed; sign it again"
            raise Refused(Reason.OTHER_RUN, text, caller=verified)
        return verified

    def seal(
        self,
        caller: Verified | None,
        status: int,
        executed: str,
        node_id: str,
        body: bytes,
        content_type: str = "application/json",
        coding: str | None = None,
    ) -> Mapping[str, str]:
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
            content_type=content_type,
            content_encoding=coding,
            body=body,
            key_id=caller.key_id,
        )
        return {SIGNATURE: signature}

    def stream_keys(self, caller: Verified, nonce: str, node_id: str) -> StreamKeys:
        """See ``Guard``."""
        return stream_keys(
            self._ring,
            caller.key_id,
            caller_nonce=caller.nonce,
            node_nonce=nonce,
            cluster=self._cluster,
            node_id=node_id,
        )

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``: the child has accepted nothing."""
        self._began = self._clock.time()

    def _refuse_a_replay(self, nonces: NonceStore, nonce: str) -> None:
        try:
            new = nonces.add(nonce, NONCE_LIFETIME)
        except Exception as exc:
            # Without the nonces, any request may be a replay.
            cause = f"the nonces cannot be read, so no signed call is accepted: {shown(exc)}"
            raise Refused(Reason.CANNOT_VERIFY, _CANNOT_CHECK, cause=cause) from exc
        if not new:
            self._refuse("it was let in before: a replay")

    def _refuse(self, cause: str) -> NoReturn:
        raise Refused(Reason.UNAUTHENTICATED, self._refusal, cause=cause)


#: The headers by which a proxy shows.
_FORWARDING = re.compile(
    "cf-connecting-ip|client-ip|fastly-client-ip|forwarded|true-client-ip|via|x-client-ip|x-cluster-client-ip|x-real-ip"
    "|(?:x-envoy-|x-forwarded|x-original-).*",
    re.DOTALL,
)

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
    if _is_of_a_page(headers):
        return f"the call was sent by a web page: {_HINT}"
    if protocol == "HTTP/1.0" or any(map(_FORWARDING.fullmatch, headers)):
        return f"the call was forwarded by a proxy: {_HINT}"
    host = _HOST.fullmatch(headers.get("host", ""))
    if host is None or not is_loopback_host(host[1]):
        return f"the Host header is not loopback: {_HINT}"
    return None


def _is_of_a_page(headers: Mapping[str, str]) -> bool:
    # No node sends them; "none" is what a user has typed into the address bar.
    return "origin" in headers or headers.get("sec-fetch-site", "none") != "none"


@functools.lru_cache(maxsize=256)  # reading an address takes longer than all the rest
def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return parsed.is_loopback if mapped is None else bool(mapped.is_loopback)

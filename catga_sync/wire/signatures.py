"""Signatures of requests and responses. They prove the secret, the node and its incarnation, the time, and the content.

    Catga-Signature: catga-hmac-v1 key=<16 hex>;ts=<ms>;nonce=<32 hex>;incarnation=<run>;mac=<64 hex>    of a request
    Catga-Signature: catga-hmac-v1-r key=<16 hex>;node=<node id>;incarnation=<run>;mac=<64 hex>          of a response

``incarnation`` is that of the receiving node, or of the one that responds: up to 64 of A-Z a-z 0-9 . _ : -, and empty
if unknown. The MAC is HMAC-SHA256 of these lines, joined by a newline; what is absent is
an empty line:

    request    "catga-hmac-v1", key id, time in ms, nonce, method, path, cluster name, id of the receiving node,
               its incarnation, SHA-256 of the body as it travels, then the headers Content-Type, Content-Encoding,
               Catga-Timeout-Ms, Catga-Request-Id, Catga-Chain, traceparent, tracestate, Catga-Store, baggage,
               Catga-Accept-Encoding, Catga-Sent, and Catga-Context where there is one, without an empty line
    response   "catga-hmac-v1-r", key id, nonce of the request, status, Catga-Executed, id of the node that responds,
               its incarnation, Content-Type, Content-Encoding, SHA-256 of the body as it travels

A request for another incarnation of the node is refused with status 421, signed; see ``receiver/authentication.py``.
The caller then signs once more, for the incarnation in the refusal.

Rules of this file:
1. Nothing on the wire chooses how it is checked: the first word stands for one algorithm, and only known keys count.
2. A line is printable ASCII, so that no value can be taken for two; an empty value is refused, so that none can be
   taken for an absent one.
3. The MAC is judged before the time, and an unknown key costs as much work as a known one: a caller without a key
   learns neither the clock nor the keys of the node, from the response or from how long it takes. (The names of the
   keys are no secret: they travel with every request, and a request with none of them may be refused before its body
   is read.)
4. All that is ever wrong is ``NotAuthentic``. Its text is ``REFUSAL``, whatever the cause; the cause is for the log of
   this node.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from catga_sync.errors import CatgaError
from catga_sync.wire.headers import (
    ACCEPT_ENCODING,
    BAGGAGE,
    CHAIN,
    CONTEXT,
    REQUEST_ID,
    SENT,
    STORE,
    TIMEOUT,
    TRACEPARENT,
    TRACESTATE,
)
from catga_sync.wire.keys import KeyRing, Keys

__all__ = [
    "LOCAL_REFUSAL", "NONCE_LIFETIME", "REFUSAL", "SIGNED_AS_WRITTEN", "SIGNED_HEADERS", "WINDOW",
    "KeyRing", "NotAuthentic", "Signer", "Verified",
    "is_incarnation", "sign_request", "sign_response", "signature_fields", "verify_request", "verify_response",
]  # fmt: skip

#: The headers of a request that are signed, in this order, as a caller writes them: all that a node acts on.
SIGNED_AS_WRITTEN = (
    "Content-Type", "Content-Encoding", TIMEOUT, REQUEST_ID, CHAIN, TRACEPARENT, TRACESTATE, STORE, BAGGAGE,
    ACCEPT_ENCODING, SENT, CONTEXT,
)  # fmt: skip
#: The same in lower case.
SIGNED_HEADERS = tuple(map(str.lower, SIGNED_AS_WRITTEN))

#: The error text for a caller, whatever the cause.
REFUSAL = (
    "this node lets in only calls that are signed with its secret, for its cluster_name; its log tells what is wrong "
    "with this one"
)
#: The same of a node that has the key of its user on this machine, and no secret.
LOCAL_REFUSAL = (
    "this node has no secret, and lets in only signed calls of its own user on its own machine: set the same secret= "
    "on both sides (CATGA_SECRET), or insecure=True on both, and the same cluster_name; its log tells what is wrong "
    "with this call"
)

#: Seconds by which the clocks of two nodes may differ, the time on the way included.
WINDOW = 60.0
#: Seconds for which a nonce has to be remembered: a request from a clock that is ``WINDOW`` ahead is good until
#: ``WINDOW`` after that. The rest is for clocks that are being put right meanwhile.
NONCE_LIFETIME = 2 * WINDOW + 10.0

_REQUEST_VERSION = "catga-hmac-v1"
_RESPONSE_VERSION = "catga-hmac-v1-r"

_MAX_HEADER, _MAX_TEXT = 320, 3 * 8192
#: What may stand in a line, and what is between two.
_PRINTABLE = bytes(range(0x20, 0x7F)) + b"\n"
_NONCE = re.compile(r"[0-9a-f]{32}")
_NODE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_INCARNATION = re.compile(r"[A-Za-z0-9._:\-]{0,64}")
# One order and one spelling: nothing can stand twice, and in another letter case it is another header.
_REQUEST_HEADER = re.compile(
    rf"{_REQUEST_VERSION} key=([0-9a-f]{{16}});ts=([1-9][0-9]{{0,14}});nonce=([0-9a-f]{{32}});"
    rf"incarnation=({_INCARNATION.pattern});mac=([0-9a-f]{{64}})"
)
_RESPONSE_HEADER = re.compile(
    rf"{_RESPONSE_VERSION} key=([0-9a-f]{{16}});node=({_NODE_ID.pattern});"
    rf"incarnation=({_INCARNATION.pattern});mac=([0-9a-f]{{64}})"
)


class NotAuthentic(CatgaError):
    """
    A request or a response without proof that it comes from a holder of the secret.

    Args:
        cause: Why, for the log of this node alone. Of what came from outside it repeats at most a
            well-formed key id.

    .. versionadded:: 0.1
    """

    def __init__(self, cause: str) -> None:
        super().__init__(REFUSAL)
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.cause,))


class Verified(NamedTuple):
    """The signed facts of a request whose signature is good. Immutable. Replays are found with a nonce store."""

    nonce: str
    #: The key to sign the response with; the caller may have no other.
    key_id: str
    #: The incarnation that the request was signed for; "" if unknown to the caller.
    incarnation: str
    #: Seconds since it was signed, by two clocks: less than 0 when the caller's is ahead.
    age: float


class Signer(NamedTuple):
    """The node that signed a response."""

    node_id: str
    #: Of its present run; "" where it has none.
    incarnation: str


def sign_request(
    ring: Keys,
    *,
    method: str,
    path: str,
    cluster: str,
    audience: str,
    incarnation: str,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    nonce: str | None = None,
    names: Sequence[str] = SIGNED_HEADERS,
) -> str:
    """
    Return the value of the header ``Catga-Signature`` of a request. Each attempt needs its own: it is let in once.

    Args:
        ring: Its first key signs.
        method: As it travels.
        path: The cluster's route, without the prefix at which a server may have mounted the app.
        cluster: The name of the cluster.
        audience: Id of the receiving node; no other accepts the request.
        incarnation: That of the receiving node; "" means unknown.
        headers: The request's as they travel. Those of ``SIGNED_HEADERS`` are signed, and so is that one of them is
            absent.
        body: What travels: compressed, if it is.
        now: Seconds since the epoch.
        nonce: 32 hex digits that are never used again. None means random ones.
        names: ``SIGNED_HEADERS`` where the names of ``headers`` are in lower case, else ``SIGNED_AS_WRITTEN``.

    Raises:
        ValueError: A value cannot be signed: it is empty, or not printable ASCII.
    """
    chosen = os.urandom(16).hex() if nonce is None else nonce
    if not isinstance(chosen, str) or _NONCE.fullmatch(chosen) is None:
        raise ValueError("nonce: give 32 hex digits in lower case, or None")
    if not isinstance(incarnation, str) or _INCARNATION.fullmatch(incarnation) is None:
        raise ValueError("incarnation: give up to 64 characters of A-Z a-z 0-9 . _ : -")
    if not 0.001 <= now < 1e12:
        raise ValueError("now: give seconds since the epoch")
    key_id, stamp = ring.key_ids[0], str(int(now * 1000))
    needed = (key_id, stamp, chosen, method, path, cluster, audience)
    mac = ring.mac(key_id, _request_text(needed, incarnation, body, headers, names))
    return f"{_REQUEST_VERSION} key={key_id};ts={stamp};nonce={chosen};incarnation={incarnation};mac={mac}"


def is_incarnation(value: object) -> bool:
    """Return whether that can stand in a signature: up to 64 of A-Z a-z 0-9 . _ : -."""
    return isinstance(value, str) and _INCARNATION.fullmatch(value) is not None


def signature_fields(header: str | None, pattern: re.Pattern[str] = _REQUEST_HEADER) -> tuple[str, ...]:
    """Return what stands in a signature, the name of the key first; raise ``NotAuthentic`` where there is none."""
    if header is None:
        raise NotAuthentic("it is not signed")
    found = pattern.fullmatch(header) if isinstance(header, str) and len(header) <= _MAX_HEADER else None
    if found is None:
        raise NotAuthentic("its signature cannot be read")
    return found.groups()


def verify_request(
    ring: Keys,
    fields: tuple[str, ...],
    *,
    method: str,
    path: str,
    cluster: str,
    audience: str,
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    window: float = WINDOW,
) -> Verified:
    """
    Return the signed facts of a request whose signature is good.

    The caller of this function still has to check the nonce and the incarnation, before anything is decompressed or
    parsed.

    Args:
        ring: The keys that are accepted.
        fields: What ``signature_fields`` has read of ``Catga-Signature``. The other arguments are as in
            ``sign_request``, as it came.
        cluster: The name of this node's cluster.
        audience: Id of this node.
        window: Seconds before or after ``now`` at which it may have been signed.

    Raises:
        NotAuthentic: For whatever is wrong, and nothing else.
    """
    key_id, stamp, nonce, incarnation, mac = fields
    try:
        text = _request_text((key_id, stamp, nonce, method, path, cluster, audience), incarnation, body, headers)
    except ValueError as exc:
        raise NotAuthentic(f"a signed value is malformed: {exc}") from None
    _judge(ring, key_id, text, mac)
    try:
        age = float(now) - int(stamp) / 1000.0
        timely = abs(age) <= float(window)
    except (TypeError, ValueError, OverflowError):
        raise NotAuthentic("now, window: not seconds") from None
    if not timely:
        when = f"{age:.1f} s ago" if age > 0 else f"{-age:.1f} s in the future"
        raise NotAuthentic(f"it was signed {when} by the clock of this node; are both clocks right?")
    return Verified(nonce, key_id, incarnation, age)


def sign_response(
    ring: Keys,
    *,
    nonce: str,
    status: int,
    executed: str | None,
    node_id: str,
    incarnation: str,
    content_type: str | None,
    content_encoding: str | None,
    body: bytes,
    key_id: str | None = None,
) -> str:
    """
    Return the value of the header ``Catga-Signature`` of a response.

    Only a request that was verified, and whose nonce was new, may get one: a replay
    would otherwise get a signed "did not run", which would pass for the result of the request that did run.

    Args:
        ring: The keys.
        nonce: That of the request.
        status: The HTTP status.
        executed: Value of ``Catga-Executed``. None, here and below, means that there is no such header.
        node_id: Id of this node.
        incarnation: Of the present run of this node; "" where it has none.
        content_type: Value of ``Content-Type``.
        content_encoding: Value of ``Content-Encoding``.
        body: What travels: compressed, if it is.
        key_id: The key with which the request was signed. None means the one that signs.

    Raises:
        ValueError: There is no such key, or a value cannot be signed.
    """
    chosen = ring.key_ids[0] if key_id is None else key_id
    if not isinstance(node_id, str) or _NODE_ID.fullmatch(node_id) is None:
        raise ValueError("node_id: give 1 to 128 characters of A-Z a-z 0-9 . _ : -")
    if not isinstance(incarnation, str) or _INCARNATION.fullmatch(incarnation) is None:
        raise ValueError("incarnation: give up to 64 characters of A-Z a-z 0-9 . _ : -")
    fields = (nonce, status, executed, node_id, incarnation, content_type, content_encoding, body)
    mac = ring.mac(chosen, _response_text(chosen, fields))
    if mac is None:
        raise ValueError("key_id: there is no such key in the ring")
    return f"{_RESPONSE_VERSION} key={chosen};node={node_id};incarnation={incarnation};mac={mac}"


def verify_response(
    ring: Keys,
    header: str | None,
    *,
    nonce: str,
    status: int,
    executed: str | None,
    content_type: str | None,
    content_encoding: str | None,
    body: bytes,
) -> Signer:
    """
    Return the node that signed the response, which should be the one that was asked.

    Args:
        ring: The keys that are accepted.
        header: Value of ``Catga-Signature``; None means that there is none. The other arguments are as in
            ``sign_response``, as it came.
        nonce: That of the request.

    Raises:
        NotAuthentic: For whatever is wrong, and nothing else. Then the response proves nothing, and the connection on
            which it came is not to be used again.
    """
    key_id, node_id, incarnation, mac = signature_fields(header, _RESPONSE_HEADER)
    fields = (nonce, status, executed, node_id, incarnation, content_type, content_encoding, body)
    try:
        text = _response_text(key_id, fields)
    except ValueError as exc:
        raise NotAuthentic(f"a signed value is malformed: {exc}") from None
    _judge(ring, key_id, text, mac)
    return Signer(node_id, incarnation)


def _judge(ring: Keys, key_id: str, text: bytes, mac: str) -> None:
    expected = ring.mac(key_id, text)
    if expected is None:
        raise NotAuthentic(f"it is signed with key {key_id}, and this node has {', '.join(ring.key_ids)}")
    if not hmac.compare_digest(expected, mac):
        raise NotAuthentic(
            f"it is signed with key {key_id}, but for another cluster or node, or it was changed on the way"
        )


def _request_text(
    needed: tuple[str, ...],
    incarnation: str,
    body: bytes,
    headers: Mapping[str, str],
    names: Sequence[str] = SIGNED_HEADERS,
) -> bytes:
    signed = list(map(headers.get, names))
    if signed[-1] is None:
        # Without a context the text is that of nodes that know of none.
        del signed[-1]
    return _joined((_REQUEST_VERSION, *needed), (incarnation or None, _digest(body), *signed))


def _response_text(key_id: str, fields: tuple[Any, ...]) -> bytes:
    nonce, status, executed, node_id, incarnation, content_type, content_encoding, body = fields
    if type(status) is not int or not 100 <= status <= 999:
        raise ValueError("status: give an HTTP status")
    needed = (_RESPONSE_VERSION, key_id, nonce, str(status))
    return _joined(needed, (executed, node_id, incarnation or None, content_type, content_encoding, _digest(body)))


def _digest(body: object) -> str:
    if not isinstance(body, bytes):
        raise ValueError("the body is not bytes")  # noqa: TRY004 - one kind of error for whatever cannot be signed
    return hashlib.sha256(body).hexdigest()


def _joined(needed: tuple[str, ...], optional: tuple[str | None, ...]) -> bytes:
    """Return the text of these lines. One look at the whole is enough: a newline in a value is one too many."""
    lines = [*needed, *["" if line is None else line for line in optional]]
    try:
        text = "\n".join(lines)
    except TypeError:
        raise ValueError("something is not text") from None
    joined = text.encode("ascii") if text.isascii() else b"\0"
    odd = joined.translate(None, _PRINTABLE) or "" in needed or "" in optional
    if odd or joined.count(b"\n") != len(lines) - 1 or len(joined) > _MAX_TEXT:
        raise ValueError("something is empty, too long, or not printable ASCII")
    return joined

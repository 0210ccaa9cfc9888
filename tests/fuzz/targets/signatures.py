"""Signatures: of all that can be made of signed requests and responses, only those that were signed are believed."""

from __future__ import annotations

import re
from collections.abc import Callable

from catga_sync.errors import ConfigurationError
from catga_sync.transport.signing import Signing
from catga_sync.wire.headers import SIGNATURE
from catga_sync.wire.keys import KeyRing
from catga_sync.wire.signatures import (
    REFUSAL,
    NotAuthentic,
    sign_request,
    sign_response,
    signature_fields,
    verify_request,
)
from tests.fuzz.target import Check, Finding, Target, edited, edits, join, pure, split

__all__ = ["CLUSTER", "NOW", "RING", "SIGNED_HEADERS", "TARGETS"]

CLUSTER = "shop"
NOW = 1_769_860_800.0
RING = KeyRing(["k" * 32, b"\x00\xff" * 20])
#: Written out: a header that the library no longer signs is a finding.
SIGNED_HEADERS = (
    "content-type", "content-encoding", "catga-timeout-ms", "catga-request-id", "catga-chain", "traceparent",
    "tracestate", "catga-store", "baggage", "catga-context",
)  # fmt: skip
_NODE, _RUN = "node-1", "run-1"
_NONCE = "5e" * 16
_WORDS = (
    "catga-hmac-v1 key=", "catga-hmac-v1-r key=", ";ts=", ";nonce=", ";incarnation=", ";mac=", ";node=", *RING.key_ids,
    _NONCE, "=", "application/json", "identity", "200", "421", "\n",
)  # fmt: skip


def _value(part: bytes) -> str | None:
    """Return a header: absent unless its part starts with "=", so that an empty value is another than none."""
    return part[1:].decode("latin-1") if part[:1] == b"=" else None


# -- requests ---------------------------------------------------------------------------------------------------------

#: Method, path, cluster, audience, the signature, the signed headers, and the body.
_PARTS = 5 + len(SIGNED_HEADERS) + 1


def _signed_requests() -> list[bytes]:
    """Return requests as they were signed, in the parts that ``_request`` reads."""
    made = []
    for path, audience, run, headers, body, ring, age in (
        ("/catga/cluster/invoke", _NODE, _RUN, {"content-type": "application/json"}, b"{}", RING, 1.0),
        ("/catga/cluster/invoke", _NODE, "", dict.fromkeys(SIGNED_HEADERS, "1"), b"\x00\n=", RING, -59.0),
        ("/catga/cluster/node", "node-2", "a" * 64, {}, b"", KeyRing(b"\x00\xff" * 20), 0.0),
    ):
        signature = sign_request(
            ring,
            method="POST",
            path=path,
            cluster=CLUSTER,
            audience=audience,
            incarnation=run,
            headers=headers,
            body=body,
            now=NOW - age,
        )
        values = [signature, *(headers.get(name) for name in SIGNED_HEADERS)]
        cells = ["" if value is None else f"={value}" for value in values]
        made.append(join("POST", path, CLUSTER, audience, *cells, body))
    return made


_REQUESTS = _signed_requests()


def _old_request() -> bytes:
    signature = sign_request(
        RING,
        method="POST",
        path="/a",
        cluster=CLUSTER,
        audience=_NODE,
        incarnation="",
        headers={},
        body=b"",
        now=NOW - 61.0,
    )
    return join("POST", "/a", CLUSTER, _NODE, f"={signature}", *[""] * len(SIGNED_HEADERS), b"")


def _request_as_read(data: bytes) -> tuple[object, ...]:
    *head, body = split(data, _PARTS)
    return (*(part.decode("latin-1") for part in head[:4]), *map(_value, head[4:]), body)


_KNOWN_REQUESTS = frozenset(map(_request_as_read, _REQUESTS))


def _request(data: bytes) -> bool:
    data = edited(data, _REQUESTS, _PARTS)
    *head, body = split(data, _PARTS)
    method, path, cluster, audience = (part.decode("latin-1") for part in head[:4])
    header, *values = map(_value, head[4:])
    given = dict(zip(SIGNED_HEADERS, values, strict=True))
    headers = {name: value for name, value in given.items() if value is not None}
    _judge_refusal(lambda: signature_fields(header))
    verified = _judge_refusal(
        lambda: verify_request(
            RING,
            signature_fields(header),
            method=method,
            path=path,
            cluster=cluster,
            audience=audience,
            headers=headers,
            body=body,
            now=NOW,
        )
    )
    if verified != (_request_as_read(data) in _KNOWN_REQUESTS):
        raise Finding("a request that nobody signed is let in" if verified else "a signed request is refused")
    return verified


def _near_misses(signed: list[bytes]) -> list[bytes]:
    """Return each with signatures that are nearly right: two digits of the MAC, its letter case, its length."""
    made = []
    for each in signed:
        (mac,) = re.findall(rb"mac=([0-9a-f]{64})", each)
        other = b"%02x" % (int(mac[-2:], 16) ^ 0x11)
        made += [each.replace(mac, wrong) for wrong in (mac[:-2] + other, mac.upper(), mac[:-2], mac + b"0")]
    return made


def _request_seeds() -> list[bytes]:
    return [*_REQUESTS, _old_request(), *_near_misses(_REQUESTS), *edits(_REQUESTS, _PARTS)]


def _judge_refusal(verify: Callable[[], object]) -> bool:
    """Return whether a signature was found good; a refusal says the one thing to everybody and one line to the log."""
    try:
        verify()
    except NotAuthentic as exc:
        if str(exc) != REFUSAL or not exc.cause.isprintable() or len(exc.cause) > 300:
            raise Finding(f"a refusal says {str(exc)!a} and to the log {exc.cause!a}") from exc
        return False
    return True


# -- responses --------------------------------------------------------------------------------------------------------


def _response_seeds() -> list[bytes]:
    made = []
    for status, executed, kind, encoding, body, node in (
        (200, "1", "application/json", None, b'{"requestId":"r-1"}', _NODE),
        (503, "0", "application/json", "identity", b"", _NODE),
        (421, None, None, None, b"\x00", "node-2"),
    ):
        signature = sign_response(
            RING,
            nonce=_NONCE,
            status=status,
            executed=executed,
            node_id=node,
            incarnation=_RUN,
            content_type=kind,
            content_encoding=encoding,
            body=body,
        )
        cells = ["" if value is None else f"={value}" for value in (signature, executed, kind, encoding)]
        made.append(join(str(status), node, *cells, body))
    return made


_RESPONSES = _response_seeds()
_KNOWN_RESPONSES = frozenset(tuple(split(each, 7)) for each in _RESPONSES)


def _prepare_response(place: str) -> Check:
    signing = Signing(RING, CLUSTER)
    names = (SIGNATURE, "Catga-Executed", "Content-Type", "Content-Encoding")

    def check(data: bytes) -> bool:
        parts = split(edited(data, _RESPONSES, 7), 7)
        status = int(parts[0]) if parts[0].isdigit() and len(parts[0]) < 10 else 0
        values = zip(names, map(_value, parts[2:6]), strict=True)
        headers = {name: value for name, value in values if value is not None}
        signer = signing.signer(_NONCE, parts[1].decode("latin-1"), status, headers, parts[6])
        # Absent is absent, whatever stands there in its place; a status may be written with zeros before it.
        cells = [part if part[:1] == b"=" else b"" for part in parts[2:6]]
        known = (str(status).encode(), parts[1], *cells, parts[6]) in _KNOWN_RESPONSES
        if (signer is not None) != known:
            raise Finding(
                "a response is believed that nobody signed" if signer else "a signed response is not believed"
            )
        return known

    return check


# -- keys -------------------------------------------------------------------------------------------------------------


#: A part of every key that no error text has by itself.
_CANARY = "5up3r-s3cr3t"


def _keys(data: bytes) -> bool:
    given = [part + _CANARY.encode() for part in data.split(b"\0")]
    texts = [part.decode("utf-8", "surrogateescape") for part in given]
    accepted = False
    for secret in (given[0], texts[0], given, texts):
        try:
            ring = KeyRing(secret)
        except ConfigurationError as exc:
            if not str(exc).startswith("secret: ") or _CANARY in str(exc) or exc.__context__ is not None:
                raise Finding("an error shows a key, or does not name the option") from exc
            continue
        accepted = True
        if not 1 <= len(ring.key_ids) == len(set(ring.key_ids)) or _CANARY in repr(ring):
            raise Finding("a ring shows a key, or has no names for its keys")
    return accepted


TARGETS = (
    Target("signature-request", pure(_request), _request_seeds, _WORDS),
    Target(
        "signature-response",
        _prepare_response,
        lambda: [*_RESPONSES, *_near_misses(_RESPONSES), *edits(_RESPONSES, 7)],
        _WORDS,
    ),
    Target("keys", pure(_keys), lambda: [b"k" * 32, join(b"k" * 32, b"l" * 40), join(b"k" * 32, b"k" * 32), b" short"]),
)

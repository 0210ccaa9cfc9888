"""Signatures: what is let in, what is not, and that nobody is told why."""

import ast
import copy
import gc
import hashlib
import hmac
import inspect
import io
import itertools
import logging
import pickle
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

from catga_sync.errors import CatgaError, ConfigurationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Query, message
from catga_sync.receiver.authentication import OpenGuard
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.wire import keys
from catga_sync.wire import mac as macs
from catga_sync.wire import signatures as security
from catga_sync.wire.envelope import RequestEnvelope
from catga_sync.wire.routes import INVOKE_PATH
from catga_sync.wire.signatures import (
    NONCE_LIFETIME,
    REFUSAL,
    SIGNED_HEADERS,
    WINDOW,
    KeyRing,
    NotAuthentic,
    Verified,
    sign_request,
    sign_response,
    signature_fields,
    verify_request,
    verify_response,
)
from tests.tables import every_row
from tests.unit.serving_node import local_node

OLD = "0f" * 32
NEW = "a5" * 32
NOW = 1_700_000_000.125
NONCE = "00112233445566778899aabbccddeeff"
RUN = "f00d" * 8

HEADERS = {
    "content-type": "application/json",
    "content-encoding": "gzip",
    "catga-timeout-ms": "29999",
    "catga-request-id": "c0ffee",
    "catga-chain": "web=5,users=0",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=x",
    "catga-store": "5ca1ab1e" * 4,
    "baggage": "tenant=7",
    "catga-accept-encoding": "gzip",
    "catga-sent": "1700000000124000",
}
#: What is signed but for the incarnation, which stands in the signature itself.
REQUEST = {
    "method": "POST",
    "path": "/catga/cluster/invoke",
    "cluster": "default",
    "audience": "node-1",
    "body": b'{"requestId":"7"}',
    **HEADERS,
}
REPLY = {
    "nonce": NONCE,
    "status": 200,
    "executed": "1",
    "content_type": "application/json",
    "content_encoding": "gzip",
    "body": b'{"isSuccess":true}',
}

RING = KeyRing(OLD)


def request(**changes):
    """Return what is signed, as the functions want it; None takes a header away."""
    fields = {**REQUEST, **changes}
    headers = {name: fields.pop(name, None) for name in SIGNED_HEADERS}
    return {**fields, "headers": {name: value for name, value in headers.items() if value is not None}}


def sign(ring=RING, now=NOW, incarnation=RUN, **changes):
    return sign_request(ring, **request(**changes), incarnation=incarnation, now=now, nonce=NONCE)


def verify(header, ring=RING, now=NOW, **changes):
    return verify_request(ring, signature_fields(header), **request(**changes), now=now)


def answer(ring=RING, key_id=None, node_id="node-1", incarnation=RUN, **changes):
    return sign_response(ring, **{**REPLY, **changes}, node_id=node_id, incarnation=incarnation, key_id=key_id)


def check(header, ring=RING, **changes):
    return verify_response(ring, header, **{**REPLY, **changes})


def refuses(call, *args, **kwargs):
    """Return the cause, having seen that there is nothing but the one text to be seen from outside."""
    with pytest.raises(NotAuthentic) as caught:
        call(*args, **kwargs)
    assert str(caught.value) == REFUSAL
    assert caught.value.args == (REFUSAL,)
    return caught.value.cause


def flips(value):
    """Yield ``value`` with each of its bits flipped in turn."""
    for place in range(len(value)):
        for bit in range(8):
            if isinstance(value, bytes):
                yield value[:place] + bytes([value[place] ^ (1 << bit)]) + value[place + 1 :]
            else:
                yield value[:place] + chr(ord(value[place]) ^ (1 << bit)) + value[place + 1 :]


# -- what is signed ---------------------------------------------------------------------------------------------------


def by_hand(key, *lines):
    return hmac.new(key.encode("ascii"), "\n".join(lines).encode("ascii"), hashlib.sha256).hexdigest()


def key_name(key):
    return hmac.new(key.encode("ascii"), b"catga-key-id", hashlib.sha256).hexdigest()[:16]


def test_a_request_is_signed_as_the_page_says():
    mac = by_hand(
        OLD,
        "catga-hmac-v1",
        key_name(OLD),
        "1700000000125",
        NONCE,
        "POST",
        "/catga/cluster/invoke",
        "default",
        "node-1",
        RUN,
        hashlib.sha256(b'{"requestId":"7"}').hexdigest(),
        "application/json",
        "gzip",
        "29999",
        "c0ffee",
        "web=5,users=0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "vendor=x",
        "5ca1ab1e" * 4,
        "tenant=7",
        "gzip",
        "1700000000124000",
    )
    assert sign() == f"catga-hmac-v1 key={key_name(OLD)};ts=1700000000125;nonce={NONCE};incarnation={RUN};mac={mac}"


def test_a_reply_is_signed_as_the_page_says():
    digest = hashlib.sha256(b'{"isSuccess":true}').hexdigest()
    mac = by_hand(
        OLD, "catga-hmac-v1-r", key_name(OLD), NONCE, "200", "1", "node-1", RUN, "application/json", "gzip", digest
    )
    assert answer() == f"catga-hmac-v1-r key={key_name(OLD)};node=node-1;incarnation={RUN};mac={mac}"


def test_what_is_signed_does_not_change_from_version_to_version():
    assert sign() == (
        "catga-hmac-v1 key=6df00c2c24d64487;ts=1700000000125;nonce=00112233445566778899aabbccddeeff;"
        "incarnation=f00df00df00df00df00df00df00df00d;"
        "mac=e0361d9b5c2ce0fbec0e24afd69aeb8498f85467fb3d3a6cc9689f42b35eb916"
    )
    assert answer() == (
        "catga-hmac-v1-r key=6df00c2c24d64487;node=node-1;incarnation=f00df00df00df00df00df00df00df00d;"
        "mac=ac92ee1f63d8c0503fd917ca778336cd8f1ba4b0491337394e84f6744b34742e"
    )


def test_what_is_absent_is_an_empty_line():
    header = sign(method="GET", body=b"", incarnation="", **dict.fromkeys(SIGNED_HEADERS))
    empty = hashlib.sha256(b"").hexdigest()
    # The context has a line only where there is one.
    lines = ["GET", "/catga/cluster/invoke", "default", "node-1", "", empty, *[""] * (len(SIGNED_HEADERS) - 1)]
    assert header.endswith(by_hand(OLD, "catga-hmac-v1", key_name(OLD), "1700000000125", NONCE, *lines))
    assert verify(header, method="GET", body=b"", **dict.fromkeys(SIGNED_HEADERS)).incarnation == ""
    assert "incarnation=;" in answer(incarnation="")
    assert check(answer(incarnation="")) == ("node-1", "")


def test_a_context_is_signed_in_a_line_of_its_own_behind_the_others():
    header = sign(method="GET", body=b"", incarnation="", **{**dict.fromkeys(SIGNED_HEADERS), "catga-context": "a=1"})
    empty = hashlib.sha256(b"").hexdigest()
    lines = ["GET", "/catga/cluster/invoke", "default", "node-1", "", empty, *[""] * (len(SIGNED_HEADERS) - 1), "a=1"]
    assert header.endswith(by_hand(OLD, "catga-hmac-v1", key_name(OLD), "1700000000125", NONCE, *lines))


def test_a_context_cannot_be_added_changed_or_taken_away():
    assert verify(sign(**{"catga-context": "a=1"}), **{"catga-context": "a=1"})
    for signed, came in ((None, "a=1"), ("a=1", "a=2"), ("a=1", None), ("a=1", ""), (None, "")):
        refuses(verify, sign(**{"catga-context": signed}), **{"catga-context": came})


def test_no_other_header_is_signed():
    assert (
        sign_request(
            RING,
            **{**request(), "headers": {**HEADERS, "user-agent": "x", "x-other": "y", "accept-encoding": "z"}},
            incarnation=RUN,
            now=NOW,
            nonce=NONCE,
        )
        == sign()
    )


class Read(dict):
    """Headers that remember which of them were looked up."""

    def __init__(self):
        super().__init__({"content-type": "application/json"})
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


def test_all_headers_that_a_node_acts_on_are_signed():
    @message(name="Ask")
    @dataclass
    class Ask(Query[str]):
        pass

    local, headers = Mediator(), Read()
    local.register(Ask, lambda request: "long enough for compression " * 100)
    envelope = RequestEnvelope("Ask", local.registry.by_name("Ask").response_name, b"{}", "r-1").encode()
    receiver = Receiver(local, local_node(), guard=OpenGuard())
    raw = RawRequest("POST", INVOKE_PATH, headers, io.BytesIO(envelope).read, len(envelope))
    assert receiver.handle(raw).headers["Catga-Executed"] == "1"
    assert receiver.handle(raw._replace(method="PUT")).headers["Catga-Executed"] == "0"  # under the id of its head
    # Accept-Encoding counts for callers that do not sign, since a proxy may write its own. Sec-Fetch-Site is
    # that of a browser, which is refused.
    assert headers.names - {"accept-encoding", "sec-fetch-site"} == set(SIGNED_HEADERS)


def test_a_nonce_is_random_unless_it_is_given():
    headers = {sign_request(RING, **request(), incarnation=RUN, now=NOW) for _ in range(100)}
    assert len({header.split("nonce=")[1][:32] for header in headers}) == 100


# -- what is let in ---------------------------------------------------------------------------------------------------


def test_what_was_signed_is_let_in():
    assert verify(sign(), now=NOW + 2) == Verified(NONCE, key_name(OLD), RUN, 2.0)
    assert check(answer()) == ("node-1", RUN)


@every_row("skew", [0, 1, -1, 59, -59, 60, -60])
def test_a_clock_may_be_wrong_by_a_minute(skew):
    assert verify(sign(), now=NOW + skew).age == skew


@every_row("skew", [60.01, -60.01, 61, -61, 3600, -3600, float("inf"), float("-inf"), float("nan")])
def test_a_clock_may_not_be_wrong_by_more(skew):
    assert "clock" in refuses(verify, sign(), now=NOW + skew)


def test_the_log_says_which_clock_is_behind():
    assert refuses(verify, sign(), now=NOW + 61).startswith("it was signed 61.0 s ago by the clock of this node")
    assert refuses(verify, sign(), now=NOW - 61).startswith("it was signed 61.0 s in the future by the clock of")


def test_the_window_can_be_another_one():
    fields = signature_fields(sign())
    assert verify_request(RING, fields, **request(), now=NOW + 5, window=5).age == 5
    refuses(verify_request, RING, fields, **request(), now=NOW + 5.01, window=5)
    refuses(verify_request, RING, fields, **request(), now=NOW, window=float("nan"))


def test_a_nonce_outlives_all_that_may_come_with_it():
    earliest, latest = NOW - WINDOW, NOW + WINDOW
    assert verify(sign(), now=earliest)
    assert verify(sign(), now=latest)
    assert latest - earliest < NONCE_LIFETIME


# -- what is not ------------------------------------------------------------------------------------------------------


@every_row("field", REQUEST)
def test_no_bit_of_a_request_can_be_changed(field):
    header = sign()
    for changed in flips(REQUEST[field]):
        refuses(verify, header, **{field: changed})


@every_row("field", ["nonce", "executed", "content_type", "content_encoding", "body"])
def test_no_bit_of_a_reply_can_be_changed(field):
    header = answer()
    for changed in flips(REPLY[field]):
        refuses(check, header, **{field: changed})


def test_no_bit_of_a_signature_can_be_changed():
    for changed in flips(sign()):
        refuses(verify, changed)
    for changed in flips(answer()):
        refuses(check, changed)


@every_row("field", REQUEST)
def test_no_header_of_a_request_can_be_taken_away_or_emptied_or_doubled(field):
    header = sign()
    value = REQUEST[field]
    twice = value + (b"," if field == "body" else ",") + value
    for changed in (None, value[:0], twice, value[:-1], value + value[-1:]):
        refuses(verify, header, **{field: changed})


def test_no_header_of_a_request_can_be_added():
    for field in SIGNED_HEADERS:
        header = sign(**{field: None})
        for added in ("", " ", "-", "0", "identity", "None"):
            refuses(verify, header, **{field: added})


def test_one_value_cannot_be_taken_for_two():
    header = sign(**{"content-type": "a", "content-encoding": "b"})
    refuses(verify, header, **{"content-type": "a\nb", "content-encoding": None})
    refuses(verify, header, **{"content-type": None, "content-encoding": "a\nb"})
    for sneaky in ("a\nb", "a\r\nb", "a\x00", "a\x7f", "\t", "a\x85b", "a\u2028b", "ä", "\ud800"):
        with pytest.raises(ValueError, match="printable ASCII"):
            sign(**{"content-type": sneaky})
        refuses(verify, header, **{"content-type": sneaky})


def test_a_request_is_for_the_node_that_is_meant():
    assert refuses(verify, sign(), audience="node-2").endswith(
        "but for another cluster or node, or it was changed on the way"
    )


def test_a_request_is_for_the_cluster_that_is_meant():
    assert refuses(verify, sign(), cluster="staging").endswith(
        "but for another cluster or node, or it was changed on the way"
    )


def test_a_request_and_a_reply_name_a_run_of_a_node_that_nobody_else_can_change():
    assert verify(sign(incarnation="another")).incarnation == "another"
    for changed in ("", "another", RUN[:-1], RUN.upper(), RUN + "0"):
        refuses(verify, sign().replace(RUN, changed))
        refuses(check, answer().replace(RUN, changed))


@every_row("incarnation", [None, 7, "a b", "a;b", "a\n", "n" * 65, "\u0661", b"a"])
def test_an_incarnation_is_a_short_name(incarnation):
    with pytest.raises(ValueError, match=r"^incarnation: "):
        sign(incarnation=incarnation)
    with pytest.raises(ValueError, match=r"^incarnation: "):
        answer(incarnation=incarnation)


def test_a_reply_is_for_the_request_that_was_made():
    refuses(check, answer(), nonce="f" * 32)


@every_row("changes", [{"status": 503}, {"executed": "0"}, {"executed": None}, {"content_type": None}])
def test_a_reply_says_what_it_said(changes):
    refuses(check, answer(), **changes)


def test_a_reply_is_of_the_node_that_signed_it():
    header = answer().replace("node=node-1", "node=node-2")
    refuses(check, header)
    assert check(answer(node_id="node-2")) == ("node-2", RUN)


def test_a_request_is_no_reply_and_a_reply_no_request():
    refuses(check, sign())
    refuses(verify, answer())


SIGNATURES = [
    None,
    "",
    " ",
    "catga-hmac-v1",
    "@ ",
    " @",
    "@\n",
    "@,@",
    "@, @",
    "@;alg=none",
    "@;mac=" + "0" * 64,
    "@;nonce=" + NONCE,
    "none",
    "Bearer " + "0" * 64,
    "é",
    "\u0661" * 64,
    "\ud800",
    "\x00",
    "a" * 1_000_000,
    "@" * 100_000,
    b"bytes",
    7,
    ["@"],
]


@every_row("header", SIGNATURES)
def test_whatever_is_no_signature_is_refused_alike(header):
    for good, call in ((sign(), verify), (answer(), check)):
        wrong = header.replace("@", good) if isinstance(header, str) else header
        refuses(call, wrong)


@every_row(
    ("old", "new"),
    [
        ("catga-hmac-v1", "catga-hmac-v2"),
        ("catga-hmac-v1", "catga-none-v1"),
        ("catga-hmac-v1", "CATGA-HMAC-V1"),
        ("catga-hmac-v1 ", "catga-hmac-v1 alg=none;"),
        ("key=", "alg=none;key="),
        ("mac=", "alg=HS256;mac="),
        ("key=", "key= "),
        (";", "; "),
        (";", ","),
        ("ts=", "ts=0"),
        ("ts=", "ts=-"),
        ("ts=", "ts=+"),
        ("ts=17", "ts=\u0661\u0667"),
        ("ts=17", "ts=1_7"),
        ("ts=", "ts=99999999999999999999"),
    ],
)
def test_nothing_in_a_signature_can_be_written_otherwise(old, new):
    header = sign()
    assert old in header
    refuses(verify, header.replace(old, new))


def test_no_part_of_a_signature_can_be_left_out_shortened_or_moved():
    header = sign()
    version, _, rest = header.partition(" ")
    parts = rest.split(";")
    for place in range(len(parts)):
        others = parts[:place] + parts[place + 1 :]
        refuses(verify, f"{version} {';'.join(others)}")
        refuses(verify, f"{version} {';'.join([parts[place], parts[place], *others])}")
        name, _, value = parts[place].partition("=")
        for short in ("", value[:-1], value + "0", value.upper() + " "):
            refuses(verify, f"{version} {';'.join([*parts[:place], f'{name}={short}', *parts[place + 1 :]])}")
    refuses(verify, f"{version} {';'.join(reversed(parts))}")
    for length in range(len(header)):
        refuses(verify, header[:length])


def test_the_longest_signature_there_can_be_is_read():
    longest = answer(node_id="n" * 128, incarnation="i" * 64)
    assert check(longest) == ("n" * 128, "i" * 64)
    assert len(longest) < 320
    assert verify(sign(incarnation="i" * 64)).incarnation == "i" * 64


JUNK = [None, 7, "200", 1.5, True, object(), [], {}, b"\xff", bytearray(b"x"), "\ud800", 10**400, 10**5000]


@every_row("field", REQUEST)
@every_row("junk", JUNK)
def test_a_value_of_the_wrong_kind_is_refused_and_nothing_else(field, junk):
    refuses(verify, sign(), **{field: junk})


@every_row("field", REPLY)
@every_row("junk", JUNK)
def test_a_value_of_a_reply_of_the_wrong_kind_is_refused_and_nothing_else(field, junk):
    refuses(check, answer(), **{field: junk})


@every_row("junk", JUNK)
def test_a_time_of_the_wrong_kind_is_refused_and_nothing_else(junk):
    refuses(verify, sign(), now=junk)


@every_row(
    "wrong",
    [
        {"method": None},
        {"method": ""},
        {"audience": ""},
        {"audience": "a\nb"},
        {"path": "/ü"},
        {"cluster": ""},
        {"cluster": None},
        {"content-type": ""},
        {"content-encoding": 7},
        {"body": "text"},
        {"body": None},
        {"catga-timeout-ms": 1.5},
        {"catga-timeout-ms": 29999},
        {"catga-request-id": "x" * 30_000},
        {"tracestate": "\u00e4"},
    ],
)
def test_what_cannot_be_signed_is_an_error_of_the_signer(wrong):
    with pytest.raises(ValueError):
        sign(**wrong)


@every_row("nonce", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n", 7, b"0" * 32])
def test_a_nonce_is_32_hex_digits(nonce):
    with pytest.raises(ValueError, match=r"^nonce: "):
        sign_request(RING, **request(), incarnation=RUN, now=NOW, nonce=nonce)


@every_row("now", [0, -1, float("nan"), float("inf"), 1e13])
def test_the_time_is_a_time(now):
    with pytest.raises(ValueError, match=r"^now: "):
        sign(now=now)


@every_row("status", ["200", None, True, 0, 99, 1000, 2.0])
def test_a_reply_has_a_status(status):
    with pytest.raises(ValueError, match=r"^status: "):
        answer(status=status)


@every_row("node_id", ["", "a b", "a;b", "a\n", "n" * 129, None])
def test_a_reply_has_a_node(node_id):
    with pytest.raises(ValueError, match=r"^node_id: "):
        sign_response(RING, **REPLY, node_id=node_id, incarnation=RUN)


# -- in which order ---------------------------------------------------------------------------------------------------


def test_the_signature_is_judged_before_the_time():
    late = NOW + 3600
    assert "clock" in refuses(verify, sign(), now=late)
    assert "changed on the way" in refuses(verify, sign(), now=late, body=b"other")
    assert "and this node has" in refuses(verify, sign(), ring=KeyRing(NEW), now=late)


def test_an_unknown_key_costs_as_much_work_as_a_known_one(monkeypatch):
    hashed, other = [], KeyRing(NEW)
    real = hashlib.sha256
    monkeypatch.setattr(security.hashlib, "sha256", lambda body: hashed.append(body) or real(body))
    refuses(verify, sign(), ring=other)
    assert hashed == [REQUEST["body"]] * 2
    assert other.mac(RING.key_ids[0], b"text") is None


def test_macs_are_compared_in_constant_time():
    tree = ast.parse(inspect.getsource(security))
    functions = {each.name: ast.unparse(each) for each in tree.body if isinstance(each, ast.FunctionDef)}
    assert "hmac.compare_digest(expected, mac)" in functions["_judge"]
    for name in ("verify_request", "verify_response"):
        assert "_judge(ring, key_id, text, mac)" in functions[name]
    for compare in (each for each in ast.walk(tree) if isinstance(each, ast.Compare)):
        if not all(isinstance(operator, (ast.Is, ast.IsNot)) for operator in compare.ops):
            names = {each.id for each in ast.walk(compare) if isinstance(each, ast.Name)}
            assert not names & {"mac", "expected", "digits", "made"}, ast.unparse(compare)


def test_there_is_one_algorithm():
    tree = ast.parse(inspect.getsource(security))
    used = {ast.unparse(each) for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    assert "hashlib" not in inspect.getsource(keys)
    assert {each for each in used if each.startswith("hashlib.")} == {
        "hashlib.sha256",
        "hashlib.sha256(body).hexdigest",
    }
    assert "hmac" not in inspect.getsource(keys)
    tree = ast.parse(inspect.getsource(macs))
    used = {ast.unparse(each) for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    assert {each for each in used if each.startswith("hashlib.")} == {"hashlib.sha256", "hashlib.sha256(key).digest"}


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_rotation_is_three_steps_none_of_which_breaks_a_call():
    steps = [KeyRing([OLD]), KeyRing([OLD, NEW]), KeyRing([NEW, OLD]), KeyRing([NEW])]
    neighbours = list(itertools.pairwise(steps))
    for ours, theirs in [*neighbours, *((b, a) for a, b in neighbours)]:
        verified = verify(sign(ours), ring=theirs)
        assert verified.key_id == ours.key_ids[0]
        assert check(answer(theirs, key_id=verified.key_id), ring=ours).node_id == "node-1"


def test_the_first_key_signs_and_all_are_accepted():
    both = KeyRing([NEW, OLD])
    assert both.key_ids == (key_name(NEW), key_name(OLD))
    assert sign(both) == sign(KeyRing(NEW))
    assert verify(sign(KeyRing(OLD)), ring=both).key_id == key_name(OLD)
    assert answer(both) == answer(KeyRing(NEW))


def test_a_key_that_was_taken_out_is_accepted_no_more():
    assert refuses(verify, sign(), ring=KeyRing(NEW)) == (
        f"it is signed with key {key_name(OLD)}, and this node has {key_name(NEW)}"
    )
    refuses(check, answer(), ring=KeyRing(NEW))


def test_the_name_of_another_key_does_not_help():
    both = KeyRing([OLD, NEW])
    refuses(verify, sign().replace(key_name(OLD), key_name(NEW)), ring=both)
    refuses(check, answer().replace(key_name(OLD), key_name(NEW)), ring=both)


def test_a_reply_cannot_be_signed_with_a_key_that_is_not_there():
    with pytest.raises(ValueError, match=r"^key_id: "):
        answer(key_id=key_name(NEW))


def test_text_counts_as_its_bytes():
    assert KeyRing("ä" * 16).key_ids == KeyRing(("ä" * 16).encode()).key_ids
    assert KeyRing((OLD,)).key_ids == KeyRing(OLD.encode()).key_ids == RING.key_ids


NO_KEYS = [
    *("", b"", "x" * 31, b"x" * 31, "\ud800", OLD + "\n", " " + OLD),
    *([], (), ["x" * 31], [OLD, ""], [7], [None], [OLD, OLD], [OLD, OLD.encode()]),
    *(None, 7, {OLD}, {OLD: 1}, bytearray(64), memoryview(b"x" * 64), range(40), object()),
]


@every_row("secret", NO_KEYS)
def test_what_is_no_good_key_is_refused(secret):
    with pytest.raises(ConfigurationError, match=r"^secret: "):
        KeyRing(secret)


@every_row("secret", ["x" * 31, None, [], ["x"], 7])
def test_the_refusal_says_how_to_make_one(secret):
    with pytest.raises(ConfigurationError, match=r'python -c "import secrets; print\(secrets.token_hex\(32\)\)"$'):
        KeyRing(secret)


def test_a_key_ring_is_immutable():
    for name in ("key_ids", "_keys", "other"):
        with pytest.raises(AttributeError):
            setattr(RING, name, ())
    with pytest.raises(AttributeError):
        del RING.key_ids
    with pytest.raises(TypeError):
        RING._keys["0" * 16] = None
    assert copy.copy(RING) is copy.deepcopy(RING) is RING


@every_row("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_key_ring_is_not_pickled(protocol):
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps([RING], protocol)


def test_a_key_ring_shows_no_key():
    ring = KeyRing([OLD, NEW])
    for text in (repr(ring), str(ring), f"{ring}", f"{[ring]}", f"{ring!r:>100}"):
        assert OLD not in text
        assert NEW not in text
    assert repr(ring) == f"<KeyRing {key_name(OLD)}, {key_name(NEW)}>"


def test_a_key_ring_does_not_even_have_a_key():
    secret = "".join(["s3cr3t-"] * 6)
    ring = KeyRing([secret, secret.upper().encode()])
    seen, waiting = set(), [ring]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, type) and not inspect.ismodule(each):
            seen.add(id(each))
            assert not isinstance(each, (str, bytes)) or secret not in (each if isinstance(each, str) else repr(each))
            waiting.extend(gc.get_referents(each))


LONG = "s3cr3t-" * 9
MALFORMED = [
    *("s3cr3t", b"s3cr3t", LONG + "\n", " " + LONG, [LONG, LONG], [LONG, LONG.encode()], ["s3cr3t\ud800"]),
    *(
        [LONG, "s3cr3t"],
        [[LONG]],
        {LONG: 1},
        {LONG},
        {"secret": LONG},
        [{"key": LONG}],
        [LONG, None],
        bytearray(b"s3cr3t"),
    ),
    *(iter([LONG]), Path(LONG), [Path(LONG)]),
]


@every_row("secret", MALFORMED)
def test_no_error_shows_a_key(secret):
    with pytest.raises(ConfigurationError) as caught:
        KeyRing(secret)
    assert str(caught.value).startswith("secret: ")
    assert "s3cr3t" not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_nothing_is_logged_and_no_error_shows_anything_but_key_names(caplog):
    caplog.set_level(logging.DEBUG)
    shown = []
    for ring, changes in ((RING, {"body": b"other"}), (KeyRing(NEW), {}), (RING, {"audience": "b\n"})):
        try:
            verify(sign(), ring=ring, **changes)
        except NotAuthentic as exc:
            shown.append("".join(traceback.format_exception(type(exc), exc, exc.__traceback__)) + exc.cause)
    assert len(shown) == 3
    expected = sign()[-64:]
    for text in shown:
        for hidden in (OLD, NEW, expected, NONCE):
            assert hidden not in text
    assert not caplog.records


def test_a_cause_repeats_nothing_that_came_from_outside():
    for header in ("evil\nline", sign().replace("key=", "key=evil")):
        assert "evil" not in refuses(verify, header)
    assert "evil" not in refuses(verify, sign(), path="evil\n")


def test_a_refusal_survives_pickling():
    error = pickle.loads(pickle.dumps(NotAuthentic("why")))
    assert (str(error), error.cause, type(error)) == (REFUSAL, "why", NotAuthentic)
    assert isinstance(error, CatgaError)

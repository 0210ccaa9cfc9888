"""What a receiver answers, beyond what an adapter may break (``adapter``): subclass both, and give ``exchange``."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.context import current_call
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import BusinessError, ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.results import CatgaResult
from catga_sync.wire.envelope import ResponseEnvelope
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH
from catga_sync.wire.signatures import REFUSAL
from tests.tables import every_row

__all__ = [
    "LIMIT", "SECRET", "Answer", "Body", "Call", "Exchanges", "GetUser", "ReceiverContract", "Unhandled", "batch",
    "changed", "envelope", "invocation", "payload_of", "replies_of",
]  # fmt: skip

#: Bytes that the node of these tests reads.
LIMIT = 8192
SECRET = "password=hunter2 /srv/app/secret.py"


@dataclass(frozen=True)
class User:
    user_id: str
    name: str


@message(name="users.Get", aliases=["Acme.Users.GetUser, Acme.Users, Version=1.0.0.0"])
@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str


@message(name="users.Rename")
@dataclass(frozen=True)
class Rename(Request[None]):
    user_id: str = ""


@message(name="users.Count")
@dataclass(frozen=True)
class Count(Query[int]):
    limit: int = 0


@message(name="users.Secret", remote=False)
@dataclass(frozen=True)
class Private(Query[int]):
    pass


@message(name="users.Nobody")
@dataclass(frozen=True)
class Unhandled(Query[int]):
    pass


@message(name="users.Renamed")
@dataclass(frozen=True)
class Renamed(Event):
    user_id: str = ""


class Body(io.RawIOBase):
    """A body that counts what is read of it, and may break off."""

    def __init__(self, data: bytes, *, breaks: Exception | None = None) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._breaks = breaks
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        piece = self._data.read(size)
        self.taken += len(piece)
        if not piece and self._breaks is not None:
            raise self._breaks
        return piece


@dataclass(frozen=True)
class Call:
    """One request, as its sender makes it."""

    body: bytes | Body = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    path: str = INVOKE_PATH
    content_type: str | None = "application/json"
    #: What Content-Length says; "" when there is none, None for the truth.
    length: str | None = None
    #: Whether the server has undone "chunked", so that the body ends where it ends.
    terminated: bool = False
    remote_address: str = "127.0.0.1"
    host: str = "localhost:5001"
    protocol: str = "HTTP/1.1"

    @property
    def stream(self) -> Any:
        return io.BytesIO(self.body) if isinstance(self.body, bytes) else self.body

    @property
    def announced(self) -> str:
        if self.length is not None:
            return self.length
        return str(len(self.body)) if isinstance(self.body, bytes) else ""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def executed(self) -> str | None:
        return self.headers.get("Catga-Executed")

    @property
    def reply(self) -> ResponseEnvelope:
        return ResponseEnvelope.decode(self.body)


def stamp(seconds: float = 0.0) -> str:
    """Return the time so many seconds from now, as it is written on the wire."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def envelope(kind: str = "users.Get", payload: Any = None, **changes: Any) -> dict[str, Any]:
    raw = (
        payload if isinstance(payload, bytes) else json.dumps({"userId": "7"} if payload is None else payload).encode()
    )
    answers = {"users.Get": f"{__name__}.User", "users.Count": "int", "users.Rename": "none"}
    return {
        "requestTypeName": kind,
        "responseTypeName": answers.get(kind, "none"),
        "payloadData": base64.b64encode(raw).decode(),
        "sourceNodeId": "node-2",
        "requestId": "r-1",
        "timestamp": stamp(),
        **changes,
    }


def invocation(
    kind: str = "users.Get", payload: Any = None, headers: Mapping[str, str] | None = None, **changes: Any
) -> Call:
    """Return the call for a request of that type with that payload; ``changes`` are properties of the envelope."""
    return Call(json.dumps(envelope(kind, payload, **changes)).encode(), headers or {})


def batch(*items: Any, headers: Mapping[str, str] | None = None) -> Call:
    """Return the call for several envelopes at once."""
    return Call(json.dumps({"requests": items}).encode(), headers or {}, path=BATCH_PATH)


def replies_of(answer: Answer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(answer.body)["responses"]
    return found


def changed(call: Call, **changes: Any) -> Call:
    cells = {name: getattr(call, name) for name in Call.__dataclass_fields__}
    return Call(**{**cells, **changes})


def payload_of(answer: Answer) -> Any:
    payload = answer.reply.payload
    return None if payload is None else json.loads(payload)


BAD_ENVELOPES = {
    "nothing": b"",
    "garbage": b"not json",
    "truncated": json.dumps(envelope()).encode()[:-1],
    "null": b"null",
    "list": b"[]",
    "text": b'"users.Get"',
    "not utf-8": b'{"requestId":"\xff"}',
    "utf-16": json.dumps(envelope()).encode("utf-16"),
    "utf-32": json.dumps(envelope()).encode("utf-32"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(envelope()).encode(),
    "two": json.dumps(envelope()).encode() * 2,
    "deep list": b"[" * 4000 + b"]" * 4000,
    "deep object": b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "twice": b'{"requestId":"r-1","requestId":"r-1"}',
    "twice in two letter cases": b'{"requestId":"r-1","RequestId":"r-2"}',
    "NaN": b'{"requestId":"r-1","x":NaN}',
    "1e999": b'{"requestId":"r-1","x":1e999}',
    "long integer": b'{"requestId":"r-1","x":' + b"7" * 5000 + b"}",
    "half a pair": b'{"requestId":"\\ud800"}',
}

BAD_PROPERTIES = [
    ("requestTypeName", None), ("requestTypeName", 7), ("requestTypeName", ""), ("requestTypeName", "x" * 1025),
    ("requestTypeName", "a\nb"), ("responseTypeName", None), ("responseTypeName", ["int"]), ("payloadData", None),
    ("payloadData", {"userId": "7"}), ("payloadData", "?"), ("payloadData", "YQ"),
    ("sourceNodeId", 7), ("timestamp", None), ("timestamp", 1769860800), ("timestamp", "yesterday"),
]  # fmt: skip

BAD_IDS = [None, "", 7, True, "a b", "x\n2026-01-01 ERROR forged", "a\x00", "\u202ea", "é", "x" * 129, ["r-1"]]

BAD_PAYLOADS = [
    b"", b"{", b"null", b"[]", b'"x"', b"7", b"{}", b'{"userId":null}', b'{"userId":7}', b'{"userId":true}',
    b'{"userId":"a","userId":"b"}', b'{"userId":"a","UserId":"b"}', b"\xff", b'{"userId":NaN}',
    b"[" * 1000 + b"]" * 1000, b'{"userId":' * 100 + b'"7"' + b"}" * 100, b'{"userId":"\xed\xa0\x80"}',
]  # fmt: skip

HOSTILE_NAMES = [
    "os.system", "builtins.eval", "subprocess.Popen", "../x", "__class__", "users.Get.__init__", "users",
    "antigravity.x", "users.get", "users.Get ", "users.Get\\x00", "Acme.Users", "System.Diagnostics.Process, System",
    "[[", "a,b", ",",
]  # fmt: skip


class Exchanges:
    """A node with handlers, and one way to it: what every contract of a receiver needs."""

    def exchange(self, node: ClusterMediator, call: Call) -> Answer:
        """Hand the call to the node and return what comes back."""
        raise NotImplementedError

    @pytest.fixture
    def ran(self) -> list[Any]:
        """The requests whose handlers have run."""
        return []

    @pytest.fixture
    def local(self, ran: list[Any]) -> Mediator:
        mediator = Mediator()

        def get_user(request: GetUser) -> User:
            ran.append(request)
            return User(request.user_id, "Ada")

        def count(request: Count) -> int:
            ran.append(request)
            return 3

        for kind, handler in ((GetUser, get_user), (Count, count), (Rename, ran.append), (Private, ran.append)):
            mediator.register(kind, handler)
        mediator.registry.register(Unhandled)
        return mediator

    @pytest.fixture
    def node(self, local: Mediator) -> Iterator[ClusterMediator]:
        options = {"endpoint": "http://localhost:5001", "insecure": True, "max_body_bytes": LIMIT}
        with create_cluster(local, node_id="node-1", discovery=MemoryDiscovery(), **options) as made:
            yield made

    def refused(
        self, node: ClusterMediator, call: Call, status: int, code: ErrorCode, request_id: str = "r-1"
    ) -> Answer:
        """Assert that the call is refused before anything runs, and return the answer."""
        answer = self.exchange(node, call)
        reply = answer.reply
        assert (answer.status, reply.error_code) == (status, code), reply.error_message
        assert answer.executed == "0"
        assert (reply.is_success, reply.payload, reply.request_id) == (False, None, request_id)
        assert reply.processed_by_node_id == "node-1"
        assert reply.error_message
        assert len(reply.error_message) <= 512
        assert answer.headers["Content-Type"] == "application/json"
        assert node._local_node.in_flight == 0
        return answer


class ReceiverContract(Exchanges):
    """Not collected itself: its subclasses are."""

    # -- answers -------------------------------------------------------------------------------------------------------

    def test_a_request_is_handled_and_answered(self, node: ClusterMediator, ran: list[Any]) -> None:
        answer = self.exchange(node, invocation())
        assert (answer.status, answer.executed) == (200, "1")
        assert answer.headers["Content-Type"] == "application/json"
        assert int(answer.headers["Content-Length"]) == len(answer.body)
        fields = json.loads(answer.body)
        assert list(fields) == [
            "requestId", "isSuccess", "payloadData", "errorMessage", "processedByNodeId", "processingTimeMs",
        ]  # fmt: skip
        assert base64.b64decode(fields["payloadData"]) == b'{"userId":"7","name":"Ada"}'
        assert (fields["requestId"], fields["isSuccess"], fields["errorMessage"]) == ("r-1", True, None)
        assert fields["processedByNodeId"] == "node-1"
        assert type(fields["processingTimeMs"]) is int
        assert ran == [GetUser("7")]

    def test_a_request_of_a_dotnet_node_is_handled(self, node: ClusterMediator) -> None:
        fields = envelope(
            "Acme.Users.GetUser, Acme.Users, Version=2.0.0.0",
            {"UserId": "7"},
            responseTypeName=f"{__name__}.User",
            requestId="0f8fad5b-d9cb-469f-a165-70867728950e",
            timestamp="2026-01-31T12:00:00.1234567",
        )
        raw = json.dumps({name[0].upper() + name[1:]: value for name, value in fields.items()})
        body = raw.replace("+", "\\u002B").replace("=", "\\u003D").encode()
        answer = self.exchange(node, Call(body, content_type="application/json; charset=utf-8"))
        assert payload_of(answer) == {"userId": "7", "name": "Ada"}
        assert answer.reply.request_id == "0f8fad5b-d9cb-469f-a165-70867728950e"

    def test_an_answer_may_be_nothing(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, invocation("users.Rename"))
        assert (answer.status, answer.executed, answer.reply.is_success) == (200, "1", True)
        assert payload_of(answer) is None

    def test_an_answer_may_be_a_plain_value(self, node: ClusterMediator) -> None:
        assert payload_of(self.exchange(node, invocation("users.Count", {"limit": 5}))) == 3

    @pytest.mark.parametrize(
        ("outcome", "code"),
        [
            (BusinessError("sold out"), "FAILED_PRECONDITION"),
            (BusinessError("sold out", code="shop.sold_out"), "shop.sold_out"),
            (CatgaResult.failure("sold out", "NOT_FOUND"), "NOT_FOUND"),
            (CatgaResult.failure("sold out"), None),
        ],
    )
    def test_a_handler_that_says_no_is_an_answer_like_any_other(
        self, node: ClusterMediator, outcome: Any, code: str | None
    ) -> None:
        def say_no(request: Unhandled) -> object:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        node.register(Unhandled, say_no)
        answer = self.exchange(node, invocation("users.Nobody", {}, responseTypeName="int"))
        assert (answer.status, answer.executed) == (200, "1")
        fields = json.loads(answer.body)
        assert (fields["isSuccess"], fields["payloadData"], fields["errorMessage"]) == (False, None, "sold out")
        assert fields.get("errorCode") == code

    @pytest.mark.parametrize("value", ["three", 1.5, [3], Decimal(3), object()])
    def test_an_answer_of_another_type_is_a_fault_of_the_handler(self, node: ClusterMediator, value: Any) -> None:
        node.register(Unhandled, lambda request: value)
        answer = self.exchange(node, invocation("users.Nobody", {}, responseTypeName="int"))
        assert (answer.status, answer.executed, answer.reply.error_code) == (200, "1", ErrorCode.INTERNAL)
        assert not answer.reply.is_success

    def test_an_answer_that_is_too_long_says_so(self, node: ClusterMediator) -> None:
        @message(name="users.Long")
        @dataclass(frozen=True)
        class Long(Query[str]):
            pass

        node.register(Long, lambda request: "x" * LIMIT)
        answer = self.exchange(node, invocation("users.Long", {}, responseTypeName="str"))
        assert (answer.status, answer.executed, answer.reply.error_code) == (200, "1", ErrorCode.RESOURCE_EXHAUSTED)
        assert len(answer.body) < LIMIT

    # -- types ---------------------------------------------------------------------------------------------------------

    @every_row("name", HOSTILE_NAMES)
    def test_a_type_that_nobody_knows_is_looked_up_and_nothing_else(
        self, node: ClusterMediator, ran: list[Any], name: str
    ) -> None:
        modules = set(sys.modules)
        self.refused(node, invocation(name), 200, ErrorCode.UNIMPLEMENTED)
        roots = {module.partition(".")[0] for module in set(sys.modules) - modules}
        assert name.partition(".")[0] not in roots
        assert ran == []

    def test_a_response_type_is_no_request_type(self, node: ClusterMediator) -> None:
        self.refused(node, invocation(f"{__name__}.User"), 200, ErrorCode.UNIMPLEMENTED)

    def test_a_type_without_a_handler_says_what_to_do(self, node: ClusterMediator) -> None:
        answer = self.refused(
            node, invocation("users.Nobody", {}, responseTypeName="int"), 200, ErrorCode.UNIMPLEMENTED
        )
        assert "users.Nobody" in (answer.reply.error_message or "")

    def test_a_local_type_is_not_for_other_nodes(self, node: ClusterMediator, ran: list[Any]) -> None:
        self.refused(node, invocation("users.Secret", {}), 403, ErrorCode.PERMISSION_DENIED)
        assert ran == []

    @every_row("name", ["int", "none", "users.Get", "Unknown", f"{__name__}.User2", "os.system"])
    def test_a_response_type_that_does_not_belong_to_the_request_is_refused(
        self, node: ClusterMediator, ran: list[Any], name: str
    ) -> None:
        self.refused(node, invocation(responseTypeName=name), 200, ErrorCode.INVALID_ARGUMENT)
        assert ran == []

    @every_row("payload", BAD_PAYLOADS)
    def test_a_payload_that_does_not_fit_is_refused(
        self, node: ClusterMediator, ran: list[Any], payload: bytes
    ) -> None:
        answer = self.refused(node, invocation(payload=payload), 200, ErrorCode.INVALID_ARGUMENT)
        assert "users.Get" in (answer.reply.error_message or "") or "GetUser" in (answer.reply.error_message or "")
        assert ran == []

    @pytest.mark.parametrize(
        "payload", [b'{"USERID":"7"}', b'{"user_id":"7"}', b'{ "userId" : "\\u0037" }', b'{"more":1,"userId":"7"}']
    )
    def test_a_payload_is_read_as_dotnet_writes_it(self, node: ClusterMediator, ran: list[Any], payload: bytes) -> None:
        assert self.exchange(node, invocation(payload=payload)).reply.is_success
        assert ran == [GetUser("7")]

    # -- the envelope --------------------------------------------------------------------------------------------------

    @every_row("body", BAD_ENVELOPES.values(), ids=BAD_ENVELOPES)
    def test_what_is_no_envelope_is_400(self, node: ClusterMediator, ran: list[Any], body: bytes) -> None:
        self.refused(node, Call(body), 400, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert ran == []

    @every_row(("name", "value"), BAD_PROPERTIES)
    def test_a_wrong_property_is_400_and_named(
        self, node: ClusterMediator, ran: list[Any], name: str, value: Any
    ) -> None:
        answer = self.refused(node, invocation(**{name: value}), 400, ErrorCode.INVALID_ARGUMENT)
        assert (answer.reply.error_message or "").startswith(f"{name}: ")
        assert ran == []

    @every_row("value", BAD_IDS)
    def test_a_wrong_request_id_is_400_and_never_echoed(self, node: ClusterMediator, value: Any) -> None:
        answer = self.refused(node, invocation(requestId=value), 400, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert b"forged" not in answer.body

    def test_the_header_tells_the_request_id_where_the_envelope_cannot(self, node: ClusterMediator) -> None:
        headers = {"Catga-Request-Id": "from-header"}
        self.refused(node, Call(b"{", headers), 400, ErrorCode.INVALID_ARGUMENT, "from-header")
        self.refused(
            node, changed(invocation(headers=headers), method="PUT"), 405, ErrorCode.UNIMPLEMENTED, "from-header"
        )
        self.refused(node, invocation(requestId="", headers=headers), 400, ErrorCode.INVALID_ARGUMENT, "from-header")

    def test_the_envelope_s_own_request_id_counts_where_it_can_be_read(self, node: ClusterMediator) -> None:
        headers = {"Catga-Request-Id": "from-header"}
        self.refused(node, invocation(payloadData="?", headers=headers), 400, ErrorCode.INVALID_ARGUMENT, "r-1")
        assert self.exchange(node, invocation(headers=headers)).reply.request_id == "r-1"

    @pytest.mark.parametrize(
        "call",
        [
            invocation(requestId="x\n2026-01-01 00:00:00 ERROR forged"),
            invocation("unknown", sourceNodeId="x\r\nERROR forged"),
            invocation("x\u2028ERROR forged"),
            invocation("unknown\\nERROR forged"),
            invocation(payload=b'{"x\\nERROR forged":1}'),
            Call(b"{", {"Catga-Timeout-Ms": "1\x0bERROR forged"}),
            Call(b'{"requestId":"r-1","x\\nERROR forged":NaN}'),
        ],
        ids=["id", "source", "separator", "name", "payload", "timeout", "json"],
    )
    def test_a_refusal_is_one_line_of_the_log_whatever_is_in_the_request(
        self, node: ClusterMediator, call: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "catga_sync")
        self.exchange(node, call)
        lines = [record.getMessage() for record in caplog.records if record.name == "catga_sync.receiver.receiver"]
        assert len(lines) == 1
        assert lines[0].isprintable()

    def test_no_coding_at_all_may_be_said_aloud(self, node: ClusterMediator) -> None:
        assert self.exchange(node, invocation(headers={"Content-Encoding": "identity"})).status == 200

    # -- routes and callers --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("path", "allowed"), [(INVOKE_PATH, "POST"), (NODE_PATH, "GET")])
    def test_a_405_says_which_method_would_do(self, node: ClusterMediator, path: str, allowed: str) -> None:
        answer = self.exchange(node, changed(invocation(), method="PUT", path=path))
        assert allowed in answer.headers["Allow"]

    STRANGERS: ClassVar[dict[str, dict[str, Any]]] = {
        "address": {"remote_address": "10.0.0.1"},
        "no address": {"remote_address": ""},
        "host": {"host": "evil.example.com"},
        "rebound host": {"host": "localhost.evil.example.com"},
        "proxy": {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        "nginx": {"headers": {"X-Real-IP": "127.0.0.1"}},
        "standard": {"headers": {"Forwarded": "for=127.0.0.1"}},
        "via": {"headers": {"Via": "1.1 proxy"}},
        "nginx as it comes": {"protocol": "HTTP/1.0"},
        "cluster": {"headers": {"X-Cluster-Client-IP": "127.0.0.1"}},
        "page": {"headers": {"Origin": "http://evil.example"}},
        "own page": {"headers": {"Origin": "http://localhost:5001"}},
        "page without a name": {"headers": {"Origin": "null"}},
        "site": {"headers": {"Sec-Fetch-Site": "cross-site"}},
        "same site": {"headers": {"Sec-Fetch-Site": "same-site"}},
        "same origin": {"headers": {"Sec-Fetch-Site": "same-origin"}},
    }

    @every_row("changes", STRANGERS.values(), ids=STRANGERS)
    def test_an_unsigned_call_that_does_not_come_straight_from_loopback_is_403_and_not_read(
        self, node: ClusterMediator, ran: list[Any], changes: dict[str, Any]
    ) -> None:
        body = Body(json.dumps(envelope()).encode())
        self.refused(node, Call(body, length="300", **changes), 403, ErrorCode.PERMISSION_DENIED, "unknown")
        assert body.taken == 0
        assert ran == []

    @every_row("changes", STRANGERS.values(), ids=STRANGERS)
    def test_a_stranger_does_not_get_the_description_of_the_node_either(
        self, node: ClusterMediator, changes: dict[str, Any]
    ) -> None:
        call = Call(method="GET", path=NODE_PATH, **changes)
        answer = self.refused(node, call, 403, ErrorCode.PERMISSION_DENIED, "unknown")
        assert b"users.Get" not in answer.body

    @pytest.mark.parametrize("changes", STRANGERS.values(), ids=STRANGERS)
    def test_a_node_that_is_insecure_by_intention_serves_anybody_but_web_pages(
        self, local: Mediator, ran: list[Any], changes: dict[str, Any]
    ) -> None:
        is_page = not {"Origin", "Sec-Fetch-Site"}.isdisjoint(changes.get("headers", {}))
        with create_cluster(local, node_id="node-1", discovery=MemoryDiscovery(), insecure=True) as node:
            assert self.exchange(node, changed(invocation(), **changes)).status == (403 if is_page else 200)
        assert bool(ran) is not is_page

    def test_a_node_says_what_it_is(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, Call(method="GET", path=NODE_PATH, content_type=None))
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.executed == "0"
        described = json.loads(answer.body)
        assert (described["nodeId"], described["status"]) == ("node-1", "ONLINE")
        assert described["handles"] == ["users.Count", "users.Get", "users.Rename"]
        assert set(described["contracts"]) == {"users.Count", "users.Get", "users.Rename"}
        assert "users.Secret" not in answer.body.decode()

    def test_a_description_is_for_asking_only(self, node: ClusterMediator) -> None:
        self.refused(node, changed(invocation(), path=NODE_PATH), 405, ErrorCode.UNIMPLEMENTED, "unknown")

    # -- time ----------------------------------------------------------------------------------------------------------

    @every_row("text", ["0", "-1", "-0", "-1000000", " 0 ", "-" + "9" * 20])
    def test_a_call_whose_time_is_up_is_504_and_not_started(
        self, node: ClusterMediator, ran: list[Any], text: str
    ) -> None:
        call = invocation(headers={"Catga-Timeout-Ms": text})
        self.refused(node, call, 504, ErrorCode.DEADLINE_EXCEEDED)
        assert ran == []

    @pytest.mark.parametrize(
        ("text", "most"), [(None, 30.0), ("60000", 60.0), (" 60000 ", 60.0), ("300001", 300.0), (str(10**18), 300.0)]
    )
    def test_a_handler_has_the_time_that_the_caller_has_left_and_five_minutes_at_most(
        self, node: ClusterMediator, text: str | None, most: float
    ) -> None:
        seen: list[float | None] = []
        node.register(Unhandled, lambda request: seen.append(current_call().remaining()))
        headers = {} if text is None else {"Catga-Timeout-Ms": text}
        self.exchange(node, invocation("users.Nobody", {}, headers, responseTypeName="int"))
        (left,) = seen
        assert left is not None
        assert 0 < left <= most
        assert most - left < 10

    def test_a_request_that_was_sent_too_long_ago_is_504_and_not_started(
        self, node: ClusterMediator, ran: list[Any]
    ) -> None:
        call = invocation(headers={"Catga-Timeout-Ms": "1000"}, timestamp=stamp(-70))
        self.refused(node, call, 504, ErrorCode.DEADLINE_EXCEEDED)
        assert ran == []

    @pytest.mark.parametrize("sent", [-2, 0, 60, 86400])
    def test_clocks_may_differ(self, node: ClusterMediator, sent: float) -> None:
        call = invocation(headers={"Catga-Timeout-Ms": "20000"}, timestamp=stamp(sent))
        assert self.exchange(node, call).status == 200

    def test_the_clock_of_a_sender_that_gives_no_time_does_not_matter(self, node: ClusterMediator) -> None:
        assert self.exchange(node, invocation(timestamp="0001-01-01T00:00:00")).status == 200

    def test_a_draining_node_is_503_and_names_itself(self, node: ClusterMediator, ran: list[Any]) -> None:
        node._local_node.drain()
        call = invocation(headers={"Catga-Request-Id": "r-9"})
        answer = self.refused(node, call, 503, ErrorCode.UNAVAILABLE, "r-9")
        assert "node-1" in (answer.reply.error_message or "")
        assert ran == []

    def test_a_busy_node_is_503_and_takes_the_next_call_when_it_has_room(self, local: Mediator, ran: list[Any]) -> None:
        options = {"discovery": MemoryDiscovery(), "max_concurrency": 1, "insecure": True}
        with create_cluster(local, node_id="node-1", **options) as node:
            inner: list[Answer] = []

            def handler(request: Unhandled) -> None:
                inner.append(self.exchange(node, invocation(requestId="r-2")))

            node.register(Unhandled, handler)
            assert self.exchange(node, invocation("users.Nobody", {}, responseTypeName="int")).status == 200
            (refused,) = inner
            assert (refused.status, refused.executed) == (503, "0")
            assert refused.reply.error_code is ErrorCode.RESOURCE_EXHAUSTED
            assert ran == []
            assert self.exchange(node, invocation(requestId="r-3")).status == 200

    def test_a_request_id_runs_once_and_is_answered_twice(self, node: ClusterMediator, ran: list[Any]) -> None:
        first, second = self.exchange(node, invocation()), self.exchange(node, invocation())
        assert payload_of(first) == payload_of(second)
        assert (first.executed, second.executed) == ("1", "1")
        assert (first.headers.get("Catga-Replayed"), second.headers.get("Catga-Replayed")) == (None, "1")
        assert ran == [GetUser("7")]

    def test_a_request_id_is_good_for_one_payload(self, node: ClusterMediator, ran: list[Any]) -> None:
        self.exchange(node, invocation())
        answer = self.refused(node, invocation(payload={"userId": "8"}), 200, ErrorCode.INVALID_ARGUMENT)
        assert answer.reply.payload is None
        assert ran == [GetUser("7")]

    @pytest.mark.parametrize("signature", [None, "", "x", "catga-hmac-v1 alg=none", "\u00e9"])
    def test_an_unsigned_call_to_a_node_with_a_secret_is_401_whatever_is_wrong(
        self, local: Mediator, ran: list[Any], signature: str | None
    ) -> None:
        options = {"discovery": MemoryDiscovery(), "secret": "k" * 32}
        with create_cluster(local, node_id="node-1", **options) as node:
            headers = {} if signature is None else {"Catga-Signature": signature}
            answer = self.refused(node, invocation(headers=headers), 401, ErrorCode.UNAUTHENTICATED, "unknown")
            assert answer.reply.error_message == REFUSAL
            assert ran == []

    @pytest.mark.parametrize(
        "signature",
        [
            None,
            "x",
            "catga-hmac-v1 alg=none",
            f"catga-hmac-v1 key={'0' * 16};ts=1;nonce={'0' * 32};incarnation=;mac={'0' * 64}",
        ],
        ids=["none", "garbage", "another way", "another key"],
    )
    def test_the_body_of_a_call_that_names_no_key_of_the_node_is_not_read(
        self, local: Mediator, signature: str | None
    ) -> None:
        body = Body(json.dumps(envelope()).encode())
        headers = {} if signature is None else {"Catga-Signature": signature}
        options = {"discovery": MemoryDiscovery(), "secret": "k" * 32}
        with create_cluster(local, node_id="node-1", **options) as node:
            self.refused(node, Call(body, headers, length="300"), 401, ErrorCode.UNAUTHENTICATED, "unknown")
        assert body.taken == 0

    # -- the handler's side --------------------------------------------------------------------------------------------

    def test_a_handler_knows_its_call(self, node: ClusterMediator) -> None:
        seen: list[Any] = []
        node.register(Unhandled, lambda request: seen.append((current_call(), node._local_node.in_flight)))
        trace = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "vendor=x"}
        self.exchange(node, invocation("users.Nobody", {}, trace, responseTypeName="int", requestId="r-7"))
        ((call, in_flight),) = seen
        assert (call.request_id, call.source_node_id) == ("r-7", "node-2")
        assert (call.traceparent, call.tracestate) == (trace["traceparent"], trace["tracestate"])
        assert (call.baggage, call.node_id) == (None, "node-1")
        assert in_flight == 1
        assert current_call() is None
        assert node._local_node.in_flight == 0

    # -- events --------------------------------------------------------------------------------------------------------

    def test_an_event_reaches_every_subscriber(self, node: ClusterMediator) -> None:
        heard: list[Any] = []
        node.subscribe(Renamed, lambda event: heard.append(("first", event)))
        node.subscribe(Renamed, lambda event: heard.append(("second", event)))
        answer = self.exchange(node, invocation("users.Renamed"))
        assert (answer.status, answer.executed, answer.reply.is_success) == (200, "1", True)
        assert payload_of(answer) is None
        assert heard == [("first", Renamed("7")), ("second", Renamed("7"))]

    def test_a_subscriber_that_fails_is_a_failure_as_it_is_locally(self, node: ClusterMediator) -> None:
        def fail(event: Renamed) -> None:
            raise BusinessError("not today", code="shop.closed")

        node.subscribe(Renamed, fail)
        answer = self.exchange(node, invocation("users.Renamed"))
        assert (answer.reply.is_success, answer.reply.error_code) == (False, "shop.closed")

    def test_a_subscriber_knows_its_call(self, node: ClusterMediator) -> None:
        seen: list[Any] = []
        node.subscribe(Renamed, lambda event: seen.append(current_call()))
        self.exchange(node, invocation("users.Renamed", headers={"Catga-Timeout-Ms": "5000"}))
        (call,) = seen
        assert call is not None
        assert call.request_id == "r-1"
        assert call.remaining() <= 5.0

    # -- several at once -------------------------------------------------------------------------------------------

    def test_a_batch_is_answered_in_order_and_each_item_fails_alone(
        self, node: ClusterMediator, ran: list[Any]
    ) -> None:
        def say_no(request: Unhandled) -> object:
            raise BusinessError("sold out")

        node.register(Unhandled, say_no)
        answer = self.exchange(
            node,
            batch(
                envelope(payload={"userId": "1"}, requestId="r-1"),
                envelope("users.Nobody", {}, responseTypeName="int", requestId="r-2"),
                envelope("no.such.type", requestId="r-3"),
                envelope(payload={"userId": 7}, requestId="r-4"),
                envelope(payloadData="?", requestId="r-5"),
                "no envelope",
                envelope("users.Secret", {}, requestId="r-7"),
                envelope(payload={"userId": "8"}, requestId="r-8"),
            ),
        )
        assert answer.status == 200
        replies = replies_of(answer)
        assert [each["requestId"] for each in replies] == ["r-1", "r-2", "r-3", "r-4", "r-5", "unknown", "r-7", "r-8"]
        assert [each["executed"] for each in replies] == ["1", "1", "0", "0", "0", "0", "0", "1"]
        assert [each.get("errorCode") for each in replies] == [
            None, "FAILED_PRECONDITION", "UNIMPLEMENTED", "INVALID_ARGUMENT", "INVALID_ARGUMENT", "INVALID_ARGUMENT",
            "PERMISSION_DENIED", None,
        ]  # fmt: skip
        assert ran == [GetUser("1"), GetUser("8")]

    @every_row(
        "body",
        [b"", b"[]", b"{}", b'{"requests":[]}', b'{"requests":{}}', b'{"requests":null}', b'{"requests":"x"}', b"\xff"],
    )
    def test_what_is_no_batch_is_400(self, node: ClusterMediator, body: bytes) -> None:
        self.refused(node, Call(body, path=BATCH_PATH), 400, ErrorCode.INVALID_ARGUMENT, "unknown")

    def test_an_item_that_raises_keeps_no_other_from_its_answer(
        self, node: ClusterMediator, ran: list[Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(request: Unhandled) -> int:
            raise ValueError(SECRET)

        node.register(Unhandled, fail)
        bad = envelope("users.Nobody", {}, responseTypeName="int", requestId="r-1")
        answer = self.exchange(node, batch(bad, envelope(requestId="r-2")))
        assert [each["isSuccess"] for each in replies_of(answer)] == [False, True]
        assert b"hunter2" not in answer.body
        assert "hunter2" in caplog.text

    def test_the_items_of_a_batch_share_its_time(self, node: ClusterMediator) -> None:
        seen: list[Any] = []
        node.register(Unhandled, lambda request: seen.append(current_call().deadline.at))
        items = [envelope("users.Nobody", {}, responseTypeName="int", requestId=f"r-{number}") for number in range(3)]
        before = time.monotonic()
        self.exchange(node, batch(*items, headers={"Catga-Timeout-Ms": "5000"}))
        assert len(seen) == 3
        assert max(seen) == seen[0]
        assert before + 5.0 <= seen[0] <= time.monotonic() + 5.0, "the time that the caller has left, since it came"

    def test_the_answers_of_a_batch_are_together_no_longer_than_one_may_be(self, node: ClusterMediator) -> None:
        @message(name="users.Long")
        @dataclass(frozen=True)
        class Long(Query[str]):
            pass

        node.register(Long, lambda request: "x" * (LIMIT // 2))
        items = [envelope("users.Long", {}, responseTypeName="str", requestId=f"r-{number}") for number in range(4)]
        answer = self.exchange(node, batch(*items))
        assert len(answer.body) <= LIMIT
        assert [each["executed"] for each in replies_of(answer)] == ["1"] * 4

    @pytest.mark.parametrize("text", ["x" * 500, "é" * 300, "sold out"], ids=["long", "not ASCII", "short"])
    @pytest.mark.parametrize("code", ["NOT_FOUND", "SOLD_OUT"])
    def test_failures_of_a_batch_that_are_together_too_long_lose_their_texts_and_never_what_became_of_them(
        self, node: ClusterMediator, text: str, code: str
    ) -> None:
        @message(name="users.Fails")
        @dataclass(frozen=True)
        class Fails(Query[str]):
            pass

        node.register(Fails, lambda request: CatgaResult.failure(text, code))
        items = [envelope("users.Fails", {}, responseTypeName="str", requestId=f"r-{n}") for n in range(LIMIT // 300)]
        answer = self.exchange(node, batch(*items))
        assert (answer.status, len(answer.body) <= LIMIT) == (200, True)
        replies = replies_of(answer)
        assert [each["executed"] for each in replies] == ["1"] * len(items)
        assert not any(each["isSuccess"] for each in replies)
        assert {each["errorCode"] for each in replies} == {code}
        assert all(text.startswith(each["errorMessage"]) for each in replies)

    def test_failures_of_a_batch_whose_codes_are_too_long_keep_what_became_of_them(self, node: ClusterMediator) -> None:
        node.register(Unhandled, lambda request: CatgaResult.failure("sold out", "\N{SNOWMAN}" * 128))
        items = [envelope("users.Nobody", {}, responseTypeName="int", requestId=f"r-{n}") for n in range(LIMIT // 300)]
        answer = self.exchange(node, batch(*items))
        assert (answer.status, len(answer.body) <= LIMIT) == (200, True)
        assert [each["executed"] for each in replies_of(answer)] == ["1"] * len(items)

    def test_a_batch_whose_responses_cannot_fit_is_refused_before_anything_of_it_runs(
        self, node: ClusterMediator
    ) -> None:
        runs: list[Any] = []
        node.register(Unhandled, runs.append)
        # As short as a request may be, so that so many of them fit in where their responses do not fit out.
        item = {"requestTypeName": "users.Nobody", "responseTypeName": "int", "payloadData": "e30="}
        items = [{**item, "requestId": f"r-{n}", "timestamp": "2026-01-31T12:00:00"} for n in range(LIMIT // 160)]
        body = json.dumps({"requests": items}, separators=(",", ":")).encode()
        answer = self.exchange(node, Call(body, path=BATCH_PATH))
        assert (len(body) < LIMIT, answer.status, runs) == (True, 413, [])
        assert answer.headers["Catga-Executed"] == "0"
        assert "responses to so many requests" in json.loads(answer.body)["errorMessage"]

    # -- going offline ---------------------------------------------------------------------------------------------

    @every_row("changes", STRANGERS.values(), ids=STRANGERS)
    def test_a_node_goes_offline_for_no_stranger(self, node: ClusterMediator, changes: dict[str, Any]) -> None:
        self.refused(node, Call(path=DRAIN_PATH, **changes), 403, ErrorCode.PERMISSION_DENIED, "unknown")
        assert not node._local_node.draining

    @every_row("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
    def test_what_any_page_may_send_takes_no_node_offline(
        self, node: ClusterMediator, content_type: str | None
    ) -> None:
        call = Call(path=DRAIN_PATH, content_type=content_type)
        self.refused(node, call, 415, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert not node._local_node.draining

    def test_looking_at_the_drain_route_changes_nothing(self, node: ClusterMediator) -> None:
        self.refused(node, Call(method="GET", path=DRAIN_PATH), 405, ErrorCode.UNIMPLEMENTED, "unknown")
        assert not node._local_node.draining

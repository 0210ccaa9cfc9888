"""
What an adapter may break between a web server and the receiver: headers, bodies, lengths, paths, methods, addresses.

Subclass ``AdapterContract`` and give ``exchange``. What the receiver makes of a request once it has one is in
``receiver``; here are the cases in which the adapter reads, passes on, or writes something.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.context import current_call
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.wire.compression import codings
from catga_sync.wire.routes import BATCH_PATH, DRAIN_PATH, INVOKE_PATH, NODE_PATH
from tests.contracts.receiver import (
    LIMIT,
    SECRET,
    Answer,
    Body,
    Call,
    Exchanges,
    GetUser,
    Unhandled,
    batch,
    changed,
    envelope,
    invocation,
    payload_of,
    replies_of,
)
from tests.tables import every_row

__all__ = ["AdapterContract"]


def whole() -> bytes:
    """Return the body of a good call."""
    return json.dumps(envelope()).encode()


class AdapterContract(Exchanges):
    """Not collected itself: its subclasses are."""

    # -- the response --------------------------------------------------------------------------------------------------

    def test_status_headers_and_body_of_a_response_come_through(self, node: ClusterMediator, ran: list[Any]) -> None:
        answer = self.exchange(node, invocation())
        assert (answer.status, answer.executed) == (200, "1")
        assert answer.headers["Content-Type"] == "application/json"
        assert int(answer.headers["Content-Length"]) == len(answer.body)
        assert payload_of(answer) == {"userId": "7", "name": "Ada"}
        assert ran == [GetUser("7")]

    def test_a_response_that_is_replayed_says_so(self, node: ClusterMediator, ran: list[Any]) -> None:
        first, second = self.exchange(node, invocation()), self.exchange(node, invocation())
        assert (first.headers.get("Catga-Replayed"), second.headers.get("Catga-Replayed")) == (None, "1")
        assert payload_of(first) == payload_of(second)
        assert ran == [GetUser("7")]

    def test_a_batch_comes_through(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, batch(envelope(requestId="r-1"), "no envelope", envelope(requestId="r-3")))
        assert answer.status == 200
        assert [each["executed"] for each in replies_of(answer)] == ["1", "0", "1"]

    def test_a_node_describes_itself(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, Call(method="GET", path=NODE_PATH, content_type=None))
        assert (answer.status, json.loads(answer.body)["nodeId"]) == (200, "node-1")

    def test_a_node_goes_offline_when_it_is_asked_to(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, Call(path=DRAIN_PATH))
        assert (answer.status, json.loads(answer.body)["nodeId"]) == (200, "node-1")
        self.refused(node, invocation(headers={"Catga-Request-Id": "r-1"}), 503, ErrorCode.UNAVAILABLE)
        assert self.exchange(node, Call(method="GET", path=NODE_PATH)).status == 200

    def test_a_fault_of_the_node_is_500_without_a_word_of_the_inside(
        self, node: ClusterMediator, local: Mediator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*args: Any, **options: Any) -> Any:
            raise RuntimeError(SECRET)

        monkeypatch.setattr(local, "dispatch", broken)
        answer = self.exchange(node, invocation())
        assert (answer.status, answer.reply.error_code) == (500, ErrorCode.INTERNAL)
        assert answer.executed != "0"
        assert answer.reply.request_id == "r-1"
        assert b"hunter2" not in answer.body
        assert "hunter2" in caplog.text
        assert node._local_node.in_flight == 0

    @pytest.mark.parametrize("error", [ValueError(SECRET), OSError(2, SECRET), KeyError(SECRET)])
    def test_the_text_of_an_exception_stays_with_the_node(
        self, node: ClusterMediator, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(request: Unhandled) -> int:
            raise error

        node.register(Unhandled, fail)
        answer = self.exchange(node, invocation("users.Nobody", {}, responseTypeName="int"))
        assert (answer.status, answer.executed, answer.reply.error_code) == (200, "1", ErrorCode.UNKNOWN)
        assert b"hunter2" not in answer.body
        assert b"Error" not in answer.body
        assert b"Traceback" not in answer.body
        assert "hunter2" in caplog.text

    def test_calls_at_once_get_their_own_answers(self, node: ClusterMediator) -> None:
        wrong: list[Any] = []

        def call(number: int) -> None:
            for turn in range(20):
                user_id = f"{number}-{turn}"
                answer = self.exchange(node, invocation(payload={"userId": user_id}, requestId=user_id))
                if answer.reply.request_id != user_id or payload_of(answer)["userId"] != user_id:
                    wrong.append((user_id, answer))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []

    # -- headers -------------------------------------------------------------------------------------------------------

    def test_the_headers_of_a_call_reach_its_handler(self, node: ClusterMediator) -> None:
        seen: list[Any] = []
        node.register(Unhandled, lambda request: seen.append((current_call(), current_call().remaining())))
        headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "tracestate": "vendor=x", "baggage": "a=1"}
        headers["Catga-Context"] = "tenant=J%C3%B6rg"
        call = invocation("users.Nobody", {}, {**headers, "Catga-Timeout-Ms": "60000"}, responseTypeName="int")
        self.exchange(node, call)
        ((context, left),) = seen
        assert (context.traceparent, context.tracestate) == (headers["traceparent"], headers["tracestate"])
        assert (context.baggage, dict(context.context)) == ("a=1", {"tenant": "Jörg"})
        assert 50 < left <= 60

    @every_row(
        "text", ["", " ", "1.5", "1e9", "abc", "+5", "0x10", "1,2", "5, 6", "1 0", "--1", "\u00b2", "9" * 21, "NaN"]
    )
    def test_a_time_that_is_no_whole_number_is_400(self, node: ClusterMediator, ran: list[Any], text: str) -> None:
        call = invocation(headers={"Catga-Timeout-Ms": text})
        self.refused(node, call, 400, ErrorCode.INVALID_ARGUMENT)
        assert ran == []

    @every_row("text", ["tenant", "=a", "a=b,a=c", "a=b c", "a=%", "a=%FF", "a=" + "b" * 4_100, ","])
    def test_a_context_that_cannot_be_read_is_400(self, node: ClusterMediator, ran: list[Any], text: str) -> None:
        self.refused(node, invocation(headers={"Catga-Context": text}), 400, ErrorCode.INVALID_ARGUMENT)
        assert ran == []

    @every_row("value", ["a b", "x" * 129, "é", "", '"'])
    def test_a_header_that_is_no_request_id_is_not_echoed(self, node: ClusterMediator, value: str) -> None:
        self.refused(node, Call(b"{", {"Catga-Request-Id": value}), 400, ErrorCode.INVALID_ARGUMENT, "unknown")

    @pytest.mark.parametrize("signature", [None, "", "\u00e9"])
    def test_the_body_of_an_unsigned_call_to_a_node_with_a_secret_is_not_read(
        self, local: Mediator, signature: str | None
    ) -> None:
        body = Body(whole())
        headers = {} if signature is None else {"Catga-Signature": signature}
        options = {"discovery": MemoryDiscovery(), "secret": "k" * 32}
        with create_cluster(local, node_id="node-1", **options) as node:
            self.refused(node, Call(body, headers, length="300"), 401, ErrorCode.UNAUTHENTICATED, "unknown")
        assert body.taken == 0

    @every_row(
        "changes",
        [
            {"remote_address": "10.0.0.1"},
            {"remote_address": ""},
            {"host": "evil.example.com"},
            {"protocol": "HTTP/1.0"},
            {"headers": {"X-Forwarded-For": "127.0.0.1"}},
            {"headers": {"Origin": "null"}},
        ],
        ids=["address", "no address", "host", "protocol", "proxy", "page"],
    )
    def test_where_a_call_comes_from_is_known_before_its_body_is_read(
        self, node: ClusterMediator, ran: list[Any], changes: dict[str, Any]
    ) -> None:
        body = Body(whole())
        self.refused(node, Call(body, length="300", **changes), 403, ErrorCode.PERMISSION_DENIED, "unknown")
        assert body.taken == 0
        assert ran == []

    # -- the body ------------------------------------------------------------------------------------------------------

    @every_row(
        "content_type",
        [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json",
         "application/jsonp", "application/json5", "json", "x, application/json"],
    )  # fmt: skip
    def test_a_body_that_is_not_said_to_be_json_is_415_and_not_read(
        self, node: ClusterMediator, ran: list[Any], content_type: str | None
    ) -> None:
        body = Body(json.dumps(envelope()).encode())
        call = Call(body, content_type=content_type, length="300")
        self.refused(node, call, 415, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert body.taken == 0
        assert ran == []

    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;x"],
    )
    def test_a_charset_and_the_letter_case_change_nothing(self, node: ClusterMediator, content_type: str) -> None:
        assert self.exchange(node, changed(invocation(), content_type=content_type)).status == 200

    @every_row("coding", ["deflate", "gzip, gzip", "identity, gzip", "x"])
    def test_a_coding_that_was_not_offered_is_415_with_those_that_are(
        self, node: ClusterMediator, ran: list[Any], coding: str
    ) -> None:
        call = invocation(headers={"Content-Encoding": coding})
        answer = self.refused(node, call, 415, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert answer.headers["Accept-Encoding"] == ", ".join(codings())
        assert ran == []

    @pytest.mark.parametrize("coding", ["gzip", "GZIP", " x-gzip "])
    def test_a_compressed_call_is_served(self, node: ClusterMediator, ran: list[Any], coding: str) -> None:
        call = Call(gzip.compress(whole()), {"Content-Encoding": coding})
        assert payload_of(self.exchange(node, call)) == {"userId": "7", "name": "Ada"}
        assert ran == [GetUser("7")]

    def test_a_compressed_batch_is_served(self, node: ClusterMediator) -> None:
        call = batch(*(envelope(requestId=f"r-{n}") for n in range(3)), headers={"Content-Encoding": "gzip"})
        assert isinstance(call.body, bytes)
        answer = self.exchange(node, changed(call, body=gzip.compress(call.body)))
        assert [each["executed"] for each in replies_of(answer)] == ["1", "1", "1"]

    @every_row(
        "damage",
        [
            lambda body: whole(),
            lambda body: b"",
            lambda body: body[:-1],
            lambda body: body + b"x",
            lambda body: body + body,
            lambda body: body[:30] + bytes([body[30] ^ 255]) + body[31:],
        ],
        ids=["not compressed", "empty", "ends early", "garbage behind it", "two members", "damaged"],
    )
    def test_a_compressed_call_that_is_damaged_is_400(
        self, node: ClusterMediator, ran: list[Any], damage: Callable[[bytes], bytes]
    ) -> None:
        call = Call(damage(gzip.compress(whole())), {"Content-Encoding": "gzip"})
        answer = self.refused(node, call, 400, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert (answer.reply.error_message or "").startswith("Content-Encoding: gzip: ")
        assert ran == []

    def test_a_compressed_call_may_be_as_long_as_the_limit_to_the_byte(
        self, node: ClusterMediator, ran: list[Any]
    ) -> None:
        full = whole() + b" " * (LIMIT - len(whole()))
        headers = {"Content-Encoding": "gzip"}
        assert self.exchange(node, Call(gzip.compress(full), headers)).executed == "1"
        call = Call(gzip.compress(full + b" "), headers)
        self.refused(node, call, 413, ErrorCode.RESOURCE_EXHAUSTED, "unknown")
        assert len(ran) == 1

    @pytest.mark.parametrize("header", ["Accept-Encoding", "Catga-Accept-Encoding"])
    def test_a_long_response_is_compressed_for_a_caller_that_asks(self, node: ClusterMediator, header: str) -> None:
        asked = invocation(payload={"userId": "7" * 2000}, headers={header: "deflate, gzip;q=0.5"}, requestId="a")
        answer = self.exchange(node, asked)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert int(answer.headers["Content-Length"]) == len(answer.body) < 1024
        plain = Answer(answer.status, answer.headers, gzip.decompress(answer.body))
        assert payload_of(plain) == {"userId": "7" * 2000, "name": "Ada"}

    @pytest.mark.parametrize("asked", [None, "identity", "gzip;q=0", "deflate", "*", "", ";;,,=", "é"])
    def test_a_response_is_as_it_is_for_a_caller_that_asks_for_nothing(
        self, node: ClusterMediator, asked: str | None
    ) -> None:
        headers = {} if asked is None else {"Accept-Encoding": asked}
        answer = self.exchange(node, invocation(payload={"userId": "7" * 2000}, headers=headers))
        assert "Content-Encoding" not in answer.headers
        assert payload_of(answer)["userId"] == "7" * 2000

    def test_a_short_response_is_never_compressed(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, invocation(headers={"Accept-Encoding": "gzip"}))
        assert "Content-Encoding" not in answer.headers
        assert payload_of(answer) == {"userId": "7", "name": "Ada"}

    def test_a_node_without_compression_takes_and_makes_none(self, local: Mediator, ran: list[Any]) -> None:
        options = {"discovery": MemoryDiscovery(), "endpoint": "http://localhost:5001", "insecure": True}
        with create_cluster(local, node_id="node-1", compression="off", **options) as node:
            call = Call(gzip.compress(whole()), {"Content-Encoding": "gzip"})
            answer = self.refused(node, call, 415, ErrorCode.INVALID_ARGUMENT, "unknown")
            assert answer.headers["Accept-Encoding"] == "identity"
            assert ran == []
            asking = invocation(payload={"userId": "7" * 2000}, headers={"Accept-Encoding": "gzip"})
            assert "Content-Encoding" not in self.exchange(node, asking).headers
            assert not node._local_node.describe().features & {"gzip", "br"}

    @every_row(
        "length",
        [str(LIMIT + 1), "1" + "0" * 18, "9" * 19, "1" + "0" * 19, "9" * 30, "0" * 30 + "9" * 30, "9" * 5000],
    )
    @every_row("terminated", [True, False])
    def test_a_body_that_is_announced_too_long_is_413_and_not_read_though_it_is_valid(
        self, node: ClusterMediator, ran: list[Any], length: str, terminated: bool
    ) -> None:
        body = Body(json.dumps(envelope()).encode())
        call = Call(body, length=length, terminated=terminated)
        self.refused(node, call, 413, ErrorCode.RESOURCE_EXHAUSTED, "unknown")
        assert body.taken == 0
        assert ran == []

    def test_a_body_without_length_is_413_as_soon_as_it_is_too_long(self, node: ClusterMediator) -> None:
        body = Body(b" " * LIMIT * 100)
        self.refused(node, Call(body, length="", terminated=True), 413, ErrorCode.RESOURCE_EXHAUSTED, "unknown")
        assert body.taken <= LIMIT + 64 * 1024

    def test_a_chunked_body_needs_no_length(self, node: ClusterMediator) -> None:
        assert self.exchange(node, changed(invocation(), length="", terminated=True)).status == 200

    def test_a_body_may_be_as_long_as_the_limit_to_the_byte(self, node: ClusterMediator) -> None:
        call = invocation()
        assert isinstance(call.body, bytes)
        full = call.body + b" " * (LIMIT - len(call.body))
        assert self.exchange(node, Call(full)).executed == "1"
        assert self.exchange(node, Call(full, length="", terminated=True)).status == 200
        assert self.exchange(node, Call(full + b" ")).status == 413
        assert self.exchange(node, Call(full + b" ", length="", terminated=True)).status == 413

    @every_row("path", [INVOKE_PATH, BATCH_PATH, DRAIN_PATH])
    @every_row("headers", [{}, {"Transfer-Encoding": "chunked"}], ids=["no word of it", "chunked"])
    def test_a_body_whose_end_nobody_knows_is_411_and_not_read_and_says_what_to_do(
        self, node: ClusterMediator, path: str, headers: dict[str, str]
    ) -> None:
        body = Body(json.dumps(envelope()).encode())
        call = Call(body, headers, path=path, length="")
        answer = self.refused(node, call, 411, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert body.taken == 0
        text = answer.reply.error_message or ""
        assert text.startswith("Content-Length: missing")
        assert "send the length (not Transfer-Encoding: chunked)" in text

    @every_row("length", ["abc", "-1", "+5", "1.5", "0x10", "5, 5", "1_0", " ", "\u00b2"])
    @every_row("terminated", [True, False])
    def test_a_length_that_is_no_number_is_400_even_where_the_server_knows_the_end(
        self, node: ClusterMediator, ran: list[Any], length: str, terminated: bool
    ) -> None:
        body = Body(json.dumps(envelope()).encode())
        call = Call(body, length=length, terminated=terminated)
        self.refused(node, call, 400, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert body.taken == 0
        assert ran == []

    @pytest.mark.parametrize("zeros", [1, 30, 5000])
    def test_a_length_may_have_zeros_in_front(self, node: ClusterMediator, zeros: int) -> None:
        call = invocation()
        assert self.exchange(node, changed(call, length="0" * zeros + call.announced)).status == 200

    def test_a_body_that_is_shorter_than_announced_runs_nothing_though_it_is_valid(
        self, node: ClusterMediator, ran: list[Any]
    ) -> None:
        whole = invocation()
        assert isinstance(whole.body, bytes)
        length = str(len(whole.body) + 20)
        self.refused(node, changed(whole, length=length), 400, ErrorCode.INVALID_ARGUMENT, "unknown")
        self.refused(node, changed(whole, length=length, terminated=True), 400, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert ran == []

    def test_nothing_is_read_beyond_the_announced_length(self, node: ClusterMediator) -> None:
        whole = invocation()
        assert isinstance(whole.body, bytes)
        body = Body(whole.body + b"GET / HTTP/1.1\r\n\r\n")
        assert self.exchange(node, Call(body, length=str(len(whole.body)))).status == 200
        assert body.taken == len(whole.body)

    @every_row("error", [OSError("reset"), EOFError(), ValueError("chunk"), TimeoutError()])
    @every_row("terminated", [True, False])
    def test_a_body_that_breaks_off_is_400_and_runs_nothing(
        self, node: ClusterMediator, ran: list[Any], error: Exception, terminated: bool
    ) -> None:
        raw = json.dumps(envelope()).encode()
        length = "" if terminated else str(len(raw) + 1)
        call = Call(Body(raw, breaks=error), length=length, terminated=terminated)
        self.refused(node, call, 400, ErrorCode.INVALID_ARGUMENT, "unknown")
        assert ran == []

    # -- methods -------------------------------------------------------------------------------------------------------

    @every_row("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "FOO"])
    def test_another_method_is_405(self, node: ClusterMediator, ran: list[Any], method: str) -> None:
        self.refused(node, changed(invocation(), method=method), 405, ErrorCode.UNIMPLEMENTED, "unknown")
        assert ran == []

    @every_row(("path", "method"), [(NODE_PATH, "POST"), (DRAIN_PATH, "GET"), (BATCH_PATH, "GET")])
    def test_each_route_has_its_own_method(self, node: ClusterMediator, path: str, method: str) -> None:
        call = changed(invocation(), path=path, method=method)
        self.refused(node, call, 405, ErrorCode.UNIMPLEMENTED, "unknown")

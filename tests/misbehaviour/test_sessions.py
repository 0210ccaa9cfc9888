"""Sessions and adapters of the user's own: what he set holds, and so does what is promised of every call."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from catga_sync import Delivery, ErrorCode
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import EnvelopeInvoker, create_invoker
from tests.misbehaviour import peers
from tests.misbehaviour.calls import (
    Mounted,
    Order,
    every_way,
    few_ways,
    invoke,
    invoking,
    own,
    result_of_a_request_received,
)
from tests.misbehaviour.peers import PEERS, read_request, reply, serving
from tests.processes import free_port

# -- what holds for every session -------------------------------------------------------------------------------------


@few_ways
@pytest.mark.parametrize("script", [peers.drips_its_head, peers.drips_its_body, peers.never_answers])
def test_the_deadline_is_kept(make: Callable[[], requests.Session | None], script: peers.Script) -> None:
    result = result_of_a_request_received(script, make)
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED)


@few_ways
def test_a_failure_is_judged_by_evidence(make: Callable[[], requests.Session | None]) -> None:
    def reads_a_little_then_resets(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1000)
        peers._reset(connection)

    big = create_invoker(MessageRegistry(), session=make(), max_body_bytes=64 * 1024 * 1024)
    with serving(reads_a_little_then_resets) as peer, contextlib.closing(big):
        result = invoke(big, peer.endpoint, Order("x" * 30_000_000))
        assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)
        result = invoke(big, f"http://127.0.0.1:{free_port()}", Order())
        assert (result.delivery, result.code) == (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE)


@every_way
@pytest.mark.parametrize("script", [peers.answers_a_bare_503, peers.closes_after_the_request, peers.closes_at_once])
def test_nothing_below_sends_a_request_twice(make: Callable[[], requests.Session | None], script: peers.Script) -> None:
    with serving(script) as peer, invoking(make()) as invoker:
        assert not invoke(invoker, peer.endpoint, Order())
        assert peer.connections == 1


@every_way
def test_what_traces_an_application_may_add_headers_by_name(
    make: Callable[[], requests.Session | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = urllib3.HTTPConnectionPool.urlopen

    # As OpenTelemetry's instrumentation of urllib3 does it.
    def traced(self: Any, *args: Any, **options: Any) -> Any:
        return real(self, *args, **{**options, "headers": {**(options.get("headers") or {}), "X-Trace": "1"}})

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", traced)
    with serving(peers.answers) as peer, invoking(make()) as invoker:
        assert invoke(invoker, peer.endpoint, Order()).is_success
    (request,) = peer.requests
    assert b"X-Trace: 1" in request
    assert b"Catga-Request-Id: " in request


@every_way
def test_proxies_netrc_and_cookies_stay_out(
    make: Callable[[], requests.Session | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    def sets_a_cookie(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            connection.sendall(reply(request, headers="Set-Cookie: a=b\r\n"))

    session = make()
    if session is not None:
        session.cookies.set("mine", "yes", domain="127.0.0.1", path="/")
    with serving(peers.never_answers) as proxy, serving(sets_a_cookie) as peer, invoking(session) as invoker:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.endpoint)
        assert all(invoke(invoker, peer.endpoint, Order()) for _ in range(2))
        assert proxy.connections == 0
        heads = b"".join(peer.requests).lower()
    assert b"cookie" not in heads
    assert b"authorization" not in heads
    if session is not None:
        assert session.cookies.get_dict() == {"mine": "yes"}
        assert session.trust_env


@every_way
@pytest.mark.parametrize("script", [peers.answers_compressed, peers.has_a_negative_length, peers.sends_endless_hints])
def test_an_answer_that_no_receiver_gives_proves_nothing(
    make: Callable[[], requests.Session | None], script: peers.Script
) -> None:
    delivery, code = PEERS[script]
    with serving(script) as peer, invoking(make()) as invoker:
        result = invoke(invoker, peer.endpoint, Order())
    assert (result.delivery, result.code) == (Delivery[delivery], ErrorCode[code])


@every_way
def test_a_redirect_is_neither_followed_nor_read(make: Callable[[], requests.Session | None]) -> None:
    with serving(peers.answers) as elsewhere:

        def redirects(connection: socket.socket, over: threading.Event) -> None:
            read_request(connection)
            head = f"HTTP/1.1 307 T\r\nLocation: {elsewhere.endpoint}/x\r\nContent-Length: 1000000000\r\n\r\n"
            connection.sendall(head.encode())
            while not over.is_set():
                connection.sendall(b" " * 65536)

        with serving(redirects) as peer, invoking(make()) as invoker:
            result = invoke(invoker, peer.endpoint, Order())
        assert elsewhere.connections == 0
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.RESOURCE_EXHAUSTED)


@every_way
def test_a_connection_is_used_again(make: Callable[[], requests.Session | None]) -> None:
    with serving(peers.answers) as peer, invoking(make()) as invoker:
        assert all(invoke(invoker, peer.endpoint, Order(), keep_alive=60.0) for _ in range(5))
        assert peer.connections == 1


# -- what the user has set --------------------------------------------------------------------------------------------


def test_headers_auth_and_hooks_of_the_session_hold() -> None:
    heard: list[int] = []
    session = own()
    session.headers["X-Team"] = "blue"
    session.auth = ("me", "secret")
    session.hooks["response"].append(lambda response, **_: heard.append(response.status_code))
    with serving(peers.answers) as peer, invoking(session) as invoker:
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
        head = peer.requests[0].lower()
    assert b"x-team: blue" in head
    assert b"authorization: basic bwu6c2vjcmv0" in head
    assert heard == [200]


def test_a_proxy_that_the_user_has_set_is_used() -> None:
    for adapter in (None, Mounted()):
        session = own(adapter)
        with serving(peers.answers) as proxy, invoking(session) as invoker:
            session.proxies["http"] = proxy.endpoint
            assert all(invoke(invoker, "http://users.test:5000", Order(), keep_alive=60.0) for _ in range(2))
            assert all(each.startswith(b"POST http://users.test:5000/catga/") for each in proxy.requests)
            assert proxy.connections == 1


def test_a_token_that_the_session_fetches_first_is_no_evidence() -> None:
    for adapter in (None, Mounted()):
        session = own(adapter)
        session.trust_env = False
        with serving(peers.answers) as shop, invoking(session) as invoker:

            def fetch(request: requests.PreparedRequest) -> requests.PreparedRequest:
                session.post(shop.endpoint, data=b"{}", auth=lambda own: own)  # noqa: B023 - called in this turn
                return request

            session.auth = fetch
            result = invoke(invoker, f"http://127.0.0.1:{free_port()}", Order())
            assert len(shop.requests) == 1
        assert result.delivery is Delivery.NOT_EXECUTED


def test_a_session_that_cannot_make_the_request_has_sent_none() -> None:
    def refuses(request: requests.PreparedRequest) -> requests.PreparedRequest:
        raise RuntimeError("no token")

    session = own(Mounted())
    session.auth = refuses
    with serving(peers.answers) as peer, invoking(session) as invoker:
        assert invoke(invoker, peer.endpoint, Order()).delivery is Delivery.NOT_EXECUTED
        assert peer.connections == 0


def test_a_stock_adapter_of_the_users_own_goes_on_retrying_his_own_calls() -> None:
    adapter = HTTPAdapter(max_retries=Retry(2, status_forcelist=[503], allowed_methods=None, backoff_factor=0))
    session = own(adapter)
    session.trust_env = False
    with serving(peers.answers) as peer, invoking(session) as invoker:
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
    assert session.adapters["http://"] is adapter
    with serving(peers.answers_a_bare_503) as peer, pytest.raises(requests.RequestException):
        session.get(peer.endpoint)
    assert peer.connections > 1


def test_an_adapter_that_the_user_mounted_goes_on_as_ever_with_his_own_calls() -> None:
    adapter = Mounted(max_retries=Retry(2, status_forcelist=[503], allowed_methods=None, backoff_factor=0))
    session = own(adapter)
    session.trust_env = False
    with serving(peers.answers) as peer, invoking(session) as invoker:
        assert session.post(peer.endpoint, data=b"{}").ok
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
        assert len(adapter.seen) == 2
        assert peer.connections == 2  # his connection is none that keeps a deadline
    with serving(peers.answers_a_bare_503) as peer, pytest.raises(requests.RequestException):
        session.get(peer.endpoint)
    assert peer.connections > 1


def test_a_connection_made_for_a_call_of_the_users_own_has_the_time_that_he_gave() -> None:
    session = own(Mounted())
    session.trust_env = False
    with serving(peers.answers) as peer, invoking(session) as invoker:
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
    with serving(peers.answers) as peer:
        assert session.post(peer.endpoint, data=b" " * 20_000_000 + b"{}", timeout=30).ok
    with serving(lambda _, over: over.wait()) as peer, pytest.raises(requests.RequestException, match="timed out"):
        session.post(peer.endpoint, data=b" " * 20_000_000, timeout=0.2)


def test_a_connection_of_the_users_own_calls_may_be_idle_for_as_long_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    session = own(Mounted())
    session.trust_env = False
    with serving(peers.answers) as here, serving(peers.answers) as there, invoking(session) as invoker:
        assert invoke(invoker, here.endpoint, Order())
        monkeypatch.setattr("catga_sync.transport.http.connection.time", Clock)
        for _ in range(3):
            assert session.post(there.endpoint, data=b"{}").ok
            now[0] += 1000
            invoker.tidy([])
        assert there.connections == 1


def test_settings_of_a_stock_adapter_hold() -> None:
    """Its TLS context, its source address: whatever its pools would have been made with."""
    adapter = HTTPAdapter()
    adapter.init_poolmanager(10, 10, source_address=("127.0.0.9", 0))
    seen: list[str] = []

    def answers_whom(connection: socket.socket, over: threading.Event) -> None:
        seen.append(connection.getpeername()[0])
        connection.sendall(reply(read_request(connection)))

    with serving(answers_whom) as peer, invoking(own(adapter)) as invoker:
        assert invoke(invoker, peer.endpoint, Order(), keep_alive=60.0)
    assert seen == ["127.0.0.9"]


# -- responses, which stands in for HTTPAdapter.send ------------------------------------------------------------------


@every_way
@responses.activate
def test_responses_can_stand_in_for_the_peer(make: Callable[[], requests.Session | None]) -> None:
    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        whole = reply(b"\r\n\r\n" + bytes(request.body or b""), payloadData=None, isSuccess=False, errorMessage="no")
        return 200, {}, whole.partition(b"\r\n\r\n")[2].decode()

    responses.add_callback(responses.POST, "http://node.test:5000/catga/cluster/invoke", callback=answer)
    with invoking(make()) as invoker:
        result = invoke(invoker, "http://node.test:5000", Order())
    assert (result.error, result.delivery) == ("no", Delivery.EXECUTED)
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize(
    ("raised", "delivery"),
    [
        (requests.ConnectTimeout(), Delivery.NOT_EXECUTED),
        (requests.ReadTimeout(), Delivery.UNKNOWN),
        (requests.ConnectionError("who knows"), Delivery.UNKNOWN),
    ],
    ids=["connect timeout", "read timeout", "connection error"],
)
def test_without_evidence_only_a_connection_never_made_proves_anything(
    invoker: EnvelopeInvoker, raised: Exception, delivery: Delivery
) -> None:
    responses.add(responses.POST, "http://node.test:5000/catga/cluster/invoke", body=raised)
    assert invoke(invoker, "http://node.test:5000", Order()).delivery is delivery


def test_an_adapter_that_the_user_mounted_is_used() -> None:
    seen = []

    class Noting(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **options: object) -> requests.Response:  # type: ignore[override]
            seen.append(request.url)
            return super().send(request, **options)  # type: ignore[arg-type]

    session = requests.Session()
    session.mount("http://127.0.0.1", Noting())
    session.headers["X-Team"] = "blue"
    mine = create_invoker(MessageRegistry(), session=session)
    with serving(peers.answers) as peer:
        assert invoke(mine, peer.endpoint, Order())
        assert b"x-team: blue" in peer.requests[0].lower()
    assert seen == [f"{peer.endpoint}/catga/cluster/invoke"]
    session.close()

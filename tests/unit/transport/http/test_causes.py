"""Why an exchange brought no response, in words that name the host at which it went wrong."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import requests
from requests.adapters import BaseAdapter

from catga_sync import CatgaResult, Delivery
from catga_sync.transport.http.causes import causes_of, in_words, is_refused
from tests.misbehaviour import peers
from tests.misbehaviour.calls import Order, invoke, invoking
from tests.misbehaviour.peers import serving
from tests.processes import free_port
from tests.tables import every_row


class Failing(BaseAdapter):
    """An adapter of the user's own, without connections of ours."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def send(self, *args: object, **options: object) -> requests.Response:  # type: ignore[override]
        raise self.error

    def close(self) -> None:
        """Nothing is open."""


def through(change: Callable[[requests.Session], object], endpoint: str) -> CatgaResult[None]:
    with requests.Session() as session:
        change(session)
        with invoking(session) as invoker:
            return invoke(invoker, endpoint, Order())


@every_row(
    ("error", "words"),
    [
        (
            requests.ConnectionError("Connection refused by Responses"),
            "ConnectionError: Connection refused by Responses",
        ),
        (requests.ConnectionError(), "ConnectionError"),
        (RuntimeError("no route for tenant 7"), "RuntimeError: no route for tenant 7"),
        (RuntimeError("failed: /token?secret=1 (7)"), "RuntimeError: failed: /token?... (7)"),
        (OSError(113, "No route to host"), "No route to host"),
        (requests.ConnectionError("two\nlines"), "ConnectionError: two\\nlines"),
    ],
)
def test_what_an_adapter_says_is_told_with_the_node(error: Exception, words: str) -> None:
    result = through(lambda session: session.mount("http://", Failing(error)), "http://node.test:5000")
    assert result.error == f"node peer at http://node.test:5000 gave no complete response ({words})"


def test_a_proxy_that_refuses_is_named_and_not_taken_for_the_node() -> None:
    port = free_port()
    result = through(lambda session: session.proxies.update(http=f"http://127.0.0.1:{port}"), "http://node.test:5000")
    assert (
        result.error == f"node peer at http://node.test:5000 cannot be reached (127.0.0.1:{port}: Connection refused)"
    )
    assert result.delivery is Delivery.NOT_EXECUTED


@pytest.mark.parametrize("endpoint", ["http://node.test:5000", "http://127.0.0.1:5000", "http://127.0.0.1"])
def test_a_host_that_authentication_asks_is_named_without_its_secrets(endpoint: str) -> None:
    port = free_port()

    def ask_for_a_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
        with requests.Session() as session:
            session.trust_env = False
            session.get(f"http://user:secret@127.0.0.1:{port}/token?secret=1")
        return request

    result = through(lambda session: setattr(session, "auth", ask_for_a_token), endpoint)
    assert f"(127.0.0.1:{port}: Connection refused)" in str(result.error) or f"//127.0.0.1:{port}: " in str(
        result.error
    )
    assert "secret" not in str(result.error)


@every_row("host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "[::1]"])
def test_the_node_itself_is_not_named_twice(host: str) -> None:
    endpoint = f"http://{host}:{free_port()}"
    with invoking(None) as invoker:
        result = invoke(invoker, endpoint, Order())
    assert result.error == f"node peer at {endpoint} cannot be reached (Connection refused)"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (peers.closes_after_the_request, "the connection was closed without a response"),
        (peers.resets_after_the_request, "Connection reset by peer"),
    ],
)
def test_a_connection_that_broke_is_told_with_the_node(script: peers.Script, words: str) -> None:
    with serving(script) as peer, invoking(None) as invoker:
        result = invoke(invoker, peer.endpoint, Order())
    assert result.error == f"node peer at {peer.endpoint} gave no complete response ({words})"


def test_a_name_that_is_not_found_is_told_with_the_node() -> None:
    with invoking(None) as invoker:
        result = invoke(invoker, "http://no-such-host.invalid:5000", Order())
    assert str(result.error).startswith(
        "node peer at http://no-such-host.invalid:5000 cannot be reached (the host name "
    )


def test_causes_that_go_in_circles_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(causes_of(first)) == [first, second]
    assert in_words(first, "http://a:1") == "ValueError: b"


def test_a_refusal_is_found_however_deep_it_is() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with requests.Session() as session:
            session.trust_env = False
            with pytest.raises(requests.ConnectionError) as raised:
                session.get(f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert is_refused(raised.value)
    assert not is_refused(requests.ConnectionError("refused"))


def test_a_cause_is_as_long_as_a_line_may_be() -> None:
    assert len(in_words(ValueError("x" * 10_000), "http://a:1")) <= 200

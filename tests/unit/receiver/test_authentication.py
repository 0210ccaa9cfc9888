"""Who may call an unsigned node: only what comes straight from its own machine."""

import pytest

from catga_sync.receiver.authentication import unsigned_refusal
from tests.tables import every_row

LOCAL = {"host": "localhost:5001"}


@every_row("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@every_row(
    "host",
    ["localhost", "localhost:5001", "LOCALHOST:1", "localhost.", "node.localhost:80", "127.0.0.1:5001", "[::1]:5001"],
)
def test_a_direct_call_from_loopback_is_let_in(address, host):
    assert unsigned_refusal(address, {"host": host, "user-agent": "catga-sync"}) is None


@every_row(
    "address",
    [
        "10.0.0.1", "192.168.1.7", "8.8.8.8", "::ffff:10.0.0.1", "fe80::1", "0.0.0.0", "::", "128.0.0.1", "", None,
        "localhost", "unix:", "127.0.0.1:80", "not an address", "127.0.0.1, 10.0.0.1", "2130706433", "127.1",
    ],
)  # fmt: skip
def test_a_call_from_anywhere_else_is_refused(address):
    assert unsigned_refusal(address, LOCAL) is not None


@every_row(
    "host",
    [
        "example.com", "example.com:80", "localhost.example.com", "127.0.0.1.example.com", "10.0.0.1", "evil-localhost",
        "0.0.0.0", "[::]", "[fe80::1]", "", " ", "127.0.0.1@example.com", "[", "[::1", "localhost:x@y", "2130706433",
    ],
)  # fmt: skip
def test_a_call_under_another_name_is_refused(host):
    assert unsigned_refusal("127.0.0.1", {"host": host}) is not None


def test_a_call_without_a_host_is_refused():
    assert unsigned_refusal("127.0.0.1", {}) is not None


@pytest.mark.parametrize("host", ["example.com[::1]", "[::1]example.com", "example.com[::1]:80"])
def test_a_name_with_a_loopback_address_in_it_is_not_loopback(host):
    assert unsigned_refusal("127.0.0.1", {"host": host}) is not None


@every_row(
    "header",
    [
        "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
        "x-forwarded-by-something-new", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip", "client-ip",
        "x-forwarded", "x-cluster-client-ip", "x-original-forwarded-for", "x-original-host", "fastly-client-ip",
        "x-envoy-external-address",
    ],
)  # fmt: skip
@every_row("value", ["127.0.0.1", "10.0.0.1", ""])
def test_what_a_proxy_passes_on_is_refused_whatever_it_says(header, value):
    assert "proxy" in unsigned_refusal("127.0.0.1", {**LOCAL, header: value})


def test_what_speaks_http_1_0_is_no_caller_of_ours_but_nginx_as_it_comes():
    assert "proxy" in unsigned_refusal("127.0.0.1", LOCAL, "HTTP/1.0")
    assert unsigned_refusal("127.0.0.1", LOCAL, "HTTP/1.1") is None


def test_what_our_own_callers_send_is_let_in():
    names = [
        "user-agent", "accept", "accept-encoding", "connection", "content-type", "content-length", "traceparent",
        "tracestate", "catga-request-id", "catga-timeout-ms", "catga-chain", "catga-store", "baggage",
        "catga-context",
    ]  # fmt: skip
    assert unsigned_refusal("127.0.0.1", {**LOCAL, **dict.fromkeys(names, "x")}) is None


@every_row(
    ("header", "value"),
    [
        ("origin", "http://evil.example"), ("origin", "null"), ("origin", "http://localhost:5001"), ("origin", ""),
        ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", ""), ("sec-fetch-site", "None"),
    ],
)  # fmt: skip
def test_what_a_page_in_a_browser_sends_is_refused_wherever_the_page_is_from(header, value):
    assert "web page" in unsigned_refusal("127.0.0.1", {**LOCAL, header: value})


def test_a_user_may_look_at_a_node_with_his_browser():
    assert unsigned_refusal("127.0.0.1", {**LOCAL, "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}) is None


@pytest.mark.parametrize(("address", "headers"), [("10.0.0.1", LOCAL), ("::1", {"host": "x"}), ("::1", {"via": "x"})])
def test_a_refusal_says_what_to_do(address, headers):
    assert "insecure=True" in unsigned_refusal(address, headers)

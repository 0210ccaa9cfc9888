"""What may be an endpoint: nothing that leads a call to another place than a node."""

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catga_sync._endpoint import check_endpoint, is_loopback, is_loopback_host
from catga_sync.errors import ConfigurationError
from tests.tables import every_row
from tests.thorough import thorough

GOOD_ENDPOINTS = [
    "http://localhost:5001", "https://localhost:5001", "grpc://localhost:5001", "http://127.0.0.1:1",
    "http://[::1]:65535", "http://users.internal:8080", "http://users", "http://10.0.0.7:80", "http://a-b.c-d.example.",
    "http://[2001:db8::1]:80", "http://xn--bcher-kva.example:80", "http://1node.example:80", "HTTP://Node:80",
]  # fmt: skip

BAD_ENDPOINTS = [
    "", " ", "localhost", "localhost:5001", "//localhost:5001", "http:", "http://", "http:///", "http://:5001",
    "ftp://localhost:1", "file:///etc/passwd", "javascript:alert(1)", "unix:///tmp/s", "http+unix://x",
    "http://localhost:0", "http://localhost:65536", "http://localhost:-1", "http://localhost:", "http://localhost:abc",
    "http://localhost:80:80", "http://user@localhost:1", "http://user:pw@localhost:1", "http://@localhost:1",
    "http://localhost:1/path", "http://localhost:1//", "http://localhost:1/?", "http://localhost:1?q=1",
    "http://localhost:1#f", "http://localhost:1#", "http://localhost:1?", "http://localhost:1/;x", "http://a b:1",
    "http://a\tb:1", "http://a\nb:1", "http://localhost:1\n", "http://localhost:1\r\nX: y", "http://a\x00b:1",
    "http://exa_mple:1", "http://-a:1", "http://a-:1", "http://a..b:1", "http://.a:1", "http://bücher.example:1",
    "http://\uff45xample.com:1", "http://localhost:\uff18\uff10", "http://local%68ost:1", "http://a;b:1", "http://a,b:1",
    "http://localhost\\@evil:1", "http://localhost:1\\x", "http://[::1", "http://::1:80", "http://[::1]x:80x",
    "http://[localhost]:80", "http://" + "a" * 64 + ":1", "http://" + "a." * 200 + "b:1",
    "http://0.0.0.0:80", "http://[::]:80", "http://169.254.169.254:80", "http://[fe80::1]:80", "http://224.0.0.1:80",
    "http://[ff02::1]:80", None, 7, b"http://localhost:1", ["http://localhost:1"], True,
]  # fmt: skip


@every_row("endpoint", GOOD_ENDPOINTS)
def test_an_endpoint_is_scheme_host_and_port(endpoint):
    assert check_endpoint(endpoint) == endpoint
    assert check_endpoint(endpoint + "/") == endpoint


@every_row("endpoint", BAD_ENDPOINTS)
def test_anything_else_is_no_endpoint_and_the_error_starts_with_its_name(endpoint):
    with pytest.raises(ConfigurationError, match=r"^endpoint: "):
        check_endpoint(endpoint)
    with pytest.raises(ConfigurationError, match=r"^peers\['a'\]: "):
        check_endpoint(endpoint, "peers['a']")


@every_row(
    "endpoint",
    [
        # Before 3.13 urlsplit reads these as the host ::1.
        "http://evil.com[::1]:80",
        "http://[::1]evil.com:80",
        "http://[v1.x]:80",
        # ... strips the space,
        " http://localhost:80",
        # ... and getaddrinfo() takes all of these for addresses: of every interface, and of a cloud's metadata service.
        "http://0:80",
        "http://2852039166:80",
        "http://0xa9fea9fe:80",
        "http://169.254.43518:80",
        "http://0251.0376.0251.0376:80",
        # The same through IPv6: before 3.13 ipaddress looks at the IPv6 ranges only.
        "http://[::ffff:169.254.169.254]:80",
        "http://[64:ff9b::169.254.169.254]:80",
        "http://[64:ff9b:1::a9fe:a9fe]:80",
        "http://[2002:a9fe:a9fe::1]:80",
        "http://[::169.254.169.254]:80",
        "http://[fd00:ec2::254]:80",
        "http://[::ffff:0.0.0.0]:80",
    ],
)
def test_no_other_spelling_gets_around_the_rules(endpoint):
    with pytest.raises(ConfigurationError, match=r"^endpoint: "):
        check_endpoint(endpoint)


#: Nothing but this, whatever the library makes of it.
GRAMMAR = re.compile(
    r"(https?|grpc)://([A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.%]+[0-9A-Za-z]*\])(:\d{1,9})?",
    re.IGNORECASE,
)
PIECES = st.sampled_from(
    [
        "http", "https", "grpc", "ftp", "://", ":", "//", "/", "\\", "@", "?", "#", "%", "localhost", "evil.com",
        "127.0.0.1", "[::1]", "[", "]", "::1", "80", "65536", "0", "user", "\t", "\n", "\r", "\x00", " ", ".", "-", "_",
        "é", "①", "。", ";", ",", "..", "%2f", "%00", "\u200b", "\ufeff",
    ]
)  # fmt: skip
URLS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=40)


@thorough(1500)
@given(URLS.map(lambda rest: f"http://{rest}") | URLS)
@example("http://localhost:80/")
@example("http://localhost:80\t")
@example("http://a。b:80")
def test_what_is_accepted_is_scheme_host_and_port_only(text):
    try:
        accepted = check_endpoint(text)
    except ConfigurationError:
        return
    assert GRAMMAR.fullmatch(accepted)
    assert text in (accepted, accepted + "/")
    assert check_endpoint(accepted) == accepted


#: IPv6 addresses that stand for one of IPv4: NAT64, 6to4, Teredo, IPv4-compatible.
STANDING_FOR_IPV4 = [
    ipaddress.ip_network(each) for each in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")
]


@thorough(300)
@given(st.ip_addresses() | st.ip_addresses(v=4).map(lambda four: ipaddress.ip_address(f"::ffff:{four}")))
def test_an_address_is_accepted_unless_no_node_can_have_it(address):
    host = f"[{address}]" if address.version == 6 else str(address)
    meant = getattr(address, "ipv4_mapped", None) or address
    impossible = meant.is_unspecified or meant.is_multicast or meant.is_link_local
    try:
        check_endpoint(f"http://{host}:80")
    except ConfigurationError:
        assert impossible or any(address in prefix for prefix in STANDING_FOR_IPV4) or str(address) == "fd00:ec2::254"
    else:
        assert not impossible


@every_row("host", ["localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1", "127.255.0.1", "::1", "[::1]"])
def test_loopback_is_judged_by_the_text_of_a_host(host):
    assert is_loopback_host(host)


@every_row(
    "host",
    [
        "", ".", "localhost.example.com", "mylocalhost", "127.0.0.1.example.com", "128.0.0.1", "0.0.0.0", "::", "::2",
        "10.0.0.1", "127.1", "2130706433", "0x7f000001", "localhos", "127.0.0.1:80",
    ],
)  # fmt: skip
def test_nothing_else_is_loopback(host):
    assert not is_loopback_host(host)


def test_the_host_of_a_url():
    assert is_loopback("http://LocalHost:80")
    assert is_loopback("http://[::1]:80")
    assert not is_loopback("http://node.example:80")
    assert not is_loopback("nothing")
    assert not is_loopback(None)


def test_what_the_standard_library_calls_loopback_is_loopback():
    assert is_loopback_host(str(ipaddress.ip_address("127.0.0.1")))

"""A node as others see it, and what may be believed of what it says."""

import copy
import ipaddress
import json
import pickle
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catga_sync.errors import ConfigurationError
from catga_sync.nodes import (
    MAX_RECORD,
    ClusterNode,
    NodeRecord,
    NodeStatus,
    check_endpoint,
    check_node_id,
    is_loopback,
    is_loopback_host,
)
from catga_sync.serialization import jsontext
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


@pytest.mark.parametrize("endpoint", GOOD_ENDPOINTS)
def test_an_endpoint_is_scheme_host_and_port(endpoint):
    assert check_endpoint(endpoint) == endpoint
    assert check_endpoint(endpoint + "/") == endpoint


@pytest.mark.parametrize("endpoint", BAD_ENDPOINTS, ids=lambda given: ascii(given)[:40])
def test_anything_else_is_no_endpoint_and_the_error_starts_with_its_name(endpoint):
    with pytest.raises(ConfigurationError, match=r"^endpoint: "):
        check_endpoint(endpoint)
    with pytest.raises(ConfigurationError, match=r"^peers\['a'\]: "):
        check_endpoint(endpoint, "peers['a']")


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1", "127.255.0.1", "::1", "[::1]"]
)
def test_loopback_is_judged_by_the_text_of_a_host(host):
    assert is_loopback_host(host)


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("value", ["a", "node-1", "A.b_c:9", "x" * 128])
def test_a_node_id_is_1_to_128_plain_characters(value):
    assert check_node_id(value) == value


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "ä", "x" * 129, "a/b", None, 7, ["a"], b"a"])
def test_no_other_node_id_is_accepted(value):
    with pytest.raises(ConfigurationError, match=r"^node_id: "):
        check_node_id(value)


# -- ClusterNode -------------------------------------------------------------------------------------------------------


def test_a_node_needs_an_id_and_an_endpoint_only():
    node = ClusterNode("a", "http://localhost:1")
    assert (node.status, node.load, node.last_heartbeat) == (NodeStatus.ONLINE, 0.0, None)
    assert (dict(node.metadata), node.handles, node.incarnation) == ({}, None, "")


def test_the_states_of_a_node():
    assert [status.name for status in NodeStatus] == ["ONLINE", "SUSPECT", "FAULTED", "DRAINING", "OFFLINE"]


def test_a_node_cannot_be_changed_from_inside_or_outside():
    metadata, handles = {"zone": "a"}, ["T"]
    node = ClusterNode("a", None, metadata=metadata, handles=handles)
    metadata["zone"] = "b"
    handles.append("U")
    assert dict(node.metadata) == {"zone": "a"}
    assert node.handles == frozenset({"T"})
    with pytest.raises(AttributeError):
        node.load = 1
    with pytest.raises(TypeError):
        node.metadata["zone"] = "c"


def test_a_node_that_has_not_said_what_it_handles_may_handle_anything():
    assert ClusterNode("a", None).may_handle("T")
    assert ClusterNode("a", None, handles={"T"}).may_handle("T")
    assert not ClusterNode("a", None, handles={"T"}).may_handle("U")
    assert not ClusterNode("a", None, handles=()).may_handle("T")


def test_a_sign_of_life_makes_no_other_node_of_it():
    before, after = ClusterNode("a", "http://x:1"), ClusterNode("a", "http://x:1", last_heartbeat=5.0)
    assert before == after
    assert hash(before) == hash(after)
    assert before != ClusterNode("a", "http://x:1", incarnation="2")
    assert before != ClusterNode("a", "http://x:1", metadata={"zone": "a"})


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))])
def test_a_copy_of_a_node_equals_it(duplicate):
    node = ClusterNode("a", "http://x:1", metadata={"zone": "a"}, handles={"T"}, contracts={"T": "1"}, keep_alive=2.0)
    twin = duplicate(node)
    assert twin == node
    with pytest.raises(TypeError):
        twin.metadata["zone"] = "b"


# -- NodeRecord --------------------------------------------------------------------------------------------------------

NODE = ClusterNode(
    "node-1",
    "http://localhost:5001",
    NodeStatus.DRAINING,
    12.5,
    metadata={"zone": "a", "weight": 3},
    handles={"b.B", "a.A"},
    incarnation="i" * 32,
    subscribes=set(),
    contracts={"a.A": "0123"},
    keep_alive=2.0,
)
LEAST = {"nodeId": "a", "endpoint": "http://localhost:1"}


def test_a_record_comes_back_as_it_was_written():
    record = NodeRecord(NODE, seq=7)
    assert NodeRecord.from_text(record.to_text()) == record
    assert NodeRecord.from_mapping(record.to_mapping()) == record


def test_a_record_is_json_with_these_names():
    expected = {
        "nodeId": "node-1",
        "endpoint": "http://localhost:5001",
        "status": "DRAINING",
        "load": 12.5,
        "incarnation": "i" * 32,
        "seq": 7,
        "handles": ["a.A", "b.B"],
        "subscribes": [],
        "contracts": {"a.A": "0123"},
        "keepAlive": 2.0,
        "metadata": {"zone": "a", "weight": 3},
    }
    written = NodeRecord(NODE, seq=7).to_mapping()
    assert {name: written[name] for name in expected} == expected
    assert json.loads(json.dumps(written)) == written


def test_a_record_needs_an_id_and_an_endpoint_only():
    assert NodeRecord.from_mapping(LEAST) == NodeRecord(ClusterNode("a", "http://localhost:1"))
    assert NodeRecord.from_mapping({**LEAST, "of": "a later version"}).node.node_id == "a"


def test_a_writer_writes_no_time():
    assert not {"age", "lastHeartbeat", "last_heartbeat"} & set(NodeRecord(NODE, 1, age=3.0).to_mapping())


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("nodeId", [None, "", "a b", 7, "x" * 129, []]),
        ("endpoint", [None, "", "http://x/path", "ftp://x", 7, "http://0.0.0.0:1"]),
        ("status", ["online", "GONE", None, 7]),
        ("load", ["1", None, True, -1, 101, float("nan"), float("inf"), []]),
        ("seq", ["1", None, True, -1, 1.5, []]),
        ("incarnation", [None, 7, "x" * 65, []]),
        ("keepAlive", ["2", True, []]),
        ("metadata", [None, [], "x", 7, {"a": float("inf")}, {"a": [{"b": float("nan")}]}, nested(32)]),
        ("contracts", [None, [], {"T": 7}, {"T": None}]),
        ("handles", ["T", {}, 7, ["T", 7], [""], ["x" * 1025]]),
        ("subscribes", ["T", {}, 7, ["T", 7], [""], ["x" * 1025]]),
    ],
)
def test_a_record_with_a_wrong_property_is_refused_by_its_name(name, values):
    for value in values:
        with pytest.raises(ConfigurationError, match=f"^{name}: "):
            NodeRecord.from_mapping({**LEAST, name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("status", []), ("status", {}), ("keepAlive", 10**400)], ids=["list", "object", "long"]
)
def test_a_record_with_a_wrong_property_is_refused_whatever_its_type(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        NodeRecord.from_mapping({**LEAST, name: value})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1"])
def test_a_keep_alive_time_is_a_number_of_seconds(value):
    with pytest.raises(ConfigurationError):
        NodeRecord.from_text(f'{{"nodeId": "a", "endpoint": "http://localhost:1", "keepAlive": {value}}}')


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "7", '"x"', "[" * 10**5, '{"a":' * 10**5, "\ud800"])
def test_a_text_that_is_no_json_object_is_no_record(text):
    with pytest.raises(ConfigurationError, match=r"^record: "):
        NodeRecord.from_text(text)


def test_a_record_says_nothing_that_no_json_can_say_and_nobody_else_could_read():
    text = '{"nodeId": "a", "endpoint": "http://localhost:1", "metadata": {"weight": [1e999]}}'
    with pytest.raises(ConfigurationError, match=r"^metadata: "):
        NodeRecord.from_text(text)


def test_metadata_as_deep_as_may_be_is_read_as_a_record_and_as_what_a_node_says_of_itself():
    record = NodeRecord.from_mapping({**LEAST, "metadata": nested(31)})
    assert NodeRecord.from_text(record.to_text()) == record
    assert jsontext.loads(record.to_text().encode())["metadata"] == nested(31)


def test_a_record_that_is_too_long_is_not_even_read():
    with pytest.raises(ConfigurationError, match=r"^record: longer than"):
        NodeRecord.from_text(json.dumps({**LEAST, "metadata": {"x": "y" * MAX_RECORD}}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@thorough(500)
@given(st.dictionaries(st.sampled_from(sorted(NodeRecord(NODE).to_mapping())), VALUES))
def test_whatever_a_record_says_only_a_configuration_error_comes_out(said):
    try:
        record = NodeRecord.from_text(json.dumps({**LEAST, **said}))
    except ConfigurationError:
        return
    assert check_node_id(record.node.node_id)
    assert check_endpoint(record.node.endpoint)
    assert 0 <= record.node.load <= 100


def test_what_the_standard_library_calls_loopback_is_loopback():
    assert is_loopback_host(str(ipaddress.ip_address("127.0.0.1")))


def test_what_is_wrong_with_a_record_is_told_shortly_whatever_stands_in_it() -> None:
    inner = {"x" * 200 + str(number): ["y" * 200] * 10 for number in range(20)}
    with pytest.raises(ConfigurationError, match=r"^status: ") as caught:
        NodeRecord.from_mapping({"nodeId": "a", "endpoint": "http://a:1", "status": {"a": inner, "b": inner}})
    assert len(str(caught.value)) <= 1000

"""What EndpointSlices, as the official client writes them, say about nodes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync._endpoint import check_endpoint
from catga_sync.discovery._kubernetes_slices import Service, merge, parse_url, read_slice
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import NodeStatus, check_node_id
from tests.conftest import require_module

require_module("kubernetes")

# isort: split

from tests.external.kubernetes_objects import endpoint_slice, judged, pod, port, written  # noqa: E402 - see above
from tests.tables import every_row  # noqa: E402
from tests.thorough import thorough  # noqa: E402 - see above

USERS = Service("shop", "users")
ONLINE, DRAINING = NodeStatus.ONLINE, NodeStatus.DRAINING


def said(*slices: Any, service: Service = USERS) -> dict[str, tuple[str | None, NodeStatus]]:
    """Return endpoint and status of the nodes, by id."""
    records = merge([read_slice(judged(written(each), "V1EndpointSlice"), service) for each in slices])
    return {record.node.node_id: (record.node.endpoint, record.node.status) for record in records}


def problems(item: Any, service: Service = USERS) -> str:
    return "\n".join(read_slice(written(item), service).problems)


class TestUrl:
    @every_row(
        ("url", "service"),
        [
            ("kubernetes://shop/users", Service("shop", "users")),
            ("kubernetes:///users", Service("", "users")),
            ("kubernetes://shop/users:http", Service("shop", "users", "http")),
            ("kubernetes:///users:8000?scheme=https", Service("", "users", "8000", "https")),
            ("kubernetes://shop/users?scheme=http", Service("shop", "users")),
        ],
    )
    def test_names_a_service(self, url: str, service: Service) -> None:
        assert parse_url(url) == service

    @every_row(
        "url",
        [
            "kubernetes://users",
            "kubernetes://shop/",
            "kubernetes:shop/users",
            "kubernetes://shop/users/http",
            "kubernetes://shop/users:",
            "kubernetes://shop/Users",
            "kubernetes://shop/users:Http",
            "kubernetes://shop:80/users",
            "kubernetes://me@shop/users",
            "kubernetes://shop/../users",
            "kubernetes://shop/users?scheme=grpc",
            "kubernetes://shop/users?schema=https",
            "kubernetes://shop/users?https",
            "kubernetes://shop/users#x",
            "kubernetes://[shop/users",
            "redis://shop/users",
            f"kubernetes://{'x' * 64}/users",
            None,
        ],
    )
    def test_that_names_none_is_refused_with_what_to_write(self, url: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^discovery: "):
            parse_url(url)


class TestCondition:
    @every_row(
        ("ready", "serving", "terminating", "expected"),
        [
            (True, True, False, ONLINE),
            (True, None, None, ONLINE),
            (None, None, None, ONLINE),
            (False, False, False, None),
            (False, True, False, None),
            (False, True, True, DRAINING),
            (False, None, True, DRAINING),
            (False, False, True, None),
            # A Service with publishNotReadyAddresses calls all its pods ready.
            (True, True, True, DRAINING),
            (True, False, True, None),
        ],
    )
    def test_decides_what_a_pod_is(
        self, ready: bool | None, serving: bool | None, terminating: bool | None, expected: NodeStatus | None
    ) -> None:
        item = endpoint_slice("a", pod("users-0", "10.0.0.1", ready=ready, serving=serving, terminating=terminating))
        assert said(item) == ({} if expected is None else {"users-0": ("http://10.0.0.1:8000", expected)})


class TestNode:
    def test_has_name_and_uid_of_its_pod_and_no_handles_and_no_age(self) -> None:
        item = written(endpoint_slice("a", pod("users-7d9f-abcde", "10.0.0.1", uid="f81d4fae-7dec")))
        (record,) = merge([read_slice(item, USERS)])
        assert (record.node.node_id, record.node.incarnation) == ("users-7d9f-abcde", "f81d4fae-7dec")
        assert (record.node.handles, record.node.subscribes, record.age, record.seq) == (None, None, None, 0)

    @every_row(
        ("target", "node_id"),
        [
            (pod(None, "10.0.0.1"), "10-0-0-1"),
            (pod("worker-1", "10.0.0.1", kind="Node"), "10-0-0-1"),
            (pod("x" * 129, "10.0.0.1"), "10-0-0-1"),
            (pod("x" * 128, "10.0.0.1"), "x" * 128),
        ],
    )
    def test_without_a_fit_name_goes_by_its_address(self, target: Any, node_id: str) -> None:
        assert list(said(endpoint_slice("a", target))) == [node_id]

    def test_with_ipv6_has_brackets_in_its_endpoint(self) -> None:
        item = endpoint_slice("a", pod("users-0", "2001:DB8:0::1"), pod(None, "2001:db8::2"), address_type="IPv6")
        assert said(item) == {
            "2001-db8--2": ("http://[2001:db8::2]:8000", ONLINE),
            "users-0": ("http://[2001:db8::1]:8000", ONLINE),
        }

    def test_of_a_service_with_tls_has_an_https_endpoint(self) -> None:
        item = endpoint_slice("a", pod("users-0", "10.0.0.1"))
        assert said(item, service=Service("shop", "users", None, "https"))["users-0"][0] == "https://10.0.0.1:8000"

    def test_is_where_the_first_address_says(self) -> None:
        assert said(endpoint_slice("a", pod("users-0", "10.0.0.1", "10.0.0.2")))["users-0"][0] == "http://10.0.0.1:8000"

    @every_row(
        ("address", "family"),
        [
            ("169.254.169.254", "IPv4"),
            ("224.0.0.1", "IPv4"),
            ("0.0.0.0", "IPv4"),
            ("10.0.0.1@evil.example", "IPv4"),
            ("evil.example", "IPv4"),
            ("010.0.0.1", "IPv4"),
            ("10.0.0.1/x", "IPv4"),
            ("10.0.0.1\r\nX: y", "IPv4"),
            ("1" * 100, "IPv4"),
            ("2001:db8::1", "IPv4"),
            ("::", "IPv6"),
            ("fe80::1", "IPv6"),
            ("fe80::1%eth0", "IPv6"),
            ("2001:db8::1%eth0", "IPv6"),
            ("2001:db8::1%\n", "IPv6"),
            ("ff02::1", "IPv6"),
            ("::ffff:169.254.169.254", "IPv6"),
            ("10.0.0.1", "IPv6"),
        ],
    )
    def test_at_an_address_that_none_can_have_is_left_out_alone(self, address: str, family: str) -> None:
        good = "10.0.0.9" if family == "IPv4" else "2001:db8::9"
        item = endpoint_slice("a", pod("bad", address), pod("good", good), address_type=family)
        assert list(said(item)) == ["good"]
        assert problems(item).startswith("EndpointSlice a: an endpoint is left out: ")
        assert problems(item).isprintable()

    def test_by_a_name_is_left_out(self) -> None:
        item = endpoint_slice("a", pod("users-0", "users.example"), address_type="FQDN")
        assert said(item) == {}
        assert "'FQDN'" in problems(item)


class TestPort:
    def choose(self, service_port: str | None, *ports: Any) -> str | None:
        item = endpoint_slice("a", pod("users-0", "10.0.0.1"), ports=list(ports))
        found = said(item, service=Service("shop", "users", service_port)).get("users-0")
        return None if found is None else str(found[0]).rpartition(":")[2]

    def test_is_the_first_one(self) -> None:
        assert self.choose(None, port(8000, "http"), port(9000, "admin")) == "8000"
        assert self.choose(None, port(8000, None, None)) == "8000"

    def test_is_the_one_with_that_name_or_number(self) -> None:
        ports = (port(8000, "http"), port(9000, "admin"))
        assert self.choose("admin", *ports) == "9000"
        assert self.choose("9000", *ports) == "9000"

    def test_is_a_tcp_port_with_a_number(self) -> None:
        assert self.choose(None, port(53, "dns", "UDP"), port(None, "any"), port(8000)) == "8000"
        assert self.choose("dns", port(53, "dns", "UDP"), port(8000)) is None

    def test_may_be_named_by_number_where_a_headless_service_lists_none(self) -> None:
        assert self.choose("8000") == "8000"
        assert self.choose("70000") is None
        assert self.choose("8000", port(9000)) is None

    def test_that_is_missing_is_told(self) -> None:
        item = endpoint_slice("a", pod("users-0", "10.0.0.1"), ports=[port(8000), port(9000, None)])
        text = problems(item, Service("shop", "users", "admin"))
        assert text == "EndpointSlice a: no TCP port 'admin'; there are: http = 8000, (no name) = 9000"
        item = endpoint_slice("a", pod("users-0", "10.0.0.1"), ports=[port(8000, "ht\x1btp")])
        assert problems(item, Service("shop", "users", "admin")).endswith("there are: (no name) = 8000")
        item = endpoint_slice("a", pod("users-0", "10.0.0.1"), ports=[])
        assert problems(item).endswith("no TCP port; give the Service one, or write kubernetes://shop/users:NUMBER")

    def test_of_a_slice_without_pods_is_nobodys_concern(self) -> None:
        assert problems(endpoint_slice("a", ports=[])) == ""


class TestSeveralSlices:
    def test_make_one_set(self) -> None:
        first = endpoint_slice("a", pod("users-0", "10.0.0.1"), pod("users-1", "10.0.0.2"))
        second = endpoint_slice("b", pod("users-2", "10.0.0.3"), ports=[port(8001)])
        assert said(second, first) == {
            "users-0": ("http://10.0.0.1:8000", ONLINE),
            "users-1": ("http://10.0.0.2:8000", ONLINE),
            "users-2": ("http://10.0.0.3:8001", ONLINE),
        }

    def test_that_name_a_pod_twice_make_one_node(self) -> None:
        first = endpoint_slice("a", pod("users-0", "10.0.0.1"))
        assert said(first, endpoint_slice("b", pod("users-0", "10.0.0.1"))) == {
            "users-0": ("http://10.0.0.1:8000", ONLINE)
        }

    def test_of_both_families_make_one_node_at_its_ipv4_address(self) -> None:
        four = endpoint_slice("b", pod("users-0", "10.0.0.1"))
        six = endpoint_slice("a", pod("users-0", "2001:db8::1"), address_type="IPv6")
        assert said(six, four) == said(four, six) == {"users-0": ("http://10.0.0.1:8000", ONLINE)}

    def test_that_disagree_about_a_pod_make_it_end(self) -> None:
        old = endpoint_slice("a", pod("users-0", "10.0.0.1"))
        new = endpoint_slice("b", pod("users-0", "10.0.0.1", ready=False, serving=True, terminating=True))
        assert said(old, new) == said(new, old) == {"users-0": ("http://10.0.0.1:8000", DRAINING)}

    def test_with_a_pod_and_its_successor_of_the_same_name_make_the_successor(self) -> None:
        old = pod("users-0", "10.0.0.1", ready=False, serving=True, terminating=True, uid="old")
        items = endpoint_slice("a", old), endpoint_slice("b", pod("users-0", "10.0.0.2", uid="new"))
        assert said(*items) == said(*reversed(items)) == {"users-0": ("http://10.0.0.2:8000", ONLINE)}


class TestNotASlice:
    @every_row(
        "change",
        [
            {"kind": "Endpoints"},
            {"metadata": None},
            {"metadata": {"name": "a", "labels": {"kubernetes.io/service-name": "accounts"}}},
            {"metadata": {"name": "", "labels": {"kubernetes.io/service-name": "users"}}},
            {"metadata": {"name": "a\nb", "labels": {"kubernetes.io/service-name": "users"}}},
            {"metadata": {"name": "a" * 254, "labels": {"kubernetes.io/service-name": "users"}}},
            {"metadata": {"name": "a", "labels": ["kubernetes.io/service-name"]}},
            {"endpoints": {}},
            {"ports": 8000},
            {"ports": [8000]},
        ],
    )
    def test_is_an_error(self, change: dict[str, Any]) -> None:
        item = written(endpoint_slice("a", pod("users-0", "10.0.0.1")))
        with pytest.raises(ValueError):
            read_slice({**item, **change}, USERS)

    def test_is_an_error_even_if_it_is_no_object(self) -> None:
        items: list[Any] = [None, [], "EndpointSlice", 1]
        for item in items:
            with pytest.raises(ValueError):
                read_slice(item, USERS)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["IPv4", "IPv6", "10.0.0.1", "TCP"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_ENDPOINT = st.fixed_dictionaries(
    {},
    optional={
        "addresses": _JSON | st.lists(_JSON | st.ip_addresses().map(str), min_size=1, max_size=2),
        "conditions": _JSON | st.dictionaries(st.sampled_from(["ready", "serving", "terminating"]), _JSON),
        "targetRef": _JSON | st.fixed_dictionaries({"kind": st.just("Pod"), "name": _JSON, "uid": _JSON}),
    },
)
_SLICE = st.fixed_dictionaries(
    {"metadata": st.just({"name": "a", "labels": {"kubernetes.io/service-name": "users"}})},
    optional={
        "addressType": _JSON | st.sampled_from(["IPv4", "IPv6"]),
        "endpoints": _JSON | st.lists(_ENDPOINT, max_size=4),
        "ports": _JSON | st.lists(st.fixed_dictionaries({"port": _JSON | st.integers(1, 65535)}), max_size=2),
    },
)


@thorough(400)
@given(_JSON | _SLICE)
def test_whatever_comes_only_nodes_that_can_be_come_out(item: Any) -> None:
    try:
        read = read_slice(item, USERS)
    except ValueError:
        return
    for record in merge([read]):
        assert check_node_id(record.node.node_id)
        assert check_endpoint(record.node.endpoint) == record.node.endpoint
        assert len(record.node.incarnation) <= 64

"""The options of a cluster: each wrong one is an error that starts with its name."""

import copy
import dataclasses
import inspect
import json
import math
import socket
from collections.abc import Mapping

import pytest

from catga_sync._redaction import Secret
from catga_sync.cluster.factory import create_cluster
from catga_sync.discovery import MemoryDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.mediator import Mediator
from catga_sync.options import ClusterOptions, OptionValues
from tests.tables import every_row

LOCAL = "http://localhost:5001"
OPEN = "http://users.internal:5001"


class Thing:
    def __repr__(self):
        return "a thing"


THING = Thing()

DEFAULTS = {
    "endpoint": None,
    "cluster_name": "default",
    "router": "local-first",
    "request_timeout": 30.0,
    "heartbeat_interval": 5.0,
    "heartbeat_timeout": 30.0,
    "enable_failover": True,
    "max_retries": 2,
    "retry_delay": 0.1,
    "metadata": {},
    "secret": None,
    "idempotency": "memory",
    "max_concurrency": None,
    "load_reporter": None,
    "session": None,
    "verify": True,
    "cert": None,
    "insecure": False,
    "compression": "auto",
}


@every_row(("name", "value"), DEFAULTS.items())
def test_the_default_is_the_one_that_is_documented(name, value):
    found = getattr(ClusterOptions(), name)
    assert found == value
    assert isinstance(found, Mapping if isinstance(value, dict) else type(value))


def test_the_name_of_a_node_is_that_of_its_host(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "web-1.internal")
    assert ClusterOptions().node_id == "web-1.internal"


@pytest.mark.parametrize(
    ("host", "node_id"), [("Ada's Mac", "Ada-s-Mac"), ("", "node"), ("x" * 300, "x" * 128), ("ä", "-")]
)
def test_any_host_name_makes_a_node_id(monkeypatch, host, node_id):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert ClusterOptions().node_id == node_id


NOT_SECONDS = ["1", None, True, -1, math.nan, math.inf, [], -0.001]
NOT_WHOLE = ["1", None, True, 1.0, -1, math.nan, []]

WRONG = [
    *[("node_id", value) for value in ("", "a b", "ä", "x" * 129, 7, ["a"])],
    *[("endpoint", value) for value in ("", "localhost", "http://x/y", "http://localhost:0", "ftp://localhost:1", 7)],
    *[("cluster_name", value) for value in ("", "a b", "a/b", "x" * 65, None, 7, "..\x00")],
    *[("discovery", value) for value in ("nowhere", "", "sqlite://", "sqlite:///", "http://x", 7, THING)],
    *[("discovery", value) for value in ("http://user:pw@x",)],
    *[("peers", value) for value in ({"a": 7}, {"a b": LOCAL}, {"a": "localhost"}, {7: LOCAL}, "node-2", [LOCAL], 7)],
    *[("router", value) for value in ("nearest", "", None, 7, THING)],
    *[("request_timeout", value) for value in (*NOT_SECONDS, 0)],
    *[("heartbeat_interval", value) for value in (*NOT_SECONDS, 0)],
    *[("heartbeat_timeout", value) for value in (*NOT_SECONDS, 0, 5.0, 1)],
    *[("retry_delay", value) for value in NOT_SECONDS],
    *[("enable_failover", value) for value in (None, 1, 0, "yes")],
    *[("insecure", value) for value in (None, 1, 0, "yes")],
    *[("max_retries", value) for value in NOT_WHOLE],
    *[("max_body_bytes", value) for value in (*NOT_WHOLE, 0, 1023)],
    *[("pool_size", value) for value in (*NOT_WHOLE, 0)],
    *[("metadata", value) for value in (None, 7, "x", [("a", 1)], {1: 2}, {"a": THING}, {"a": math.nan}, {"a": {1}})],
    *[("metadata", {"a": json.loads("[" * levels + "]" * levels)}) for levels in (31, 900)],
    *[("compression", value) for value in (None, True, "gzip", "AUTO", 7)],
    *[("secret", value) for value in ("s", ["s"], b"s", [], "x" * 31, 7, ["k" * 32, "k" * 32], "k" * 32 + "\n")],
    *[("idempotency", value) for value in (None, True, "nowhere", 7, THING)],
    *[("max_concurrency", value) for value in (0, -1, 1.5, "1", True)],
    ("load_reporter", 7),
    *[("session", value) for value in ("x", 7, THING)],
    *[("verify", value) for value in (None, 7, [])],
    *[("cert", value) for value in (7, (), ("a",), ("a", "b", "c"))],
    ("discovery", "memory://["),
    ("request_timeout", 10**400),
]


@every_row(("name", "value"), WRONG)
def test_a_wrong_option_is_an_error_that_starts_with_its_name(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}") as caught:
        create_cluster(Mediator(), **{name: value})
    assert len(str(caught.value)) > len(name) + 10
    if name not in ("router", "discovery", "idempotency"):
        with pytest.raises(ConfigurationError, match=f"^{name}"):
            ClusterOptions(**{name: value})


def test_an_unknown_option_suggests_the_nearest_however_the_options_are_made():
    for make in (ClusterOptions, lambda **given: create_cluster(Mediator(), **given)):
        with pytest.raises(
            ConfigurationError, match=r"^request_timout: no such option; did you mean 'request_timeout'"
        ):
            make(request_timout=3)
        with pytest.raises(ConfigurationError, match=r"^zzz: no such option; there are .*cluster_name, .*node_id"):
            make(zzz=3)
    with pytest.raises(ConfigurationError, match=r"^node: no such option; did you mean 'node_id'"):
        dataclasses.replace(ClusterOptions(), node="x")


def test_the_signature_of_the_options_names_them():
    assert list(inspect.signature(ClusterOptions).parameters) == [
        each.name for each in dataclasses.fields(ClusterOptions)
    ]


def test_options_are_copied_and_changed_like_any_dataclass():
    options = ClusterOptions(node_id="a", metadata={"zone": "x"})
    assert copy.copy(options) == options
    assert dataclasses.replace(options, node_id="b").metadata == {"zone": "x"}


@every_row(
    ("name", "value"),
    [
        ("node_id", "a.b_c:9-D"),
        ("endpoint", LOCAL),
        ("endpoint", "https://[::1]:8443"),
        ("cluster_name", "a.b_c-9"),
        ("discovery", MemoryDiscovery()),
        ("discovery", "memory://"),
        ("router", "round-robin"),
        ("request_timeout", 1),
        ("heartbeat_interval", 0.5),
        ("retry_delay", 0),
        ("max_retries", 0),
        ("max_body_bytes", 1024),
        ("metadata", {"zone": "a", "weight": 2, "more": [None, {"x": 1.5}]}),
        ("verify", False),
        ("verify", "/etc/ssl/ca.pem"),
        ("cert", ("/a", "/b")),
        ("compression", "off"),
    ],
)
def test_a_right_option_is_kept(name, value):
    assert getattr(ClusterOptions(**{name: value}), name) == value


def test_a_password_in_a_wrong_url_is_not_repeated():
    with pytest.raises(ConfigurationError) as caught:
        create_cluster(Mediator(), discovery="postgres://user:hunter2@host/0")
    assert "hunter2" not in str(caught.value)


def test_options_are_frozen_and_given_by_name():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClusterOptions().node_id = "x"
    with pytest.raises(TypeError):
        ClusterOptions("node-1")


def test_the_metadata_that_was_given_may_change_afterwards():
    given = {"zone": "a"}
    options = ClusterOptions(metadata=given)
    given["zone"] = "b"
    assert options.metadata == {"zone": "a"}


@pytest.mark.parametrize("name", ["metadata", "peers"])
def test_the_mappings_in_the_options_cannot_be_changed(name):
    given = {"node-2": LOCAL}
    options = ClusterOptions(**{name: given})
    given["node-3"] = LOCAL
    with pytest.raises(TypeError):
        getattr(options, name)["node-4"] = LOCAL
    assert dict(getattr(options, name)) == {"node-2": LOCAL}


# -- who may be reached ------------------------------------------------------------------------------------------------


@every_row(
    "endpoint",
    ["http://localhost:1", "http://127.0.0.1:1", "http://127.9.9.9:1", "http://[::1]:1", "http://a.localhost:1"],
)
def test_a_loopback_endpoint_works_out_of_the_box(endpoint):
    assert ClusterOptions(endpoint=endpoint).endpoint == endpoint


@every_row(
    "endpoint",
    [OPEN, "http://10.0.0.1:1", "https://example.com", "http://localhost.example.com:1", "http://[2001:db8::1]:1"],
)
def test_any_other_endpoint_needs_a_secret_or_the_word_insecure(endpoint):
    with pytest.raises(ConfigurationError, match=r"^endpoint: .*secret.*insecure=True"):
        ClusterOptions(endpoint=endpoint)
    assert ClusterOptions(endpoint=endpoint, insecure=True).endpoint == endpoint
    assert ClusterOptions(endpoint=endpoint, secret="k" * 32).endpoint == endpoint


def test_a_secret_is_not_in_the_representation():
    assert "hunter2" not in repr(ClusterOptions(secret="hunter2" * 8))


def test_a_pure_client_needs_no_word_at_all():
    assert ClusterOptions(peers={"node-2": OPEN}).endpoint is None


def test_the_slash_at_the_end_of_an_endpoint_is_left_away():
    assert ClusterOptions(endpoint=LOCAL + "/").endpoint == LOCAL


# -- peers -------------------------------------------------------------------------------------------------------------


def test_peers_alone_mean_a_static_list():
    assert ClusterOptions(peers={"node-2": LOCAL}).discovery == "static"


def test_a_static_list_needs_peers_and_peers_a_static_list():
    with pytest.raises(ConfigurationError, match=r"^peers: "):
        ClusterOptions(discovery="static")
    with pytest.raises(ConfigurationError, match=r"^peers: "):
        ClusterOptions(discovery="memory://", peers={"node-2": LOCAL})
    assert ClusterOptions(discovery="static", peers={}).peers == {}


@every_row(
    ("given", "says"),
    [
        ({}, "give an endpoint, or a mapping .* not one without url"),
        ({"url": LOCAL, "sigend": False}, "give an endpoint, or a mapping .* not one with sigend"),
        ({"url": "localhost"}, "give http://host:port"),
        ({"url": None}, "give http://host:port"),
        ({"url": LOCAL, "signed": "no"}, "signed is True or False, not 'no'"),
        ({"url": LOCAL, "signed": 0}, "signed is True or False, not 0"),
        ({"url": LOCAL, "handles": "users.Get"}, "handles: a list of type names"),
        ({"url": LOCAL, "handles": [7]}, "handles: a list of type names"),
    ],
)
def test_a_wrong_declaration_of_a_peer_is_refused_by_its_name(given, says):
    with pytest.raises(ConfigurationError, match=rf"^peers\['node-2'\]: {says}"):
        ClusterOptions(peers={"node-2": given})


def test_what_is_declared_of_a_peer_may_come_from_the_environment_and_cannot_be_changed():
    text = '{"a": {"url": "http://localhost:5001", "signed": false, "handles": ["x"]}, "b": "http://localhost:5002"}'
    options = ClusterOptions.from_env({"CATGA_PEERS": text})
    assert options.peers["a"] == {"url": LOCAL, "signed": False, "handles": ["x"]}
    with pytest.raises(TypeError):
        options.peers["a"]["signed"] = True
    assert options.with_changes({"max_retries": 1}).peers == options.peers


# -- unknown options ---------------------------------------------------------------------------------------------------


@every_row(
    ("name", "nearest"),
    [("node_ids", "node_id"), ("nodeid", "node_id"), ("end_point", "endpoint"), ("max_retry", "max_retries"),
     ("heartbeat_intervall", "heartbeat_interval")],
)  # fmt: skip
def test_an_unknown_option_suggests_the_nearest(name, nearest):
    for make in (
        lambda: create_cluster(Mediator(), **{name: 1}),
        lambda: ClusterOptions.make({name: 1}),
        lambda: ClusterOptions.from_mapping({}, **{name: 1}),
        lambda: ClusterOptions.from_env({f"CATGA_{name.upper()}": "1"}),
        lambda: ClusterOptions().with_changes({name: 1}),
    ):
        with pytest.raises(ConfigurationError, match=f"^{name}: no such option; did you mean '{nearest}'"):
            make()
    key, meant = f"CATGA_{name.upper()}", f"CATGA_{nearest.upper()}"
    with pytest.raises(ConfigurationError, match=f"^{key}: no such option; did you mean '{meant}'"):
        ClusterOptions.from_mapping({key: 1})


def test_an_option_like_no_other_gets_the_whole_list():
    with pytest.raises(ConfigurationError, match=r"^zzz: no such option; there are .*node_id"):
        ClusterOptions.make({"zzz": 1})


# -- from a mapping ----------------------------------------------------------------------------------------------------


def test_a_mapping_such_as_app_config_is_read_by_its_prefix():
    config = {"CATGA_NODE_ID": "a", "CATGA_MAX_RETRIES": 5, "SECRET_KEY": "x", "DEBUG": True, 7: 8, "catga_x": 1}
    options = ClusterOptions.from_mapping(config)
    assert (options.node_id, options.max_retries) == ("a", 5)


def test_overrides_win_over_a_mapping_and_over_the_environment():
    assert ClusterOptions.from_mapping({"CATGA_NODE_ID": "a"}, node_id="b").node_id == "b"
    assert ClusterOptions.from_env({"CATGA_NODE_ID": "a"}, node_id="b").node_id == "b"


def test_a_wrong_value_in_a_mapping_is_an_error_too():
    with pytest.raises(ConfigurationError, match=r"^CATGA_REQUEST_TIMEOUT: "):
        ClusterOptions.from_mapping({"CATGA_REQUEST_TIMEOUT": "5"})


# -- from the environment ----------------------------------------------------------------------------------------------


def test_texts_of_the_environment_become_values():
    options = ClusterOptions.from_env(
        {
            "CATGA_NODE_ID": "a",
            "CATGA_ENDPOINT": OPEN,
            "CATGA_INSECURE": "Yes",
            "CATGA_REQUEST_TIMEOUT": "2.5",
            "CATGA_MAX_RETRIES": "5",
            "CATGA_ENABLE_FAILOVER": "off",
            "CATGA_METADATA": '{"zone": "a"}',
            "CATGA_PEERS": '{"node-2": "http://10.0.0.2:80"}',
            "CATGA_VERIFY": "/etc/ca.pem",
            "PATH": "/bin",
        }
    )
    assert (options.node_id, options.endpoint, options.insecure) == ("a", OPEN, True)
    assert (options.request_timeout, options.max_retries, options.enable_failover) == (2.5, 5, False)
    assert (options.metadata, options.peers) == ({"zone": "a"}, {"node-2": "http://10.0.0.2:80"})
    assert options.verify == "/etc/ca.pem"


@every_row(("text", "value"), [("true", True), ("1", True), ("ON", True), ("0", False), ("no", False)])
def test_true_and_false_are_written_as_one_would(text, value):
    assert ClusterOptions.from_env({"CATGA_VERIFY": text}).verify is value


@every_row(
    ("name", "text"),
    [
        ("request_timeout", "soon"), ("request_timeout", ""), ("request_timeout", "nan"), ("request_timeout", "inf"),
        ("max_retries", "2.5"), ("max_retries", ""), ("pool_size", "many"), ("insecure", "perhaps"), ("insecure", ""),
        ("metadata", "zone=a"), ("metadata", "[]"), ("metadata", ""), ("peers", "{"), ("node_id", ""),
        ("endpoint", ""), ("secret", "s"),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_read_is_an_error_that_starts_with_the_option_s_name(name, text):
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        ClusterOptions.from_env({f"CATGA_{name.upper()}": text})


def test_the_environment_of_the_process_is_read_when_none_is_given(monkeypatch):
    for name in ("CATGA_TESTS_INSTALLED", "CATGA_TESTS_NOEXTRAS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CATGA_NODE_ID", "from-env")
    assert ClusterOptions.from_env().node_id == "from-env"
    assert ClusterOptions().node_id != "from-env"


# -- variables that are not ours ---------------------------------------------------------------------------------------


def service_links(service: str, port: int = 6379, protocol: str = "tcp") -> dict[str, str]:
    """Return what Kubernetes puts into every pod for a service, as its documentation lists it."""
    name, address, upper = service.upper().replace("-", "_"), "10.0.0.11", protocol.upper()
    return {
        f"{name}_SERVICE_HOST": address,
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_HTTP_METRICS": str(port),
        f"{name}_PORT": f"{protocol}://{address}:{port}",
        f"{name}_PORT_{port}_{upper}": f"{protocol}://{address}:{port}",
        f"{name}_PORT_{port}_{upper}_PROTO": protocol,
        f"{name}_PORT_{port}_{upper}_PORT": str(port),
        f"{name}_PORT_{port}_{upper}_ADDR": address,
    }


NOT_OURS = [
    *(service_links(name) for name in ("catga-redis", "catga", "catga-node", "catga-endpoint", "catga-3-b")),
    service_links("catga-dns", 53, "udp"),
    service_links("catga-signal", 7777, "sctp"),
    {"CATGA_REDIS_SERVICE_HOST": "10.0.0.1"},
    {"CATGA_REDIS_PORT": "tcp://[fd00::1]:6379"},
    # Docker's links name the link and repeat the environment of what is linked.
    {"CATGA_REDIS_NAME": "/web/catga-redis", "CATGA_REDIS_ENV_REDIS_VERSION": "7.2", "CATGA_REDIS_ENV_path": "/bin"},
    {"CATGA_RUNTIME_DIR": "/run/catga", "CATGA_TESTS_INSTALLED": "1", "CATGA_TESTS_ANYTHING": ""},
]


@every_row("found", NOT_OURS)
def test_variables_with_our_prefix_that_others_set_are_no_options(found):
    given = {"CATGA_NODE_ID": "a", "CATGA_MAX_RETRIES": "5", **found}
    expected = ClusterOptions(node_id="a", max_retries=5)
    assert ClusterOptions.from_env(given) == expected
    assert create_cluster(Mediator(), environ=given).options == expected
    assert ClusterOptions.from_mapping({**found, "CATGA_NODE_ID": "a", "CATGA_MAX_RETRIES": 5}) == expected


@every_row(
    ("name", "text", "near"),
    [
        ("CATGA_PORT", "5001", ""), ("CATGA_NODE_PORT", "5001", ""), ("CATGA_NODE_NAME", "a", ""),
        ("CATGA_NAME", "/a/b", ""), ("CATGA_SERVICE", "x", ""), ("CATGA_NODEID", "a", "did you mean 'node_id'"),
        ("CATGA_SECRETS", "x", "did you mean 'secret'"), ("CATGA_TEST", "x", ""),
        ("CATGA_RUNTIME_DIRS", "x", ""), ("CATGA_POOL_SIZE_TCP", "x", "did you mean 'pool_size'"),
        ("CATGA_CLUSTER_NAMES", "/a/b", "did you mean 'cluster_name'"),
    ],
)  # fmt: skip
def test_a_misspelt_option_that_looks_like_a_link_of_no_service_stays_an_error(name, text, near):
    with pytest.raises(ConfigurationError, match=f"^{name[6:].lower()}: no such option.*{near}"):
        ClusterOptions.from_env({name: text})


def test_an_option_whose_value_looks_like_a_link_stays_an_option():
    with pytest.raises(ConfigurationError, match=r"^cluster_name: give"):
        ClusterOptions.from_env({"CATGA_CLUSTER_NAME": "/a/b"})


# -- what is not given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("secret", "k" * 32, "k" * 32), ("max_retries", "7", 7), ("discovery", "memory://env", "memory://env"),
     ("insecure", "true", True), ("endpoint", LOCAL, LOCAL)],
)  # fmt: skip
def test_create_cluster_takes_what_is_not_given_from_the_environment(monkeypatch, name, text, value):
    monkeypatch.setenv(f"CATGA_{name.upper()}", text)
    taken = Secret(value) if name == "secret" else value
    assert getattr(create_cluster(Mediator()).options, name) == taken
    assert getattr(create_cluster(Mediator(), environ={}).options, name) != value
    assert getattr(create_cluster(Mediator(), ClusterOptions()).options, name) != value


def test_what_is_given_wins_over_the_environment_even_where_that_is_wrong():
    environ = {"CATGA_MAX_RETRIES": "many", "CATGA_SECRET": "short", "CATGA_NODE_ID": "env"}
    made = create_cluster(Mediator(), environ=environ, max_retries=1, secret=None)
    assert (made.options.max_retries, made.options.secret, made.options.node_id) == (1, None, "env")
    with pytest.raises(ConfigurationError, match=r"^max_retries: 'many' cannot be read"):
        create_cluster(Mediator(), environ=environ)


def test_discovery_and_peers_are_one_choice_whoever_makes_it():
    peers, store = {"CATGA_PEERS": '{"b": "http://localhost:2"}'}, {"CATGA_DISCOVERY": "memory://env"}
    assert ClusterOptions.from_env(peers, discovery="memory://").peers is None
    assert ClusterOptions.from_env(store, peers={"b": LOCAL}).discovery == "static"
    assert ClusterOptions.from_env(peers, discovery="static").peers == {"b": "http://localhost:2"}
    with pytest.raises(ConfigurationError, match=r"^peers: "):
        ClusterOptions.from_env({**peers, **store})


def test_the_options_are_typed_for_checkers_as_they_are():
    fields = {each.name: each.type for each in dataclasses.fields(ClusterOptions)}
    typed = {name: reference.__forward_arg__ for name, reference in OptionValues.__annotations__.items()}
    assert typed == fields


def test_options_with_changes_are_checked_like_new_ones():
    options = ClusterOptions(node_id="a")
    assert options.with_changes({}) is options
    assert options.with_changes({"max_retries": 1}).max_retries == 1
    assert options.max_retries == 2
    with pytest.raises(ConfigurationError, match=r"^max_retries: "):
        options.with_changes({"max_retries": -1})

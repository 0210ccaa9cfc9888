"""A node as others see it, and what may be believed of what it says."""

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catga_sync._endpoint import check_endpoint
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import MAX_RECORD, ClusterNode, NodeRecord, NodeStatus, check_node_id
from catga_sync.serialization import jsontext
from tests.tables import every_row
from tests.thorough import thorough


@every_row("value", ["a", "node-1", "A.b_c:9", "x" * 128])
def test_a_node_id_is_1_to_128_plain_characters(value):
    assert check_node_id(value) == value


@every_row("value", ["", " ", "a b", "a\n", "ä", "x" * 129, "a/b", None, 7, ["a"], b"a"])
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


@every_row(
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


@every_row("value", ["NaN", "Infinity", "1e999", "-1"])
def test_a_keep_alive_time_is_a_number_of_seconds(value):
    with pytest.raises(ConfigurationError):
        NodeRecord.from_text(f'{{"nodeId": "a", "endpoint": "http://localhost:1", "keepAlive": {value}}}')


@every_row("text", ["", "{", "null", "[]", "7", '"x"', "[" * 10**5, '{"a":' * 10**5, "\ud800"])
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


def test_what_is_wrong_with_a_record_is_told_shortly_whatever_stands_in_it() -> None:
    inner = {"x" * 200 + str(number): ["y" * 200] * 10 for number in range(20)}
    with pytest.raises(ConfigurationError, match=r"^status: ") as caught:
        NodeRecord.from_mapping({"nodeId": "a", "endpoint": "http://a:1", "status": {"a": inner, "b": inner}})
    assert len(str(caught.value)) <= 1000

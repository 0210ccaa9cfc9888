"""The enums of results and nodes are texts: they compare, format and dump as their names do, on every Python."""

import copy
import json
import pickle

import pytest

import catga_sync
from catga_sync import CatgaResult, ClusterEvent, ClusterNode, Delivery, ErrorCode, NodeStatus
from tests.tables import every_row

MEMBERS = [*Delivery, *ErrorCode, *NodeStatus, *type(ClusterEvent.NODE_LEFT)]


@every_row("member", MEMBERS)
def test_a_member_is_the_text_of_its_name(member):
    assert isinstance(member, str)
    assert member == member.name == member.value
    assert member.name.isupper()
    assert str(member) == f"{member}" == member.name
    assert f"{member:>24}" == f"{member.name:>24}"
    assert json.dumps({"code": member}) == json.dumps({"code": member.name})
    assert {member.name: 1}[member] == 1


@every_row("member", MEMBERS)
def test_a_member_stays_itself_through_copies(member):
    assert type(member)(member.name) is member
    assert copy.deepcopy(member) is member
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(member, protocol)) is member
    assert repr(member) == f"<{type(member).__name__}.{member.name}: {member.name!r}>"


def test_they_are_at_the_root():
    assert {"Delivery", "ErrorCode", "NodeStatus"} <= set(catga_sync.__all__)


def test_a_text_becomes_its_member_where_an_enum_is_wanted():
    assert CatgaResult.failure("no", "NOT_FOUND", delivery="UNKNOWN").delivery is Delivery.UNKNOWN
    assert ClusterNode("n1", None, "DRAINING").status is NodeStatus.DRAINING


def test_any_other_text_is_an_error_at_once():
    with pytest.raises(ValueError, match="'unknown' is not a valid Delivery"):
        CatgaResult.failure("no", delivery="unknown")
    with pytest.raises(ValueError, match="'ON' is not a valid NodeStatus"):
        ClusterNode("n1", None, "ON")

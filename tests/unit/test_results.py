"""The result of a call: what it tells, what it equals, and that it cannot be changed."""

import copy
import pickle
import threading

import pytest

from catga_sync import errors, results
from catga_sync.errors import CallError, Delivery, ErrorCode
from catga_sync.results import Attempt, CatgaResult
from tests.tables import every_row

CELLS = ["is_success", "value", "error", "code", "delivery", "request_id", "node_id", "processing_time_ms", "attempts"]


def full():
    return CatgaResult(
        False,
        None,
        "no",
        ErrorCode.ABORTED,
        Delivery.UNKNOWN,
        request_id="r-1",
        node_id="node-2",
        processing_time_ms=1.5,
        attempts=(Attempt("node-2", 0.1, Delivery.UNKNOWN, ErrorCode.ABORTED, "no"),),
        metadata={"zone": "a"},
    )


def test_a_success_has_a_value_and_nothing_that_speaks_of_failure():
    result = CatgaResult.success(7)
    assert result.is_success is True
    assert bool(result) is True
    assert result.value == 7
    assert (result.error, result.code, result.delivery) == (None, None, Delivery.EXECUTED)
    assert (result.node_id, result.attempts, dict(result.metadata)) == (None, (), {})
    assert result.unwrap() == 7


def test_a_success_may_have_no_value():
    result = CatgaResult.success()
    assert result
    assert result.unwrap() is None


def test_a_failure_has_a_text_and_an_optional_code():
    result = CatgaResult.failure("taken", code="users.taken")
    assert not result
    assert result.is_success is False
    assert (result.value, result.error, result.code) == (None, "taken", "users.taken")
    assert CatgaResult.failure("taken").code is None


def test_a_failure_says_executed_unless_told_otherwise():
    assert CatgaResult.failure("no").delivery is Delivery.EXECUTED
    assert CatgaResult.failure("no", delivery=Delivery.UNKNOWN).delivery is Delivery.UNKNOWN


@every_row("code", list(ErrorCode))
def test_a_code_given_as_text_becomes_the_member_of_that_name(code):
    assert CatgaResult.failure("no", code.name).code is code
    assert CatgaResult.failure("no", code).code is code


def test_so_it_does_in_a_result_that_is_made_directly():
    assert CatgaResult(False, error="no", code="NOT_FOUND").code is ErrorCode.NOT_FOUND


@every_row("code", ["unavailable", "Unavailable", "UNAVAILABLE ", "users.taken", ""])
def test_any_other_text_stays_the_application_s_own_code(code):
    assert CatgaResult.failure("no", code).code == code


@every_row("name", [*CELLS, "metadata", "_request_id", "brand_new"])
def test_nothing_of_a_result_can_be_set_or_deleted(name):
    result = full()
    before = {cell: getattr(result, cell) for cell in CELLS}
    with pytest.raises(AttributeError, match=name):
        setattr(result, name, 1)
    with pytest.raises(AttributeError, match=name):
        delattr(result, name)
    assert {cell: getattr(result, cell) for cell in CELLS} == before


def test_metadata_is_a_read_only_copy():
    given = {"zone": "a"}
    result = CatgaResult.success(1, metadata=given)
    given["zone"] = "b"
    assert dict(result.metadata) == {"zone": "a"}
    with pytest.raises(TypeError):
        result.metadata["zone"] = "c"


def test_results_without_metadata_do_not_share_something_that_can_be_written():
    with pytest.raises(TypeError):
        CatgaResult.success(1).metadata["x"] = 1


def test_equal_means_value_error_code_and_delivery_whatever_the_circumstances():
    here = CatgaResult.success([1])
    there = CatgaResult(True, [1], request_id="r-9", node_id="n", processing_time_ms=9.0, metadata={"a": 1})
    assert here == there
    assert (here != there) is False


@every_row(
    "other",
    [
        CatgaResult.success(1),
        CatgaResult.failure("yes", "c"),
        CatgaResult.failure("no", "d"),
        CatgaResult.failure("no"),
        CatgaResult.failure("no", "c", delivery=Delivery.UNKNOWN),
        CatgaResult(True, None, "no", "c"),
        "no",
        None,
    ],
)
def test_any_difference_in_them_is_a_difference(other):
    assert CatgaResult.failure("no", "c") != other


def test_a_result_is_no_key():
    with pytest.raises(TypeError):
        hash(CatgaResult.success(1))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda result: pickle.loads(pickle.dumps(result))])
def test_a_copy_has_everything_the_original_has(duplicate):
    result = full()
    twin = duplicate(result)
    assert twin == result
    assert {cell: getattr(twin, cell) for cell in CELLS} == {cell: getattr(result, cell) for cell in CELLS}
    assert dict(twin.metadata) == {"zone": "a"}
    with pytest.raises(TypeError):
        twin.metadata["zone"] = "b"
    with pytest.raises(AttributeError):
        twin.value = 1


def test_a_copy_has_the_request_id_even_if_nobody_has_read_it_before():
    result = CatgaResult.success(1)
    twin = pickle.loads(pickle.dumps(result))
    assert twin.request_id == result.request_id


def test_a_request_id_is_made_once_when_first_read():
    result = CatgaResult.success(1)
    assert result.request_id == result.request_id
    assert len(result.request_id) == 32
    int(result.request_id, 16)
    assert result.request_id != CatgaResult.success(1).request_id


def test_two_threads_that_read_a_request_id_first_get_the_same_one(monkeypatch):
    result = CatgaResult.success(1)
    make, seen = results.new_request_id, []
    other = threading.Thread(target=lambda: seen.append(result.request_id))

    def interrupted():
        monkeypatch.setattr(results, "new_request_id", make)
        other.start()
        other.join(0.1)  # which is for a mistake to happen in: done right, the other one waits
        return make()

    monkeypatch.setattr(results, "new_request_id", interrupted)
    mine = result.request_id
    other.join(10)
    assert seen == [mine] == [result.request_id]


@every_row(
    ("delivery", "code", "raised"),
    [
        (Delivery.EXECUTED, ErrorCode.UNKNOWN, errors.HandlerFailed),
        (Delivery.EXECUTED, ErrorCode.INTERNAL, errors.SerializationError),
        (Delivery.EXECUTED, ErrorCode.NOT_FOUND, errors.BusinessError),
        (Delivery.EXECUTED, ErrorCode.UNAVAILABLE, errors.BusinessError),
        (Delivery.EXECUTED, ErrorCode.DEADLINE_EXCEEDED, errors.BusinessError),
        (Delivery.EXECUTED, "users.taken", errors.BusinessError),
        (Delivery.EXECUTED, None, errors.BusinessError),
        (Delivery.NOT_EXECUTED, ErrorCode.UNAVAILABLE, errors.NetworkError),
        (Delivery.NOT_EXECUTED, ErrorCode.RESOURCE_EXHAUSTED, errors.NetworkError),
        (Delivery.NOT_EXECUTED, ErrorCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (Delivery.NOT_EXECUTED, ErrorCode.INVALID_ARGUMENT, errors.SerializationError),
        (Delivery.NOT_EXECUTED, ErrorCode.UNIMPLEMENTED, errors.NoHandlerError),
        (Delivery.NOT_EXECUTED, ErrorCode.UNAUTHENTICATED, errors.AccessDenied),
        (Delivery.NOT_EXECUTED, ErrorCode.PERMISSION_DENIED, errors.AccessDenied),
        (Delivery.UNKNOWN, ErrorCode.UNAVAILABLE, errors.NetworkError),
        (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (Delivery.UNKNOWN, ErrorCode.INTERNAL, errors.SerializationError),
        (Delivery.UNKNOWN, ErrorCode.DATA_LOSS, errors.SerializationError),
        (Delivery.UNKNOWN, ErrorCode.CANCELLED, errors.NetworkError),
        (Delivery.NOT_EXECUTED, "their.own", CallError),
        (Delivery.NOT_EXECUTED, None, CallError),
    ],
)
def test_unwrap_raises_the_error_that_fits(delivery, code, raised):
    result = CatgaResult.failure("no", code, delivery=delivery)
    with pytest.raises(CallError) as caught:
        result.unwrap()
    error = caught.value
    assert type(error) is raised
    assert str(error) == "no"
    assert error.code == (raised.default_code if code is None else code)
    assert error.delivery is delivery
    assert error.result is result


def test_what_unwrap_raised_survives_pickle_with_its_result():
    with pytest.raises(CallError) as caught:
        full().unwrap()
    twin = pickle.loads(pickle.dumps(caught.value))
    assert type(twin) is type(caught.value)
    assert (str(twin), twin.code, twin.delivery) == ("no", ErrorCode.ABORTED, Delivery.UNKNOWN)
    assert twin.result == full()


def test_the_representation_says_what_matters():
    assert repr(CatgaResult.success(7)) == "CatgaResult.success(7)"
    assert repr(CatgaResult.failure("no", "NOT_FOUND")) == (
        "CatgaResult.failure('no', code=NOT_FOUND, delivery=EXECUTED)"
    )
    assert "code=mine" in repr(CatgaResult.failure("no", "mine"))


def test_the_quick_way_to_a_success_gives_the_same_as_the_plain_one():
    quick = results.succeeded([1], 2.5)
    plain = CatgaResult(True, [1], processing_time_ms=2.5)
    assert type(quick) is CatgaResult
    assert quick == plain
    for cell in CELLS:
        if cell != "request_id":
            assert getattr(quick, cell) == getattr(plain, cell)
    with pytest.raises(AttributeError):
        quick.value = 2


def test_a_result_can_be_made_with_changes_and_leaves_the_original_alone():
    result = full()
    other = result._with(node_id="node-3", request_id="r-2")
    assert (other.node_id, other.request_id, other.error) == ("node-3", "r-2", "no")
    assert (result.node_id, result.request_id) == ("node-2", "r-1")
    assert dict(other.metadata) == {"zone": "a"}


def test_attempts_given_as_a_list_are_kept_as_a_tuple() -> None:
    attempt = Attempt("a", 0.5, Delivery.EXECUTED)
    result = CatgaResult.success(1)._with(attempts=CatgaResult(True, 1, attempts=[attempt]).attempts)  # type: ignore[arg-type]
    assert result.attempts == (attempt,)

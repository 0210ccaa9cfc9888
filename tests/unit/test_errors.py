"""What the errors are, answer and survive."""

import enum
import functools
import pickle
import signal
import sys
import threading

import pytest

from catga_sync import errors
from catga_sync.errors import (
    BusinessError,
    CallError,
    CatgaError,
    ConfigurationError,
    DeadlineExceeded,
    Delivery,
    ErrorCode,
    HandlerFailed,
    NetworkError,
    NodeIdTaken,
    NoHandlerError,
    RegistrationError,
    SerializationError,
    UnknownTypeError,
    ends_process,
    parse_code,
)
from catga_sync.wire.envelope import EnvelopeError
from tests.tables import every_row

GRPC = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


CLASSES = [found for name in errors.__all__ if isinstance(found := getattr(errors, name), type)]
CALL_ERRORS = [cls for cls in CLASSES if issubclass(cls, CallError)]


def test_the_codes_are_the_canonical_ones_of_grpc_by_name():
    assert [code.name for code in ErrorCode] == GRPC
    assert all(code.value == code.name for code in ErrorCode)


def test_there_are_three_kinds_of_delivery():
    assert [kind.name for kind in Delivery] == ["EXECUTED", "NOT_EXECUTED", "UNKNOWN"]


@every_row("name", GRPC)
def test_a_text_that_is_the_name_of_a_code_becomes_that_code(name):
    assert parse_code(name) is ErrorCode[name]


class Code(str, enum.Enum):
    SOLD_OUT = "shop.sold_out"


class Plain(enum.Enum):
    SOLD_OUT = "shop.sold_out"


def test_what_is_no_text_becomes_one_since_a_code_travels_as_text():
    assert parse_code(7) == "7"
    assert parse_code(Plain.SOLD_OUT) == "SOLD_OUT"
    assert parse_code("x" * 1000) == "x" * 128


def test_an_enum_that_is_a_text_stays_that_text():
    assert parse_code(Code.SOLD_OUT) == Code.SOLD_OUT == "shop.sold_out"
    assert parse_code(Code("shop.sold_out")) == "shop.sold_out"


@every_row("code", ["users.taken", "unavailable", "", None, ErrorCode.ABORTED])
def test_any_other_code_stays_as_it_is(code):
    assert parse_code(code) is code


@every_row("cls", CALL_ERRORS)
def test_a_call_error_has_a_code_even_when_none_was_given(cls):
    assert cls("no").code is cls.default_code
    assert cls("no", code="mine").code == "mine"
    assert cls("no", code="NOT_FOUND").code is ErrorCode.NOT_FOUND
    assert cls("no", code="").code == ""
    assert cls("no").delivery is None


@every_row(
    ("cls", "code"),
    [
        (CallError, ErrorCode.UNKNOWN),
        (NetworkError, ErrorCode.UNAVAILABLE),
        (DeadlineExceeded, ErrorCode.DEADLINE_EXCEEDED),
        (SerializationError, ErrorCode.INVALID_ARGUMENT),
        (NoHandlerError, ErrorCode.UNIMPLEMENTED),
        (errors.AccessDenied, ErrorCode.PERMISSION_DENIED),
        (BusinessError, ErrorCode.FAILED_PRECONDITION),
        (HandlerFailed, ErrorCode.UNKNOWN),
    ],
)
def test_each_kind_of_failure_has_its_own_code(cls, code):
    assert cls().code is code


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [(ConfigurationError, ValueError), (RegistrationError, TypeError), (UnknownTypeError, LookupError)],
)
def test_a_mistake_of_the_programmer_is_also_the_builtin_error_that_fits(cls, builtin):
    assert issubclass(cls, builtin)
    assert issubclass(cls, CatgaError)
    assert not issubclass(cls, CallError)


def test_a_deadline_is_one_of_the_ways_in_which_the_network_fails():
    assert issubclass(DeadlineExceeded, NetworkError)
    assert issubclass(HandlerFailed, BusinessError)


def test_a_taken_node_id_says_whose_it_is_and_keeps_that_through_pickle():
    error = NodeIdTaken("node-1", "http://localhost:5001")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert str(error).startswith("node_id: ")
    assert (copy.node_id, copy.endpoint) == ("node-1", "http://localhost:5001")
    assert isinstance(error, ConfigurationError)


def test_an_envelope_error_keeps_the_request_id_through_pickle():
    copy = pickle.loads(pickle.dumps(EnvelopeError("timestamp: missing", request_id="r-1")))
    assert (type(copy), str(copy), copy.request_id) == (EnvelopeError, "timestamp: missing", "r-1")
    assert copy.code is ErrorCode.INVALID_ARGUMENT


def test_every_error_of_the_module_is_listed_in_its_tree_and_in_its_exports():
    made_here = {
        name: cls
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception) and cls.__module__ == errors.__name__
    }
    assert len(made_here) > 10
    for name, cls in made_here.items():
        assert issubclass(cls, CatgaError)
        assert name in errors.__all__
        assert name in errors.__doc__


class Server:
    """Has signal handlers of every kind."""

    def end(self, number, frame):
        raise SystemExit

    __call__ = end


def raised_by(function):
    with pytest.raises(BaseException) as caught:
        function()
    return caught.value


@every_row(
    "handler",
    [lambda number, frame: Server().end(0, None), Server().end, Server(), functools.partial(Server.end, Server())],
    ids=["a function", "a method", "an object", "a partial"],
)
def test_what_a_signal_handler_raises_ends_the_process_while_it_is_one(handler):
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        exit_ = raised_by(lambda: signal.raise_signal(signal.SIGUSR1))
        assert ends_process(exit_)
        assert not ends_process(raised_by(sys.exit))
        assert not ends_process(SystemExit())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not ends_process(exit_)


def test_an_error_of_a_signal_handler_that_is_no_end_is_an_error_like_any_other():
    """Timeouts are made this way."""

    def late(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGUSR1, late)
    try:
        assert not ends_process(raised_by(lambda: signal.raise_signal(signal.SIGUSR1)))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_control_c_ends_the_process_from_the_main_thread_where_nothing_else_is_made_of_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt = raised_by(lambda: signal.raise_signal(signal.SIGINT))
        assert ends_process(interrupt)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(ends_process(interrupt)))
        thread.start()
        thread.join()
        assert elsewhere == [False]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert not ends_process(interrupt)
    finally:
        signal.signal(signal.SIGINT, before)

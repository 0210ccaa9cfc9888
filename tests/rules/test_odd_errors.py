"""Whatever the application's classes do when they are raised, returned or looked at, a call gives a result."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from catga_sync import (
    BusinessError,
    CallError,
    CatgaResult,
    ClusterMediator,
    Delivery,
    ErrorCode,
    Event,
    Mediator,
    Query,
    create_cluster,
    message,
)
from catga_sync.errors import HandlerFailed
from tests.tables import every_row
from tests.unit.ending import ended_by_server
from tests.unit.serving import three_ways


@dataclass
class OutOfStock(BusinessError):
    sku: str
    wanted: int = 1
    secret: str = field(default="hunter2", repr=False)


@dataclass(frozen=True)
class Frozen(BusinessError):
    sku: str
    code = "shop.frozen"


@dataclass(slots=True)
class Slotted(BusinessError):
    sku: str


@dataclass
class OwnText(BusinessError):
    sku: str
    default_code = ErrorCode.NOT_FOUND

    def __str__(self) -> str:
        return f"{self.sku} is sold out"


@dataclass
class CodeField(BusinessError):
    code: str
    sku: str


@dataclass
class ToldAfterwards(BusinessError):
    sku: str

    def __post_init__(self) -> None:
        super().__init__(f"no {self.sku} today", code="shop.today")


@dataclass
class Bare(BusinessError):
    pass


class NoSuper(BusinessError):
    def __init__(self, sku: str) -> None:
        self.sku = sku


class ByName(BusinessError):
    def __init__(self, *, sku: str) -> None:
        self.sku = sku


class ClassCode(BusinessError):
    code = "shop.class"


class PropertyCode(BusinessError):
    @property
    def code(self) -> str:  # type: ignore[override]
        return "shop.property"


class CodeRaises(BusinessError):
    @property
    def code(self) -> str:  # type: ignore[override]
        raise RuntimeError("hunter2")


class CodeCancels(BusinessError):
    @property
    def code(self) -> str:  # type: ignore[override]
        raise asyncio.CancelledError("hunter2")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("hunter2")

    __repr__ = __str__


class TextExits(BusinessError):
    def __str__(self) -> str:
        raise SystemExit("hunter2")


class OddCode(BusinessError):
    code = Unprintable()  # type: ignore[assignment]


class TextRaises(BusinessError):
    def __str__(self) -> str:
        raise RuntimeError("hunter2")


class TextIsNone(BusinessError):
    def __str__(self) -> str:
        return NOTHING


NOTHING: Any = None


class OddText(str):
    __slots__ = ()

    def __len__(self) -> int:
        raise RuntimeError("hunter2")

    def __hash__(self) -> int:
        raise RuntimeError("hunter2")


class TextIsOdd(BusinessError):
    code = OddText("shop.odd")

    def __str__(self) -> str:
        return OddText("odd")


class PlainNoSuper(Exception):
    def __init__(self, *, sku: str) -> None:
        self.sku = sku


class PlainTextRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("hunter2")

    __repr__ = __str__


class Custom(BaseException):
    pass


class ManyBases(BusinessError, OSError):
    pass


#: What is raised -> the text and the code that the caller is to see. None: that a handler raised, and no more.
ERRORS: dict[str, tuple[Callable[[], BaseException], str | None, ErrorCode | str]] = {
    "a dataclass": (lambda: OutOfStock("A-1", wanted=3), "OutOfStock: sku='A-1', wanted=3", "FAILED_PRECONDITION"),
    "a dataclass by name": (lambda: OutOfStock(sku="A-1"), "OutOfStock: sku='A-1', wanted=1", "FAILED_PRECONDITION"),
    "a frozen dataclass": (lambda: Frozen("A-1"), "Frozen: sku='A-1'", "shop.frozen"),
    "a dataclass with slots": (lambda: Slotted("A-1"), "Slotted: sku='A-1'", "FAILED_PRECONDITION"),
    "a dataclass with a text": (lambda: OwnText("A-1"), "A-1 is sold out", ErrorCode.NOT_FOUND),
    "a dataclass with a code": (lambda: CodeField("shop.c", "A-1"), "CodeField: code='shop.c', sku='A-1'", "shop.c"),
    "a dataclass that calls __init__": (lambda: ToldAfterwards("A-1"), "no A-1 today", "shop.today"),
    "a dataclass of nothing": (Bare, "Bare", "FAILED_PRECONDITION"),
    "no super().__init__()": (lambda: NoSuper("A-1"), "A-1", "FAILED_PRECONDITION"),
    "no super().__init__(), by name": (lambda: ByName(sku="A-1"), "ByName", "FAILED_PRECONDITION"),
    "a code of the class": (lambda: ClassCode("no"), "no", "shop.class"),
    "a code that is given": (lambda: ClassCode("no", code="shop.given"), "no", "shop.given"),
    "a code that is a property": (lambda: PropertyCode("no"), "no", "shop.property"),
    "a code that raises": (lambda: CodeRaises("no"), "no", ErrorCode.UNKNOWN),
    "a code that cancels": (lambda: CodeCancels("no"), "no", ErrorCode.UNKNOWN),
    "a code without a text": (lambda: OddCode("no"), "no", ErrorCode.UNKNOWN),
    "a text that raises": (TextRaises, "TextRaises", "FAILED_PRECONDITION"),
    "a text that exits": (TextExits, "TextExits", "FAILED_PRECONDITION"),
    "a text that is none": (TextIsNone, "TextIsNone", "FAILED_PRECONDITION"),
    "a text of a class of its own": (TextIsOdd, "odd", "shop.odd"),
    "a message that is no text": (lambda: BusinessError(7), "7", "FAILED_PRECONDITION"),  # type: ignore[arg-type]
    "a message without a text": (lambda: BusinessError(Unprintable()), "BusinessError", "FAILED_PRECONDITION"),  # type: ignore[arg-type]
    "a builtin error as well": (lambda: ManyBases("no"), "no", "FAILED_PRECONDITION"),
    "no super() in another error": (lambda: PlainNoSuper(sku="hunter2"), None, ErrorCode.UNKNOWN),
    "a text that raises in another error": (PlainTextRaises, None, ErrorCode.UNKNOWN),
    "a BaseException": (lambda: Custom("hunter2"), None, ErrorCode.UNKNOWN),
    "a cancellation": (asyncio.CancelledError, None, ErrorCode.UNKNOWN),
    "GeneratorExit": (GeneratorExit, None, ErrorCode.UNKNOWN),
    "an exit": (lambda: SystemExit("hunter2"), None, ErrorCode.UNKNOWN),
}  # fmt: skip


class Imitation:
    """Claims to be of a class, and raises when asked of which."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise Custom("hunter2")


@dataclass
class Hostile:
    """Lets nobody compare, show, measure or hash it."""

    number: int

    def refuse(self, *_: object) -> Any:
        raise Custom("hunter2")

    __eq__ = __bool__ = __hash__ = __repr__ = __len__ = refuse  # type: ignore[assignment]


@dataclass(frozen=True)
class Ask(Query[int]):
    case: str


@dataclass(frozen=True)
class Give(Query[Hostile]):
    pass


@dataclass(frozen=True)
class Imitate(Query[int]):
    pass


@message(remote=False)
@dataclass(frozen=True)
class GiveHere(Query[Hostile]):
    pass


@dataclass(frozen=True)
class Happened(Event):
    case: str


Ways = Mapping[str, Mediator | ClusterMediator]


def answer(request: Ask) -> int:
    if request.case in ERRORS:
        make, _, _ = ERRORS[request.case]
        raise make()
    return 7


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def ways(told: list[str]) -> Iterator[Ways]:
    local = Mediator()
    local.register(Ask, answer)
    local.register(Give, lambda request: Hostile(7))
    local.register(Imitate, lambda request: Imitation())
    local.register(GiveHere, lambda request: Hostile(7))
    local.subscribe(Happened, lambda event: told.append("before"))
    local.subscribe(Happened, answer)
    local.subscribe(Happened, lambda event: told.append("after"))
    with three_ways(local) as made:
        yield made


def assert_told(result: CatgaResult[Any], case: str, delivery: Delivery = Delivery.EXECUTED) -> None:
    _, text, code = ERRORS[case]
    assert not result.is_success
    assert result.delivery is delivery
    assert result.code == (ErrorCode[code] if code in ErrorCode.__members__ else code)
    assert result.error == text or (text is None and "raised an error" in (result.error or ""))
    assert type(result.error) is str
    with pytest.raises(CallError) as raised:
        result.unwrap()
    assert (str(raised.value), raised.value.code) == (result.error, result.code)
    if delivery is Delivery.EXECUTED:
        assert type(raised.value) is (HandlerFailed if result.code is ErrorCode.UNKNOWN else BusinessError)


@pytest.mark.parametrize("case", ERRORS)
def test_any_exception_of_a_handler_is_a_failure_that_was_executed_here_as_there(ways: Ways, case: str) -> None:
    for mediator in ways.values():
        assert_told(mediator.send(Ask(case)), case)


@pytest.mark.parametrize("case", ERRORS)
def test_no_exception_of_a_handler_costs_the_other_answers_of_a_batch(ways: Ways, case: str) -> None:
    for mediator in ways.values():
        for timeout in (None, 30.0):
            first, odd, last = mediator.send_batch([Ask(""), Ask(case), Ask("")], timeout=timeout)
            assert (first.value, last.value) == (7, 7)
            assert_told(odd, case)


@pytest.mark.parametrize("case", ERRORS)
def test_no_exception_of_a_subscriber_keeps_the_others_from_being_told(ways: Ways, told: list[str], case: str) -> None:
    for mediator in (ways["the local mediator"], ways["its node"]):
        told.clear()
        (result,) = mediator.publish(Happened(case)).values()
        assert told == ["before", "after"]
        assert_told(result, case)


@pytest.mark.parametrize("case", ERRORS)
def test_any_exception_of_a_behaviour_is_a_failure_too(case: str) -> None:
    mediator = Mediator()
    mediator.register(Ask, answer)

    def broken(next_: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda request: answer(Ask(case))

    def broken_afterwards(next_: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda request: (next_(request), answer(Ask(case)))

    mediator.add_behavior(broken)
    assert_told(mediator.send(Ask("")), case, Delivery.NOT_EXECUTED)
    with create_cluster(mediator, node_id="n", discovery="memory://") as node:
        node.add_behavior(broken_afterwards)  # what it raises after a send that did not run says nothing else
        assert_told(node.send(Ask("")), case, Delivery.NOT_EXECUTED)


def test_a_value_that_cannot_be_compared_shown_or_measured_is_a_value_like_any_other(ways: Ways) -> None:
    for name, mediator in ways.items():
        assert mediator.send(Give()).unwrap().number == 7, name
        if not name.startswith("another node"):
            assert mediator.send(GiveHere()).unwrap().number == 7, name
            assert mediator.send_batch([GiveHere()])[0].is_success, name


def test_an_answer_that_raises_when_it_is_looked_at_is_a_failure(ways: Ways) -> None:
    for mediator in ways.values():
        result = mediator.send(Imitate())
        assert (result.code, result.delivery) == (ErrorCode.UNKNOWN, Delivery.EXECUTED)
        assert "hunter2" not in str(result.error)


def test_what_a_server_raises_to_end_the_process_goes_through_everything() -> None:
    """Gunicorn's signal handlers raise SystemExit in the middle of a handler."""
    local = Mediator()
    with ended_by_server() as interrupted, create_cluster(local, node_id="n", discovery="memory://") as node:
        local.register(Ask, interrupted)
        local.add_behavior(lambda next_: next_)
        node.add_behavior(lambda next_: next_)
        for send in (local.send, node.send):
            with pytest.raises(SystemExit):
                send(Ask(""))


@pytest.mark.parametrize("case", ["a text that raises", "a code that raises"])
def test_the_log_says_why_an_error_has_lost_its_text_or_code(
    ways: Ways, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "catga_sync.pipeline"):
        ways["the local mediator"].send(Ask(case))
    (record,) = caplog.records
    assert "the text or the code of" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], RuntimeError)


@every_row(
    "error",
    [
        OutOfStock("A-1", wanted=3), OutOfStock(sku="A-1"), Frozen("A-1"), Slotted("A-1"), OwnText("A-1"),
        CodeField("shop.c", "A-1"), ToldAfterwards("A-1"), Bare(), NoSuper("A-1"), ByName(sku="A-1"),
        ClassCode("no"), ClassCode("no", code="shop.given"), PropertyCode("no"), ManyBases("no"),
        BusinessError("no", code="x", delivery=Delivery.UNKNOWN, result=CatgaResult.failure("no")),
    ],
)  # fmt: skip
def test_an_error_is_the_same_after_pickling_and_copying(error: Any) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.code, again.args) == (str(error), error.code, error.args)
        assert (again.delivery, again.result) == (error.delivery, error.result)
        assert getattr(again, "sku", None) == getattr(error, "sku", None)


def test_an_error_that_is_no_text_in_a_result_becomes_one() -> None:
    assert CatgaResult(False, None, 7).error == "7"  # type: ignore[arg-type]
    assert type(CatgaResult.failure(OddText("odd")).error) is str
    assert CatgaResult(True).error is None

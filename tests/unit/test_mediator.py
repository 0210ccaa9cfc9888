"""The local mediator."""

import threading
from collections import Counter
from dataclasses import dataclass

import pytest

from catga_sync.context import CallContext, current_call, enter_call, leave_call
from catga_sync.deadline import Deadline
from catga_sync.errors import BusinessError, Delivery, ErrorCode, RegistrationError
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry
from tests.unit.ending import ended_by_server


@dataclass(frozen=True)
class Double(Query[int]):
    number: int = 0


@dataclass(frozen=True)
class Triple(Query[int]):
    number: int = 0


@dataclass(frozen=True)
class DoubleChild(Double):
    pass


@dataclass(frozen=True)
class Happened(Event):
    what: str = ""


@dataclass(frozen=True)
class HappenedChild(Happened):
    pass


class Undataclassed(Request[int]):
    pass


@pytest.fixture
def mediator():
    made = Mediator()
    made.register(Double, lambda request: request.number * 2)
    return made


@pytest.fixture
def expired_call():
    """A handler of a call whose time is up is what runs now."""
    token = enter_call(CallContext("outer", Deadline.after(-1.0)))
    yield
    leave_call(token)


# -- send --------------------------------------------------------------------------------------------------------------


def test_send_runs_the_handler_and_returns_its_result(mediator):
    result = mediator.send(Double(21))
    assert result == CatgaResult.success(42)
    assert len(result.request_id) == 32


@pytest.mark.parametrize("timeout", [None, 5, 0.5, float("inf")])
def test_a_timeout_that_is_not_up_changes_nothing(mediator, timeout):
    assert mediator.send(Double(21), timeout=timeout) == CatgaResult.success(42)


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_work_whose_time_is_up_is_not_started(timeout):
    ran = []
    mediator = Mediator()
    mediator.register(Double, ran.append)
    result = mediator.send(Double(), timeout=timeout)
    assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)
    assert ran == []


def test_a_type_without_a_handler_is_a_result_that_says_what_to_do(mediator):
    result = mediator.send(Triple())
    assert (result.code, result.delivery) == (ErrorCode.UNIMPLEMENTED, Delivery.NOT_EXECUTED)
    assert "Triple" in result.error
    assert "@mediator.handler" in result.error


def test_a_subclass_is_a_type_of_its_own(mediator):
    assert mediator.send(DoubleChild(1)).code is ErrorCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (Double, r"send an instance, Double\(\.\.\.\), not the class"),
        (Happened("x"), r"Happened is an Event; use publish"),
        ("Double", "str is no subclass of catga_sync.Request"),
        (None, "NoneType is no subclass"),
        ({"number": 1}, "dict is no subclass"),
    ],
)
def test_an_argument_that_is_no_request_is_a_type_error_that_says_why(mediator, argument, text):
    with pytest.raises(TypeError, match=f"^request: {text}"):
        mediator.send(argument)
    with pytest.raises(TypeError, match=f"^request: {text}"):
        mediator.send_batch([Double(1), argument])
    with pytest.raises(TypeError, match=f"^request: {text}"):
        list(mediator.send_stream([argument]))


@pytest.mark.parametrize("timeout", ["1", True, object()])
def test_a_timeout_that_is_no_number_is_a_type_error(mediator, timeout):
    with pytest.raises(TypeError, match=r"^timeout: "):
        mediator.send(Double(), timeout=timeout)
    with pytest.raises(TypeError, match=r"^timeout: "):
        mediator.send_batch([Double()], timeout=timeout)


def test_a_registry_of_the_caller_s_own_is_used():
    registry = MessageRegistry()
    mediator = Mediator(registry)
    mediator.register(Double, lambda request: 0)
    assert mediator.registry is registry
    assert Double in registry


def test_two_mediators_know_nothing_of_each_other(mediator):
    assert mediator.send(Double(1))
    assert not Mediator().send(Double(1))


def test_what_is_handled_here_can_be_asked(mediator):
    assert mediator.handles(Double)
    assert not mediator.handles(Triple)
    assert [entry.cls for entry in mediator.handled] == [Double]


def test_a_class_that_cannot_be_registered_is_a_mistake_of_the_caller(mediator):
    with pytest.raises(RegistrationError, match="Undataclassed"):
        mediator.send(Undataclassed())


def test_a_local_only_type_is_handled_like_any_other():
    @message(remote=False)
    @dataclass(frozen=True)
    class Private(Request[str]):
        pass

    mediator = Mediator()
    mediator.register(Private, lambda request: "here")
    assert mediator.send(Private()).value == "here"


def test_threads_may_send_and_register_at_once(mediator):
    def kind_number(n):
        @message(name=f"kind-{n}")
        @dataclass(frozen=True)
        class Kind(Query[int]):
            pass

        return Kind

    kinds = [kind_number(n) for n in range(20)]
    wrong, start = [], threading.Barrier(5)

    def send():
        start.wait(10)
        for number in range(300):
            result = mediator.send(Double(number))
            if result.value != number * 2:
                wrong.append(result)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait(10)
    for n, kind in enumerate(kinds):
        mediator.register(kind, lambda request, n=n: n)
        mediator.add_behavior(lambda next_: next_)
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert [mediator.send(kind()).value for kind in kinds] == list(range(20))


# -- the call around a send --------------------------------------------------------------------------------------------


def test_a_handler_sees_the_deadline_of_its_call():
    seen = []
    mediator = Mediator()
    mediator.register(Double, lambda request: seen.append(current_call()))
    result = mediator.send(Double(), timeout=50)
    (call,) = seen
    assert 0 < call.remaining() <= 50
    assert call.request_id == result.request_id
    assert call.source_node_id is None
    assert current_call() is None


def test_the_call_is_left_even_when_the_server_ends_the_process_in_the_middle_of_it():
    mediator = Mediator()
    with ended_by_server() as handler:
        mediator.register(Double, handler)
        with pytest.raises(SystemExit):
            mediator.send(Double(), timeout=5)
    assert current_call() is None


def test_a_nested_send_never_has_more_time_than_the_call_around_it():
    seen = {}
    mediator = Mediator()

    def inner(request):
        seen["inner"] = current_call()
        return 0

    def outer(request):
        seen["outer"] = current_call()
        return mediator.send(Triple(), timeout=1000)

    mediator.register(Double, outer)
    mediator.register(Triple, inner)
    assert mediator.send(Double(), timeout=20)
    assert seen["inner"].deadline.at < seen["outer"].deadline.at
    assert seen["inner"].request_id != seen["outer"].request_id


def test_a_nested_send_may_have_less_time_than_the_call_around_it():
    seen = []
    mediator = Mediator()
    mediator.register(Double, lambda request: mediator.send(Triple(), timeout=2))
    mediator.register(Triple, lambda request: seen.append(current_call().remaining()))
    mediator.send(Double(), timeout=100)
    assert seen[0] <= 2


def test_a_nested_send_with_a_timeout_is_not_started_when_the_outer_time_is_up(mediator, expired_call):
    result = mediator.send(Double(1), timeout=10)
    assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)


def test_a_nested_send_without_a_timeout_is_not_started_either(mediator, expired_call):
    result = mediator.send(Double(1))
    assert (result.code, result.delivery) == (ErrorCode.DEADLINE_EXCEEDED, Delivery.NOT_EXECUTED)


def test_a_nested_batch_without_a_timeout_is_not_started_either(mediator, expired_call):
    assert [result.code for result in mediator.send_batch([Double(1)])] == [ErrorCode.DEADLINE_EXCEEDED]


# -- behaviours --------------------------------------------------------------------------------------------------------


def test_behaviours_surround_the_handler_the_first_one_outermost(mediator):
    seen = []

    def named(name):
        def behavior(next_):
            def handle(request):
                seen.append(name)
                return next_(request)

            return handle

        return behavior

    mediator.add_behavior(named("outer"))
    mediator.add_behavior(named("inner"))
    assert mediator.send(Double(2)).value == 4
    assert seen == ["outer", "inner"]


def test_a_behaviour_is_built_once_for_a_type_and_not_for_a_send(mediator):
    built = []

    def behavior(next_):
        built.append(next_)
        return next_

    mediator.add_behavior(behavior)
    assert len(built) == 1
    for number in range(50):
        mediator.send(Double(number))
        mediator.send(Double(number), timeout=5)
    assert len(built) == 1
    mediator.register(Triple, lambda request: 0)
    assert len(built) == 2


def test_a_behaviour_works_for_handlers_registered_before_and_after_it(mediator):
    counted = Counter()

    def count(next_):
        def handle(request):
            counted[type(request)] += 1
            return next_(request)

        return handle

    mediator.add_behavior(count)
    mediator.register(Triple, lambda request: request.number * 3)
    mediator.send(Double(1))
    assert mediator.send(Triple(1)).value == 3
    assert counted == {Double: 1, Triple: 1}


def test_a_behaviour_that_raises_is_a_failed_result(mediator):
    def refuse(next_):
        def handle(request):
            raise BusinessError("not today", code="shop.closed")

        return handle

    mediator.add_behavior(refuse)
    result = mediator.send(Double(1))
    assert (result.error, result.code) == ("not today", "shop.closed")


@pytest.mark.parametrize("behavior", [None, 7, "logging"])
def test_a_behaviour_must_be_callable(mediator, behavior):
    with pytest.raises(RegistrationError, match=r"^behavior: "):
        mediator.add_behavior(behavior)
    assert mediator.send(Double(1)).value == 2


def test_a_behaviour_that_cannot_be_built_leaves_everything_as_it_was(mediator):
    def broken(next_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        mediator.add_behavior(broken)
    assert mediator.send(Double(1)).value == 2


# -- batch and stream --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 10])
def test_a_batch_keeps_the_order_and_each_item_fails_alone(mediator, timeout):
    def odd(request):
        if request.number % 2:
            raise BusinessError("odd")
        return request.number

    mediator.register(Triple, odd)
    results = mediator.send_batch([Triple(1), Double(1), Triple(2), DoubleChild(1)], timeout=timeout)
    assert [result.is_success for result in results] == [False, True, True, False]
    assert [result.value for result in results] == [None, 2, 2, None]
    assert results[0].error == "odd"


def test_an_empty_batch_has_no_results(mediator):
    assert mediator.send_batch([]) == []
    assert mediator.send_batch(iter([])) == []


def test_nothing_of_a_batch_runs_when_one_item_is_no_request(mediator):
    ran = []
    mediator.register(Triple, ran.append)
    with pytest.raises(TypeError):
        mediator.send_batch([Triple(), "x"])
    assert ran == []


def test_a_batch_whose_time_is_up_starts_nothing(mediator):
    results = mediator.send_batch([Double(1), Double(2)], timeout=0)
    assert {result.delivery for result in results} == {Delivery.NOT_EXECUTED}
    assert {result.code for result in results} == {ErrorCode.DEADLINE_EXCEEDED}


def test_each_item_of_a_batch_has_an_id_of_its_own(mediator):
    assert len({result.request_id for result in mediator.send_batch([Double(1), Double(2)])}) == 2


def test_each_item_of_a_batch_with_a_timeout_has_an_id_of_its_own(mediator):
    assert len({result.request_id for result in mediator.send_batch([Double(1), Double(2)], timeout=5)}) == 2


def test_a_stream_takes_a_request_only_when_its_result_is_asked_for(mediator):
    taken = []

    def requests():
        for number in range(1000):
            taken.append(number)
            yield Double(number)

    stream = mediator.send_stream(requests())
    assert taken == []
    assert next(stream).value == 0
    assert taken == [0]
    assert [next(stream).value, next(stream).value] == [2, 4]
    assert taken == [0, 1, 2]


def test_a_stream_may_be_endless(mediator):
    def requests():
        number = 0
        while True:
            yield Double(number)
            number += 1

    stream = mediator.send_stream(requests())
    assert [next(stream).value for _ in range(5)] == [0, 2, 4, 6, 8]


def test_a_failure_does_not_end_a_stream(mediator):
    assert [bool(result) for result in mediator.send_stream([Double(1), Triple(1), Double(2)])] == [True, False, True]


# -- events ------------------------------------------------------------------------------------------------------------


def test_every_subscriber_gets_the_event_in_order(mediator):
    heard = []
    mediator.subscribe(Happened, lambda event: heard.append(("first", event)))
    mediator.subscribe(Happened, lambda event: heard.append(("second", event)))
    assert mediator.publish(Happened("x")) == {"local": CatgaResult.success(None)}
    assert heard == [("first", Happened("x")), ("second", Happened("x"))]


def test_an_event_without_subscribers_is_no_failure(mediator):
    assert mediator.publish(Happened()) == {}


def test_a_subscriber_that_fails_keeps_no_other_from_the_event(mediator, caplog):
    heard = []

    def broken(event):
        raise ValueError("secret")

    mediator.subscribe(Happened, broken)
    mediator.subscribe(Happened, heard.append)
    outcome = mediator.publish(Happened("x"))["local"]
    assert heard == [Happened("x")]
    assert not outcome
    assert "secret" not in outcome.error
    assert "secret" in caplog.text


def test_what_a_subscriber_returns_is_nobody_s_business(mediator):
    mediator.subscribe(Happened, lambda event: 42)
    assert mediator.publish(Happened())["local"].value is None


def test_a_subclass_of_an_event_is_an_event_of_its_own(mediator):
    heard = []
    mediator.subscribe(Happened, heard.append)
    assert mediator.publish(HappenedChild()) == {}
    assert heard == []


def test_behaviours_are_for_requests(mediator):
    seen = []
    mediator.subscribe(Happened, seen.append)
    mediator.add_behavior(lambda next_: lambda request: seen.append("behaviour") or next_(request))
    mediator.publish(Happened())
    assert seen == [Happened()]


def test_a_batch_of_events_is_told_in_order(mediator):
    heard = []
    mediator.subscribe(Happened, lambda event: heard.append(event.what))
    assert mediator.publish_batch(Happened(what) for what in "abc") == [{"local": CatgaResult.success(None)}] * 3
    assert heard == ["a", "b", "c"]


@pytest.mark.parametrize("argument", [Double(1), Happened, "x", None])
def test_an_argument_that_is_no_event_is_a_type_error(mediator, argument):
    with pytest.raises(TypeError, match=r"^event: "):
        mediator.publish(argument)
    with pytest.raises(TypeError, match=r"^event: "):
        mediator.publish_batch([argument])


def test_what_is_subscribed_here_can_be_asked(mediator):
    mediator.subscribe(Happened, print)
    mediator.subscribe(Happened, print)
    assert [entry.cls for entry in mediator.subscribed] == [Happened]


# -- one interface with the cluster mediator ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        "handler", "register", "subscribe", "subscriber", "add_behavior", "send", "send_batch", "send_stream",
        "publish", "publish_batch", "broadcast", "explain",
    ],
)  # fmt: skip
def test_the_local_mediator_has_every_call_of_the_interface(mediator, call):
    assert callable(getattr(mediator, call))


def test_a_hook_that_is_added_leaves_behaviours_as_they_are():
    made, told = [], []

    class Watch:
        def on_handle(self, details):
            told.append(details)

    local = Mediator()

    def behavior(next_):
        made.append("made")
        local.add_hook(Watch())
        return next_

    local.register(Double, lambda request: 2)
    local.add_behavior(behavior)
    local.add_hook(Watch())
    assert local.send(Double(1)).is_success
    assert made == ["made"]
    assert len(told) == 2


def test_the_text_of_a_failure_of_a_behaviour_is_the_one_that_a_remote_caller_gets():
    mediator = Mediator()
    mediator.register(Double, lambda request: 2 * request.number)
    mediator.add_behavior(lambda next_: lambda request: CatgaResult.failure("\ud800" + "a" * 600))
    error = mediator.send(Double(7)).error or ""
    assert error.startswith("?a")
    assert len(error) <= 512

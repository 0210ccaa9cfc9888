"""FakeMediator: the tests of code that sends."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from flask import Flask, abort

from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.context import current_call
from catga_sync.errors import BusinessError, Delivery, ErrorCode, RegistrationError
from catga_sync.integrations.flask import CatgaCluster, mediator
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Query, Request, message
from catga_sync.results import CatgaResult
from catga_sync.testing import FakeMediator, LocalCluster, UnexpectedRequest


@dataclass(frozen=True)
class User:
    user_id: str
    name: str


@message(name="fake.GetUser")
@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str = "7"


@message(name="fake.Rename")
@dataclass(frozen=True)
class Rename(Request[None]):
    name: str = "Ada"


@message(name="fake.Renamed")
@dataclass(frozen=True)
class Renamed(Event):
    name: str = "Ada"


ADA = User("7", "Ada")


@pytest.fixture
def fake() -> FakeMediator:
    made = FakeMediator()
    made.when(GetUser).returns(ADA)
    return made


# -- responses ---------------------------------------------------------------------------------------------------------


def test_a_value_is_the_response_to_each_request_of_the_type(fake: FakeMediator) -> None:
    assert fake.send(GetUser("7")) == CatgaResult.success(ADA)
    assert [each.value for each in fake.send_batch([GetUser("8"), GetUser("9")], timeout=5)] == [ADA, ADA]
    assert [each.value for each in fake.send_stream([GetUser("10")])] == [ADA]
    assert fake.broadcast(GetUser("11"))["local"].value == ADA
    assert fake.sent == tuple(GetUser(str(number)) for number in range(7, 12))


def test_a_function_is_called_as_a_handler_is(fake: FakeMediator) -> None:
    fake.when(GetUser).returns(lambda request: User(request.user_id, "Eve"))
    assert fake.send(GetUser("9")).value == User("9", "Eve")

    def refuse(request: GetUser) -> User:
        raise BusinessError("no such user", code="users.unknown")

    fake.when(GetUser).returns(refuse)
    result = fake.send(GetUser())
    assert (result.error, result.code, result.delivery) == ("no such user", "users.unknown", Delivery.EXECUTED)


@pytest.mark.parametrize("delivery", list(Delivery))
def test_a_failure_reaches_the_caller_as_it_is(fake: FakeMediator, delivery: Delivery) -> None:
    failure: CatgaResult[User] = CatgaResult.failure("nobody there", ErrorCode.UNAVAILABLE, delivery=delivery)
    fake.when(GetUser).returns(failure)
    assert fake.send(GetUser()) == failure
    fake.when(GetUser).returns(lambda request: failure)
    result = fake.send(GetUser())
    assert result == failure
    assert len(result.request_id) == 32


def test_a_behaviour_may_make_a_success_of_a_failure(fake: FakeMediator) -> None:
    fake.when(GetUser).returns(CatgaResult.failure("nobody there", ErrorCode.UNAVAILABLE))
    fake.add_behavior(lambda next_: lambda request: next_(request) or ADA)
    assert fake.send(GetUser()).value == ADA


@pytest.mark.parametrize("text", ["", "x" * 600])
def test_a_failure_of_any_text_keeps_its_delivery(fake: FakeMediator, text: str) -> None:
    fake.when(GetUser).returns(CatgaResult.failure(text, ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED))
    assert fake.send(GetUser()).delivery is Delivery.NOT_EXECUTED


def test_a_failure_that_a_behaviour_makes_of_it_is_the_result(fake: FakeMediator) -> None:
    fake.when(GetUser).returns(CatgaResult.failure("raw", "a.raw"))
    fake.add_behavior(lambda next_: lambda request: next_(request) or CatgaResult.failure("mine", "b.mine"))
    result = fake.send(GetUser())
    assert (result.error, result.code) == ("mine", "b.mine")


def test_a_failure_of_an_attempt_before_is_not_the_result(fake: FakeMediator) -> None:
    failures = [CatgaResult[User].failure("first", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED)]

    def answer(request: GetUser) -> CatgaResult[User]:
        if failures:
            return failures.pop()
        raise BusinessError("second", code="x.second")

    fake.when(GetUser).returns(answer)
    fake.add_behavior(lambda next_: lambda request: next_(request) or next_(request))
    assert fake.send(GetUser()).code == "x.second"


def test_a_success_may_be_given_as_a_result(fake: FakeMediator) -> None:
    fake.when(GetUser).returns(CatgaResult.success(ADA, metadata={"cached": "1"}))
    result = fake.send(GetUser())
    assert (result.value, dict(result.metadata)) == (ADA, {"cached": "1"})


def test_none_is_a_response_where_a_handler_may_return_it(fake: FakeMediator) -> None:
    fake.when(Rename).returns(None)
    assert fake.send(Rename()) == CatgaResult.success()


@pytest.mark.parametrize(
    "answer",
    [None, "Ada", CatgaResult.success("Ada"), CatgaResult.success(), User(7, "Ada")],  # type: ignore[arg-type]
)
def test_a_response_of_another_type_is_a_mistake_of_the_test(fake: FakeMediator, answer: Any) -> None:
    with pytest.raises(TypeError, match=r"^returns: .*fake\.GetUser"):
        fake.when(GetUser).returns(answer)
    assert fake.send(GetUser()).value == ADA


def test_what_a_fake_function_returns_is_checked_as_of_a_handler(fake: FakeMediator) -> None:
    fake.when(GetUser).returns(lambda request: "Ada")  # type: ignore[arg-type, return-value]
    assert fake.send(GetUser()).code is ErrorCode.INTERNAL


def wants_two(request: GetUser, more: str) -> User:
    return ADA


def returns_text(request: GetUser) -> str:
    return "Ada"


async def waits(request: GetUser) -> User:
    return ADA


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: ADA, "takes no parameter"),
        (wants_two, "needs 'more' too"),
        (returns_text, "the response type of fake.GetUser is User"),
        (waits, "is async"),
        (AsyncMock(return_value=ADA), "is async"),
        (User, "give an instance"),
        (Mock(spec=ADA), "cannot be written"),
    ],
)
def test_a_function_that_can_be_no_handler_is_a_mistake_of_the_test(
    fake: FakeMediator, answer: Any, reason: str
) -> None:
    with pytest.raises(TypeError, match=rf"^returns: .*{reason}"):
        fake.when(GetUser).returns(answer)
    assert fake.send(GetUser()).value == ADA


def test_a_mock_is_called_with_the_request_and_not_asked_for_a_method_of_a_handler(fake: FakeMediator) -> None:
    answer = Mock(return_value=User("8", "Eve"))
    fake.when(GetUser).returns(answer)
    assert fake.send(GetUser("8")).value == User("8", "Eve")
    answer.assert_called_once_with(GetUser("8"))


def test_a_batch_has_one_timeout_for_all(fake: FakeMediator) -> None:
    deadlines: list[Any] = []

    def answer(request: GetUser) -> User:
        call = current_call()
        deadlines.append(None if call is None else call.deadline)
        return ADA

    fake.when(GetUser).returns(answer)
    fake.send_batch([GetUser("8"), GetUser("9")], timeout=5)
    first, second = deadlines
    assert first is not None
    assert first is second


def test_a_request_that_cannot_be_sent_elsewhere_cannot_be_sent_to_a_fake(fake: FakeMediator) -> None:
    result = fake.send(GetUser(7))  # type: ignore[arg-type]
    assert (result.code, result.delivery) == (ErrorCode.INVALID_ARGUMENT, Delivery.NOT_EXECUTED)


@pytest.mark.parametrize("argument", [GetUser, Renamed(), "GetUser"])
def test_an_argument_that_is_no_request_is_a_type_error_as_ever(fake: FakeMediator, argument: Any) -> None:
    for call in (fake.send, fake.broadcast, lambda each: fake.send_batch([each])):
        with pytest.raises(TypeError, match=r"^request: "):
            call(argument)
    assert fake.sent == ()


def test_only_requests_can_be_expected(fake: FakeMediator) -> None:
    with pytest.raises(RegistrationError, match="request_type"):
        fake.when(Renamed)  # type: ignore[type-var]


def test_a_real_handler_may_be_beside_it_and_is_not_replaced(fake: FakeMediator) -> None:
    fake.register(Rename, lambda request: None)
    assert fake.send(Rename())
    with pytest.raises(RegistrationError, match="has a handler already"):
        fake.when(Rename).returns(None)
    assert fake.sent == (Rename(),)


# -- what was not expected ---------------------------------------------------------------------------------------------


def test_an_unexpected_request_says_what_it_is_what_was_expected_and_how_to_add_it(fake: FakeMediator) -> None:
    with pytest.raises(UnexpectedRequest) as caught:
        fake.send(Rename("Eve"))
    assert str(caught.value) == (
        "unexpected request fake.Rename: Rename(name='Eve')\n"
        "expected: fake.GetUser\n"
        "to expect it: fake.when(Rename).returns(...)"
    )
    with pytest.raises(UnexpectedRequest, match="expected: nothing"):
        FakeMediator().broadcast(Rename())


def test_one_that_the_code_has_swallowed_is_found_afterwards(fake: FakeMediator) -> None:
    fake.assert_none_unexpected()
    for name in ("Eve", "Bob"):
        with pytest.raises(AssertionError):
            fake.send(Rename(name))
    with pytest.raises(UnexpectedRequest, match=r"(?s)Eve.*Bob"):
        fake.assert_none_unexpected()


def test_an_assertion_of_a_fake_function_fails_the_test_and_not_the_call(fake: FakeMediator) -> None:
    def check(request: GetUser) -> User:
        raise AssertionError("user_id is empty")

    fake.when(GetUser).returns(check)
    with pytest.raises(AssertionError, match="user_id is empty"):
        fake.send(GetUser(""))


def test_pytest_fail_in_a_fake_function_fails_the_test_and_not_the_call(fake: FakeMediator) -> None:
    fake.when(GetUser).returns(lambda request: pytest.fail("must not be asked"))
    with pytest.raises(pytest.fail.Exception, match="must not be asked"):
        fake.send(GetUser())


def test_one_that_the_test_has_caught_itself_is_wanted(fake: FakeMediator) -> None:
    def swallow() -> None:
        with suppress(AssertionError):
            fake.send(Rename("Eve"))

    with pytest.raises(UnexpectedRequest):
        fake.send(Rename("Bob"))
    here = test_one_that_the_test_has_caught_itself_is_wanted
    fake.assert_none_unexpected(unless_caught_in=here)
    swallow()
    with pytest.raises(UnexpectedRequest, match=r"\Aunexpected request fake\.Rename: Rename\(name='Eve'\)"):
        fake.assert_none_unexpected(unless_caught_in=here)


def test_what_was_expected_and_never_sent_can_be_asserted(fake: FakeMediator) -> None:
    fake.when(Rename).returns(None)
    fake.send(Rename())
    with pytest.raises(AssertionError, match=r"expects it: fake\.GetUser\nsent: Rename\(name='Ada'\)"):
        fake.assert_all_used()
    fake.send(GetUser())
    fake.assert_all_used()


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_are_noted_and_need_no_subscriber(fake: FakeMediator) -> None:
    assert fake.publish(Renamed("a")) == {}
    heard: list[Renamed] = []
    fake.subscribe(Renamed, heard.append)
    assert fake.publish_batch([Renamed("b")]) == [{"local": CatgaResult.success()}]
    assert fake.published == (Renamed("a"), Renamed("b"))
    assert heard == [Renamed("b")]
    with pytest.raises(TypeError, match=r"^event: "):
        fake.publish(GetUser())  # type: ignore[arg-type]


# -- where it goes -----------------------------------------------------------------------------------------------------


def test_it_takes_the_place_of_the_mediator_of_a_flask_app(fake: FakeMediator) -> None:
    app = Flask(__name__)
    app.testing = True
    CatgaCluster(Mediator(), app, node_id="web", endpoint="http://127.0.0.1:1")

    @app.get("/users/<user_id>")
    def show(user_id: str) -> dict[str, str]:
        result = mediator.send(GetUser(user_id))
        if not result:
            abort(result.http_status)
        assert result.value is not None
        return {"name": result.value.name}

    @app.post("/users/<user_id>")
    def rename(user_id: str) -> str:
        mediator.send(Rename(user_id))
        return ""

    real, app.extensions["catga_sync"] = app.extensions["catga_sync"], fake
    try:
        client = app.test_client()
        assert client.get("/users/7").json == {"name": "Ada"}
        with pytest.raises(UnexpectedRequest):
            client.post("/users/7")
        fake.when(GetUser).returns(CatgaResult.failure("", ErrorCode.UNAVAILABLE, delivery=Delivery.NOT_EXECUTED))
        assert client.get("/users/7").status_code == 503
    finally:
        real.close()


def test_it_serves_and_notes_the_calls_of_other_nodes_and_of_its_own(fake: FakeMediator) -> None:
    with LocalCluster() as cluster:
        node = cluster.add_node("users", fake)
        result = cluster.add_client().send(GetUser("7"))
        assert (result.value, result.node_id) == (ADA, "users")
        assert node.send(GetUser("8")).value == ADA
        assert [each.value for each in node.send_batch([GetUser("9")])] == [ADA]
    assert fake.sent == (GetUser("7"), GetUser("8"), GetUser("9"))


def fails(text: str) -> Any:
    raise AssertionError(text)


@pytest.mark.parametrize("ends", [pytest.fail, fails])
def test_an_assertion_behind_a_node_is_found_afterwards(fake: FakeMediator, ends: Any) -> None:
    fake.when(GetUser).returns(lambda request: ends("user_id is empty"))
    with LocalCluster() as cluster:
        cluster.add_node("users", fake)
        assert cluster.add_client().send(GetUser("")).code is ErrorCode.UNKNOWN
    with pytest.raises(UnexpectedRequest, match=r"GetUser\(user_id=''\).*user_id is empty"):
        fake.assert_none_unexpected()


def test_what_an_app_asks_of_a_clusters_mediator_it_can_ask_of_a_fake(fake: FakeMediator) -> None:
    def names(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    # "registry", "local" and the like are attributes of instances.
    real = create_cluster(Mediator(), node_id="users", environ={})
    wanted = names(ClusterMediator) | {name for name in vars(real) if not name.startswith("_")}
    # For integrations.
    assert {name for name in wanted if not hasattr(fake, name)} == {"options", "receiver", "surroundings"}

    with fake.start() as started:
        assert started is fake
        started.attach()
        started.on_event(print)
        assert (started.node.node_id, started.nodes(), started.events(), started.trouble) == ("local", (), (), None)
        assert started.explain(GetUser()).chosen == started.node
        assert started.local.send(GetUser()).value == ADA
        assert started.drain(timeout=1)
        assert not started.closed
    assert fake.closed


def test_it_sees_every_send_of_a_cluster_that_hooks_watch(fake: FakeMediator) -> None:
    class Watches:
        def on_attempt(self, details: Any) -> None:
            pass

    with create_cluster(fake, node_id="faked", discovery="memory://", environ={}, hooks=(Watches(),)) as cluster:
        cluster.start().nodes()
        sent = [GetUser(str(number)) for number in range(3)]
        assert [cluster.send(each).value for each in sent] == [ADA] * 3
    assert fake.sent == tuple(sent)


def test_threads_may_share_it(fake: FakeMediator) -> None:
    fake.when(GetUser).returns(lambda request: User(request.user_id, "x"))
    wrong: list[Any] = []

    def send(name: str) -> None:
        for number in range(100):
            user_id = f"{name}{number}"
            if fake.send(GetUser(user_id)).value != User(user_id, "x"):
                wrong.append(user_id)

    threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert len(fake.sent) == 400

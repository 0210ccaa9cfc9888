"""A mediator for the tests of what sends: its responses are given in the test, and it notes what is sent.

A response takes the way of a handler's, so a fake accepts and returns what a real mediator would. Only a failure is
returned as it is given: it may be one in which no handler ran.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from inspect import unwrap
from typing import Any, Generic, TypeVar
from unittest.mock import AsyncMock

from catga_sync.cluster.events import ClusterEvent
from catga_sync.context import CallContext, local_call
from catga_sync.errors import RegistrationError, SerializationError
from catga_sync.handlers import check_function, check_message_class, check_return_annotation
from catga_sync.mediator import Mediator
from catga_sync.messages import Event, Request, require_event, require_request
from catga_sync.nodes import ClusterNode
from catga_sync.pipeline import WriteResponse, error_text
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageRegistry, MessageType

__all__ = ["Expectation", "FakeMediator", "UnexpectedRequest"]

T = TypeVar("T")


class UnexpectedRequest(AssertionError):
    """A request was sent to a ``FakeMediator`` that has no response for its type."""


class _Exact:
    """What the present send gives exactly so: a failure, or an error of the test itself. Of one call."""

    failure: CatgaResult[Any] | None = None
    error: BaseException | None = None


_exact: ContextVar[_Exact | None] = ContextVar("catga_sync_fake", default=None)


class FakeMediator(Mediator):
    """
    A mediator whose responses are given with ``when``. Thread-safe.

        fake = FakeMediator()
        fake.when(GetUser).returns(User("7", "Ada"))
        app.extensions["catga_sync"] = fake

    A request of any other type raises ``UnexpectedRequest`` where it is sent. Events may always be published. Real
    handlers and subscribers can be registered as with a ``Mediator``. What an app asks of a ``ClusterMediator`` it can
    ask of this: it is alone in its cluster, and starts nothing. It has no ``options``, ``receiver`` and
    ``surroundings``, which are for integrations.

    Args:
        registry: The message types. None means a registry of its own.

    .. versionadded:: 0.1
    """

    def __init__(self, registry: MessageRegistry | None = None) -> None:
        super().__init__(registry)
        self._notes = threading.Lock()
        # Guarded by _notes: the answers, what was sent and published, and the errors about what was not expected.
        self._answers: dict[type, Callable[[Any], Any]] = {}
        self._sent: list[Request[Any]] = []
        self._published: list[Event] = []
        self._unexpected: list[BaseException] = []
        #: Whether ``close`` was called.
        self.closed = False

    def when(self, request_type: type[Request[T]]) -> Expectation[T]:
        """
        Return what takes the response to requests of a type: ``fake.when(GetUser).returns(user)``.

        Raises:
            RegistrationError: ``request_type`` is no subclass of ``Request``.
        """
        check_message_class(request_type, Request, "request_type")
        return Expectation(self, request_type)

    @property
    def sent(self) -> tuple[Request[Any], ...]:
        """The requests that were sent, in order, those that were not expected as well."""
        with self._notes:
            return tuple(self._sent)

    @property
    def published(self) -> tuple[Event, ...]:
        """The events that were published, in order."""
        with self._notes:
            return tuple(self._published)

    def assert_all_used(self) -> None:
        """
        Check that of each type given to ``when`` a request was sent.

        Raises:
            AssertionError: It names the types of which none was.
        """
        with self._notes:
            used = {type(request) for request in self._sent}
            unused = [kind for kind in self._answers if kind not in used]
            sent = list(self._sent)
        if unused:
            names = ", ".join(self.registry.ensure(kind).name for kind in unused)
            raise AssertionError(f"never sent, though the test expects it: {names}\nsent: {_listed(map(repr, sent))}")

    def assert_none_unexpected(self, *, unless_caught_in: Callable[..., object] | None = None) -> None:
        """
        Check that no request was sent that was not expected; the fixture ``fake_mediator`` does so after the test.

        Args:
            unless_caught_in: A function, such as that of the test: what was raised and caught in its own lines is
                wanted. None means that nothing is.

        Raises:
            UnexpectedRequest: One was, and the code under test has swallowed the error. It names as well what a
                function given to ``returns`` has asserted behind a node, where no caller of the test gets it.
        """
        with self._notes:
            errors = list(self._unexpected)
        code = getattr(unwrap(unless_caught_in), "__code__", None) if unless_caught_in is not None else None
        texts = [str(each) for each in errors if code is None or _caught_by(each) is not code]
        if texts:
            raise UnexpectedRequest("\n".join(texts))

    def send(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> CatgaResult[T]:
        """
        Return the response that was given for the type of the request; otherwise as ``Mediator.send``.

        Raises:
            UnexpectedRequest: None was given.
        """
        return self._dispatch_watched(require_request(request), local_call(timeout, context))

    def dispatch(
        self, request: Request[T], call: CallContext, node_id: str | None = None, write: WriteResponse | None = None
    ) -> CatgaResult[T]:
        """Note the request, and return its response: every send comes here, that of another node as well."""
        self._expects(request)
        with self._notes:
            self._sent.append(request)
        exact = _Exact()
        token = _exact.set(exact)
        try:
            result = super().dispatch(request, call, node_id, write=write)
        finally:
            _exact.reset(token)
        if write is not None:
            if exact.error is not None:
                self._note(UnexpectedRequest(f"the function for {request!r} has failed: {exact.error}"))
            return result
        if exact.error is not None:
            raise exact.error
        failure = exact.failure
        # Behaviours may have made another result of it. Of a handler it would be one in which the handler ran.
        if failure is None or result != failure._with(delivery=result.delivery, error=error_text(failure.error or "")):
            return result
        return failure._with(request_id=result.request_id)

    def broadcast(
        self, request: Request[T], *, timeout: float | None = None, context: Mapping[str, str] | None = None
    ) -> dict[str, CatgaResult[T]]:
        """Send the request to the one node that there is, ``"local"``; see ``send``."""
        return {"local": self.send(request, timeout=timeout, context=context)}

    def publish(self, event: Event, *, context: Mapping[str, str] | None = None) -> dict[str, CatgaResult[None]]:
        """Note the event, and call the subscribers that are registered here; see ``Mediator.publish``."""
        self.registry.ensure(type(require_event(event)))
        with self._notes:
            self._published.append(event)
        return super().publish(event, context=context)

    @property
    def local(self) -> FakeMediator:
        """This mediator itself: see ``ClusterMediator.local``."""
        return self

    @property
    def node(self) -> ClusterNode:
        """A node ``local`` without an endpoint: see ``ClusterMediator.node``."""
        return ClusterNode("local", None)

    @property
    def trouble(self) -> None:
        """None: see ``ClusterMediator.trouble``."""

    def nodes(self) -> tuple[ClusterNode, ...]:
        """Return no node: see ``ClusterMediator.nodes``."""
        return ()

    def events(self) -> tuple[ClusterEvent, ...]:
        """Return no event: see ``ClusterMediator.events``."""
        return ()

    def on_event(self, listener: Callable[[ClusterEvent], object]) -> None:
        """Do nothing: there are no events, see ``ClusterMediator.on_event``."""

    def attach(self, under_test: Callable[[], bool] | None = None, *, threads: int | None = None) -> None:
        """Do nothing: see ``ClusterMediator.attach``."""

    def start(self) -> FakeMediator:
        """Start nothing, and return this mediator: see ``ClusterMediator.start``."""
        return self

    def drain(self, timeout: float | None = None) -> bool:
        """Return that nothing runs: see ``ClusterMediator.drain``."""
        return True

    def close(self) -> None:
        """Note it in ``closed``, and end the threads of ``asend``; it answers as before."""
        self.closed = True
        super().close()

    def __enter__(self) -> FakeMediator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def after_fork_in_child(self) -> None:
        """See ``AcrossForks``."""
        super().after_fork_in_child()
        self._notes = threading.Lock()

    def _answer_with(self, request_type: type[Request[Any]], answer: Callable[[Any], Any]) -> None:
        with self._notes:
            known = request_type in self._answers
        if not known:
            self.register(request_type, self._answer)
        with self._notes:
            self._answers[request_type] = answer

    def _answer(self, request: Any) -> Any:
        with self._notes:
            answer = self._answers[type(request)]
        exact = _exact.get()
        if exact is not None:  # a behaviour may have asked before
            exact.failure = None
        try:
            given = answer(request)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            # Of the test (pytest.fail raises no Exception), or of a send that it did not expect: no error of a handler.
            if isinstance(exc, Exception) and not isinstance(exc, AssertionError):
                raise
            if exact is None:  # a behaviour has moved the call to a thread of its own
                raise
            exact.error = exc
            raise AssertionError(str(exc)) from exc
        if exact is not None and isinstance(given, CatgaResult) and not given.is_success:
            exact.failure = given
        return given

    def _expects(self, request: Request[Any]) -> None:
        name = self.registry.ensure(type(request)).name
        if self.handles(type(request)):
            return
        expected = _listed(entry.name for entry in self.handled)
        text = (
            f"unexpected request {name}: {request!r}\nexpected: {expected}\n"
            f"to expect it: fake.when({type(request).__name__}).returns(...)"
        )
        error = UnexpectedRequest(text)
        with self._notes:
            self._sent.append(request)
        self._note(error)
        raise error

    def _note(self, error: BaseException) -> None:
        with self._notes:
            self._unexpected.append(error)


class Expectation(Generic[T]):
    """The type of request for which a response is to be given; made by ``FakeMediator.when``. Thread-safe."""

    def __init__(self, fake: FakeMediator, request_type: type[Request[T]]) -> None:
        self._fake = fake
        self._request_type = request_type

    def returns(self, answer: T | CatgaResult[T] | Callable[[Any], T | CatgaResult[T]]) -> None:
        """
        Give the response to each request of the type, in place of one that was given before.

        Args:
            answer:
                A response, a ``CatgaResult``, or a function that is called with the request as a handler is; a ``Mock``
                is one. A failed result reaches the caller as it is, with its ``delivery``. An ``AssertionError`` of the
                function is raised where the request was sent, as is ``pytest.fail("...")``.

        Raises:
            TypeError: The response is none of this type of request, or the function can be no handler of it.
            RegistrationError: The type has a handler that was registered otherwise.
        """
        entry = self._fake.registry.ensure(self._request_type)
        if callable(answer) and not (entry.response_check and isinstance(answer, entry.response_check)):
            if isinstance(answer, AsyncMock):
                raise TypeError("returns: an AsyncMock is async; handlers are plain functions that block: give a Mock")
            try:
                check_return_annotation(check_function(answer), entry)
            except RegistrationError as exc:
                raise TypeError(f"returns: {str(exc).removeprefix('handler: ')}") from exc
            self._fake._answer_with(self._request_type, answer)
            return
        if not isinstance(answer, CatgaResult):
            _check_response(entry, answer)
        elif answer.is_success:
            _check_response(entry, answer.value)
        self._fake._answer_with(self._request_type, lambda request: answer)


def _check_response(entry: MessageType, value: Any) -> None:
    """Raise ``TypeError`` unless a handler of the type could return this value."""
    if value is None and entry.response_may_be_none:
        return
    check = entry.response_check
    if value is None or (check is not None and not isinstance(value, check)):
        raise TypeError(f"returns: a response to {entry.name} is {entry.response_name}, not {value!r}")
    if entry.response_codec is None or not entry.remote:
        return
    try:
        entry.response_codec.encode(value)
    except SerializationError as exc:
        raise TypeError(f"returns: the response to {entry.name} cannot be written: {exc}") from exc


def _caught_by(error: BaseException) -> object:
    """Return the code in which an error was caught; None when it was raised nowhere."""
    return None if error.__traceback__ is None else error.__traceback__.tb_frame.f_code


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"

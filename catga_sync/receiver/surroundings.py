"""What a web framework puts around a call: Flask's app context, Django's signals and connection clean-up.

A call from another node gets surroundings of its own, and so does each item of a batch. A call that starts in this
process uses the present surroundings, such as those of a view, and gets its own where there are none: in a script, a
shell, a thread.

Rules of this file:
1. No framework is imported here. Each integration has a ``Scope``; Django's is found by name, since a process has but
   one Django.
2. What a scope raises ends its call as a failure, and nothing else.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from contextvars import Context, ContextVar, Token, copy_context
from types import TracebackType
from typing import Any, Protocol, TypeVar

from catga_sync.errors import Delivery, ErrorCode, ends_process
from catga_sync.pipeline import failure_of, for_others, raised_in_call
from catga_sync.results import CatgaResult

__all__ = ["Scope", "Surroundings"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Scope(Protocol):
    """
    What one framework puts around a call. Called in the thread of the call, by many threads at once.

    .. versionadded:: 0.1
    """

    @property
    def hidden(self) -> Collection[ContextVar[Any]]:
        """The context variables of a web request: hidden from calls of other nodes."""

    def present(self) -> bool:
        """Return whether the code that runs now is within such a scope already."""

    def enter(self) -> AbstractContextManager[object]:
        """
        Return the scope of one call.

        If the call fails, it is left with what the handler has raised, or else with what ``unwrap`` would raise.
        """


class Surroundings:
    """
    The scopes of one cluster mediator. Thread-safe.

    .. versionadded:: 0.1
    """

    def __init__(self) -> None:
        #: Swapped whole; the outermost first.
        self._scopes: tuple[Scope, ...] = ()
        #: The variables that they hide.
        self._hidden: frozenset[ContextVar[Any]] = frozenset()
        self._django_is_in = False

    def add(self, *added: Scope) -> None:
        """
        Put scopes around every call that runs in this process. One of the same class takes the place of the former.

        A mediator that outlives its app, as in a test suite that makes an app for each test, must not keep them all.
        """
        kinds = {type(each) for each in added}
        scopes = (*(each for each in self._scopes if type(each) not in kinds), *added)
        self._hidden = frozenset(variable for each in scopes for variable in each.hidden)
        self._scopes = scopes

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes, the outermost first."""
        return self._scopes

    def run_received(self, run: Callable[[], CatgaResult[T]], name: str) -> CatgaResult[T]:
        """
        Run a call from another node in surroundings of its own; what it sets in a context variable ends with it.

        Args:
            run: Runs the handler and writes its response.
            name: Wire name of the message type, for texts.
        """
        if not self._django_is_in and "django.apps" in sys.modules:
            self._add_django()
        scopes = self._scopes
        context = copy_context()
        if not self._hidden.isdisjoint(context):
            context = _without(self._hidden, context)
        if scopes:
            return context.run(_run_within, scopes, run, name)
        if raised_in_call.get() is not None:
            # What this handler raises is nothing to what surrounds another call of this thread.
            context.run(raised_in_call.set, None)
        return context.run(run)

    def run_here(self, run: Callable[[], CatgaResult[T]], name: str) -> CatgaResult[T]:
        """Run a call of this process, in the surroundings that are there or else in its own; arguments as above."""
        if not self._django_is_in and "django.apps" in sys.modules:
            self._add_django()
        missing = tuple(scope for scope in self._scopes if not scope.present())
        return _run_within(missing, run, name) if missing else run()

    def complete(self) -> bool:
        """Return whether a call of this process that runs now gets no surroundings of its own."""
        if not self._django_is_in and "django.apps" in sys.modules:
            self._add_django()
        return not self._scopes or all(scope.present() for scope in self._scopes)

    def _add_django(self) -> None:
        django: Any = importlib.import_module("catga_sync.integrations.django.scopes")
        self.add(django.DjangoScope(), django.AtomicScope())
        # Last: no other call of the first moment is to run without them.
        self._django_is_in = True


def _run_within(scopes: tuple[Scope, ...], run: Callable[[], CatgaResult[T]], name: str) -> CatgaResult[T]:
    result: CatgaResult[T] | None = None
    failure: BaseException | None = None
    raised: list[BaseException] = []
    token: Token[list[BaseException] | None] | None = None
    try:
        with scopes[0].enter() if len(scopes) == 1 else _Nested(scopes):
            token = raised_in_call.set(raised)
            result = run()
            if not result.is_success:
                # What surrounds the call sees its failure, as if it had stood around the handler alone.
                failure = raised[0] if raised else result._to_error()
                raise failure
    except BaseException as exc:
        if ends_process(exc) and exc is not failure:
            raise
        if token is None:
            _log.exception("the surroundings of %s could not be made", name)
        elif result is None:
            raise
        elif result.is_success:
            return for_others(failure_of(exc, name), name)
        elif exc is not failure:
            _log.exception("the surroundings of %s could not be left", name)
    finally:
        if token is not None:
            raised_in_call.reset(token)
        del failure, raised  # their tracebacks hold this frame
    if token is None:
        return CatgaResult.failure(
            f"the surroundings of {name} could not be made; the log of the node that was to run it has the details",
            ErrorCode.INTERNAL,
            delivery=Delivery.NOT_EXECUTED,
        )
    if result is None:
        raise RuntimeError(f"the surroundings of {name} have swallowed an error of the receiver")
    return result


class _Nested:
    """Several scopes, one within the other. Used by one thread, once."""

    __slots__ = ("_entered", "_scopes")

    def __init__(self, scopes: tuple[Scope, ...]) -> None:
        self._scopes = scopes

    def __enter__(self) -> None:
        failure: BaseException | None = None
        with ExitStack() as entering:
            try:
                for scope in self._scopes:
                    entering.enter_context(scope.enter())
            except BaseException as exc:
                failure = exc
                raise
            self._entered = entering.pop_all()
        if failure is not None:  # an outer scope has swallowed it, and the inner one is not there
            raise failure

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> bool:
        return bool(self._entered.__exit__(kind, exc, at))


def _without(hidden: Collection[ContextVar[Any]], context: Context) -> Context:
    """Return a copy of a context that lacks some variables."""
    own = Context()
    for variable, value in context.items():
        if variable not in hidden:
            own.run(variable.set, value)
    return own

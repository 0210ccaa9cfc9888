"""The part ``local``: a request whose handler is in this process, beside other mediators and the call itself.

Figures are seconds a call. Libraries that are asynchronous send in one running loop, so that no start of a loop is
theirs. They ask a container for their handlers: that of their documentation, ``di``, and once more a bare one of ours
that makes the handler and nothing else, to tell the mediator from its container.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import measure
from benchmarks.bench.messages import Ask, Told, answer
from benchmarks.bench.part import Part, Settings
from catga_sync import Mediator, create_cluster

#: How often a call is made for one figure.
CALLS, QUICK_CALLS = 2_000, 50


class BareContainer:
    """What the other libraries ask for their handlers, at its simplest."""

    external_container = None

    def attach_external_container(self, container: object) -> None:
        raise NotImplementedError

    async def resolve(self, kind: Callable[[], Any]) -> Any:
        return kind()


def with_di(container: Any, handler: type) -> Any:
    """Return a container of the library with ``di`` behind it, set up as its documentation does."""
    import di
    from di.dependent import Dependent

    external = di.Container()
    external.bind(di.bind_by_type(Dependent(handler, scope="request"), handler))
    container.attach_external_container(external)
    return container


def catga_sync() -> Callable[[], object]:
    local, request = Mediator(), Ask("tea")
    local.register(Ask, answer)
    return lambda: local.send(request).unwrap()


def a_dict() -> Callable[[], object]:
    handlers: dict[type, Callable[[Any], object]] = {Ask: answer}
    request = Ask("tea")
    return lambda: handlers[type(request)](request)


def mediatr() -> Callable[[], object]:
    from mediatr import Mediator as Other

    class Question:
        text = "tea"

    class Handler:
        def handle(self, request: Question) -> Told:
            return Told(request.text)

    Handler.handle.__annotations__["request"] = Question
    Other.register_handler(Handler)
    other, request = Other(), Question()
    return lambda: other.send(request)


def diator(container: object = None) -> Callable[[], Awaitable[object]]:
    from diator.container.di import DIContainer
    from diator.mediator import Mediator as Other
    from diator.requests import Request, RequestHandler, RequestMap
    from diator.response import Response

    @dataclass(frozen=True, kw_only=True)
    class Question(Request):
        text: str

    @dataclass(frozen=True, kw_only=True)
    class Reply(Response):
        text: str

    class Handler(RequestHandler[Question, Reply]):
        def __init__(self) -> None:
            self.made: list[Any] = []

        @property
        def events(self) -> list[Any]:
            return self.made

        async def handle(self, request: Question) -> Reply:
            return Reply(text=request.text)

    known = RequestMap()
    known.bind(Question, Handler)
    other, request = Other(known, container or with_di(DIContainer(), Handler)), Question(text="tea")
    return lambda: other.send(request)


def python_cqrs(container: object = None) -> Callable[[], Awaitable[object]]:
    import cqrs

    @dataclass
    class Reply(cqrs.DCResponse):
        text: str

    @dataclass
    class Question(cqrs.DCRequest):
        text: str

    class Handler(cqrs.RequestHandler):
        @property
        def events(self) -> list[Any]:
            return []

        async def handle(self, request: Question) -> Reply:
            return Reply(text=request.text)

    known = cqrs.RequestMap()
    known.bind(Question, Handler)
    used = container or with_di(cqrs.DIContainer(), Handler)
    other, request = cqrs.RequestMediator(known, used), Question(text="tea")
    return lambda: other.send(request)


async def _each(call: Callable[[], Awaitable[object]], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        await call()
    return (time.perf_counter() - began) / count


def run(settings: Settings) -> measure.Measured:
    count = QUICK_CALLS if settings.quick else CALLS
    failures: dict[str, str] = {}
    cases: dict[str, measure.Case] = {}
    plain = {"catga_sync": catga_sync, "a dict": a_dict, "mediatr": mediatr}
    others = {
        "diator": diator,
        "diator, bare container": lambda: diator(BareContainer()),
        "python-cqrs": python_cqrs,
        "python-cqrs, bare container": lambda: python_cqrs(BareContainer()),
    }
    for name, make in {**plain, **others}.items():
        try:
            call: Any = make()
        except Exception as exc:
            failures[name] = measure.told(exc)
        else:
            cases[name] = (
                functools.partial(measure.seconds_each, call, count)
                if name in plain
                else lambda call=call: asyncio.run(_each(call, count))
            )
    request = Ask("tea")
    with create_cluster(_answering(), node_id="alone", discovery="memory://bench", environ={}) as alone:
        cases["catga_sync, in a cluster"] = lambda: measure.seconds_each(lambda: alone.send(request).unwrap(), count)
        tick = settings.progress("local", (settings.rounds + 1) * len(cases))
        measured = measure.in_turns(cases, settings.rounds, tick=tick)
    measured.failures.update(failures)
    return measured


def _answering() -> Mediator:
    local = Mediator()
    local.register(Ask, answer)
    return local


PART = Part("local", "A handler in the same process", run)

"""The part ``batch``: a thousand requests one by one, and as one batch. Figures are seconds for all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from benchmarks.bench import measure
from benchmarks.bench.messages import TEXT, Ask, Told
from benchmarks.bench.part import Part, Settings
from benchmarks.bench.peers import catga, pyro
from benchmarks.bench.servers import free_port, started
from catga_sync import ClusterMediator

MANY, QUICK = 1_000, 20


def run(settings: Settings) -> measure.Measured:
    count = QUICK if settings.quick else MANY
    cases: dict[str, measure.Case] = {}
    failures: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        port = free_port()
        node = stack.enter_context(started(catga.command(port), port))
        other_port = free_port()
        daemon = stack.enter_context(started(pyro.command(other_port), other_port))
        node.wait_until_open()
        for name, stream in (("stream", "on"), ("POST", "off")):
            caller = stack.enter_context(catga.mediator(port, stream=stream))
            cases[f"{name}, one by one"] = lambda caller=caller: _seconds(lambda: _one_by_one(caller, count))
            cases[f"{name}, batch"] = lambda caller=caller: _seconds(lambda: _as_batch(caller, count))
        try:
            daemon.wait_until_open()
            cases["Pyro5, batch"] = _pyro_batch(stack, other_port, count)
        except Exception as exc:
            failures["Pyro5, batch"] = measure.told(exc)
        tick = settings.progress("batch", (settings.rounds + 1) * len(cases))
        measured = measure.in_turns(cases, settings.rounds, tick=tick)
    measured.failures.update(failures)
    return measured


def _seconds(call: Callable[[], list[Told]]) -> float:
    began = time.perf_counter()
    told = call()
    took = time.perf_counter() - began
    if any(each != Told(TEXT) for each in told):
        raise ValueError("a response is not the text")
    return took


def _one_by_one(caller: ClusterMediator, count: int) -> list[Told]:
    return [caller.send(Ask(TEXT)).unwrap() for _ in range(count)]


def _as_batch(caller: ClusterMediator, count: int) -> list[Told]:
    return [result.unwrap() for result in caller.send_batch([Ask(TEXT) for _ in range(count)])]


def _pyro_batch(stack: contextlib.ExitStack, port: int, count: int) -> measure.Case:
    from Pyro5.api import BatchProxy, Proxy

    pyro.register()
    proxy = stack.enter_context(Proxy(f"PYRO:{pyro.OBJECT}@127.0.0.1:{port}"))

    def call() -> list[Told]:
        batch = BatchProxy(proxy)
        for _ in range(count):
            batch.ask(Ask(TEXT))
        return list(batch())

    return lambda: _seconds(call)


PART = Part("batch", "A batch of 1,000", run)

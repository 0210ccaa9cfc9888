"""The part ``growth``: what a call costs as something grows. Figures are seconds a call.

The name of a case is "axis / series / size". The axes:

``payload``
    The length of the text, over a stream, by POST and with grpcio.
``types``
    Types with a handler, for a request whose handler is in this process.
``nodes``
    Nodes of the cluster, in the simulator of ``catga_sync.testing``: routing and failover without a network.
``streams``
    Streams that are open at the node, all but one with a call that runs.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass

from benchmarks.bench import measure
from benchmarks.bench.messages import TEXT, Ask, Told, answer
from benchmarks.bench.part import Part, Settings
from benchmarks.bench.peers import Asking, catga, grpcio
from benchmarks.bench.servers import free_port, started
from catga_sync import ClusterMediator, Mediator, Request
from catga_sync.testing import Simulation

#: Seconds within which the calls that are to be held have arrived.
ARRIVING_TIME = 60.0


@dataclass(frozen=True)
class Sizes:
    payload: tuple[int, ...] = (100, 1_000, 10_000, 100_000, 1_000_000)
    types: tuple[int, ...] = (10, 100, 1_000, 10_000)
    nodes: tuple[int, ...] = (3, 10, 100, 1_000)
    streams: tuple[int, ...] = (1, 10, 100, 500)


QUICK = Sizes(payload=(100, 1_000), types=(10, 100), nodes=(3, 10), streams=(1, 5))


def run(settings: Settings) -> measure.Measured:
    sizes = QUICK if settings.quick else Sizes()
    calls = max(10, settings.calls // 10)
    measured = measure.Measured()
    axes = {"payload": _payload, "types": _types, "nodes": _nodes, "streams": _streams}
    cases = 3 * len(sizes.payload) + len(sizes.types) + len(sizes.nodes) + len(sizes.streams)
    tick = settings.progress("growth", (settings.rounds + 1) * cases)
    for axis, make in axes.items():
        # One axis after another, so that the 500 streams of the last are nobody else's load.
        try:
            with contextlib.ExitStack() as stack:
                found = measure.in_turns(make(stack, getattr(sizes, axis), calls), settings.rounds, tick=tick)
                measured.figures.update(found.figures)
                measured.failures.update(found.failures)
        except Exception as exc:
            measured.fail(axis, exc)
    return measured


def _payload(stack: contextlib.ExitStack, sizes: tuple[int, ...], calls: int) -> dict[str, measure.Case]:
    port, other_port = free_port(), free_port()
    node = stack.enter_context(started(catga.command(port), port))
    other = stack.enter_context(started(grpcio.command(other_port), other_port))
    node.wait_until_open()
    other.wait_until_open()
    asks: dict[str, Asking] = {
        "stream": stack.enter_context(catga.connect(port, 1))[0],
        "POST": stack.enter_context(catga.connect(port, 1, stream="off"))[0],
        "grpcio": stack.enter_context(grpcio.connect(other_port, 1))[0],
    }
    return {
        f"payload / {name} / {size}": _case(functools.partial(ask, "x" * size), calls)
        for name, ask in asks.items()
        for size in sizes
    }


def _types(stack: contextlib.ExitStack, sizes: tuple[int, ...], calls: int) -> dict[str, measure.Case]:
    cases = {}
    for size in sizes:
        local = Mediator()
        local.register(Ask, answer)
        for number in range(size - 1):
            kind = make_dataclass(f"Kind{number}", [("text", str)], bases=(Request[Told],), frozen=True)
            kind.__module__ = "bench"
            local.register(kind, lambda request: Told(request.text))
        call = functools.partial(local.send, Ask(TEXT))
        cases[f"types / local / {size}"] = functools.partial(measure.seconds_each, call, 10 * calls)
    return cases


def _nodes(stack: contextlib.ExitStack, sizes: tuple[int, ...], calls: int) -> dict[str, measure.Case]:
    cases = {}
    for size in sizes:
        sim = stack.enter_context(Simulation(seed=1))
        for number in range(size):
            sim.add_node(f"node-{number:04}", lambda mediator: mediator.register(Ask, answer), observes=False)
        client = sim.add_client()
        sim.run(2)
        for _ in range(size):  # the first call to a node makes what all others to it use
            _unwrapped(client, TEXT)
        cases[f"nodes / simulated / {size}"] = _case(functools.partial(_unwrapped, client, TEXT), calls)
    return cases


def _streams(stack: contextlib.ExitStack, sizes: tuple[int, ...], calls: int) -> dict[str, measure.Case]:
    cases = {}
    # A walk through what the other axes have left takes seconds, in which no stream opens in time.
    gc.collect()
    gc.freeze()
    for size in sizes:
        port = free_port()
        node = stack.enter_context(started(catga.command(port), port))
        node.wait_until_open()
        caller = stack.enter_context(catga.mediator(port, pool_size=catga.MANY))
        threads = [threading.Thread(target=_hold, args=(caller,)) for _ in range(size - 1)]
        stack.callback(_end, caller, threads)
        for number, thread in enumerate(threads):
            thread.start()
            # One at a time: a stream that is not open within a quarter of a second gives way to a POST.
            _until_held(caller, number + 1)
        cases[f"streams / stream / {size}"] = _case(functools.partial(_unwrapped, caller, TEXT), calls)
    return cases


def _hold(caller: ClusterMediator) -> None:
    caller.send(catga.Hold(), timeout=catga.HOLDING_TIME)


def _until_held(caller: ClusterMediator, count: int) -> None:
    end = time.monotonic() + ARRIVING_TIME
    while int(caller.send(catga.Release(now=False)).unwrap().text) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"fewer than {count} calls arrived")
        time.sleep(0.001)


def _end(caller: ClusterMediator, threads: list[threading.Thread]) -> None:
    caller.send(catga.Release(now=True))
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def _unwrapped(caller: ClusterMediator, text: str) -> Told:
    return caller.send(Ask(text)).unwrap()


def _case(call: Callable[[], object], calls: int) -> measure.Case:
    return lambda: measure.seconds_a_call(call, calls)


PART = Part("growth", "What a call costs as something grows", run)

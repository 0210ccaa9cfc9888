"""The part ``remote``: calls to another process, beside its peers.

``..., p50`` is the median time of a call of one caller, in seconds; ``..., 8`` and ``..., 32`` are calls a second of so
many threads in one process. ``POST`` is served by the WSGI middleware, ``POST, blueprint`` by Flask's blueprint.
``gRPC`` is a call of ours over gRPC, ``grpcio`` a bare one.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bench import measure
from benchmarks.bench.messages import TEXT, Told
from benchmarks.bench.part import Part, Settings
from benchmarks.bench.peers import Asking, catga, catga_grpc, floor, grpcio, plain, pyro, rpyc
from benchmarks.bench.servers import Server, free_port, started

MOST_CALLERS = 32


@dataclass(frozen=True)
class Way:
    """One way to call: a server, how it is called, and with how many threads beside the single one."""

    command: Callable[[int], list[str]]
    connect: Callable[[int, int], AbstractContextManager[list[Asking]]]
    threads: tuple[int, ...] = (8,)
    single: bool = True
    environ: dict[str, str] = field(default_factory=dict)


def ours(security: str, *, workers: int = 1, app: str = "app", **way: Any) -> Way:
    options = dict(catga.security(security))
    options["stream"] = way.pop("stream", "on")
    return Way(
        functools.partial(catga.command, workers=workers, app=app),
        functools.partial(catga.connect, **options),
        environ={"BENCH_SECURITY": security},
        **way,
    )


WAYS: dict[str, Way] = {
    "stream": ours("key", threads=(8, 32)),
    "stream, secret": ours("secret", threads=()),
    "stream, insecure": ours("insecure", threads=()),
    "stream, 4 workers": ours("key", workers=4, single=False),
    "POST": ours("key", stream="off", app="middleware"),
    "POST, blueprint": ours("key", stream="off", threads=()),
    "gRPC": Way(catga_grpc.command, catga_grpc.connect),
    "grpcio": Way(grpcio.command, grpcio.connect),
    "Pyro5": Way(pyro.command, pyro.connect),
    "rpyc": Way(rpyc.command, rpyc.connect),
    "requests + Flask": Way(plain.command, plain.connect),
    "floor": Way(floor.command, floor.connect),
}


def cases_of(name: str, way: Way) -> list[str]:
    return [f"{name}, p50"] * way.single + [f"{name}, {threads}" for threads in way.threads]


def run(settings: Settings) -> measure.Measured:
    names = [case for name, way in WAYS.items() for case in cases_of(name, way)]
    failures: dict[str, str] = {}
    measured = measure.Measured()
    with contextlib.ExitStack() as running:
        servers: dict[str, Server] = {}
        for name, way in WAYS.items():
            port = free_port()
            servers[name] = running.enter_context(started(way.command(port), port, way.environ))
        try:
            with contextlib.ExitStack() as calling:
                cases: dict[str, measure.Case] = {}
                for name, way in WAYS.items():
                    try:
                        cases.update(_cases(name, way, _connected(calling, way, servers[name]), settings))
                    except Exception as exc:
                        failures.update(dict.fromkeys(cases_of(name, way), measure.told(exc)))
                in_order = {name: cases[name] for name in names if name in cases}
                tick = settings.progress("remote", (settings.rounds + 1) * len(in_order))
                measured = measure.in_turns(in_order, settings.rounds, tick=tick)
        except Exception as exc:  # what was measured is not lost because a peer ends badly
            measured.fail("the end of the calls", exc)
        for server in servers.values():  # all at once: each takes most of a second
            server.process.terminate()
    measured.failures.update(failures)
    return measured


def _connected(calling: contextlib.ExitStack, way: Way, server: Server) -> list[Asking]:
    server.wait_until_open()
    asks = calling.enter_context(way.connect(server.port, MOST_CALLERS))
    if asks[0](TEXT) != Told(TEXT):
        raise ValueError("the response is not the text")
    return asks


def _cases(name: str, way: Way, asks: list[Asking], settings: Settings) -> dict[str, measure.Case]:
    calls = [functools.partial(ask, TEXT) for ask in asks]
    cases: dict[str, measure.Case] = {}
    if way.single:
        cases[f"{name}, p50"] = lambda: measure.seconds_a_call(calls[0], settings.calls)
    for threads in way.threads:
        cases[f"{name}, {threads}"] = functools.partial(measure.calls_a_second, calls[:threads], settings.seconds)
    return cases


PART = Part("remote", "Calls to another process", run)

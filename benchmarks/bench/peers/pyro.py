"""Pyro5: a daemon with one object; a proxy for each thread, as a proxy belongs to one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from benchmarks.bench.messages import Ask, Told, answer
from benchmarks.bench.peers import Asking
from benchmarks.bench.servers import THREADS

OBJECT = "bench.asking"


def command(port: int) -> list[str]:
    return ["-m", "benchmarks.bench.peers.pyro"]


def register() -> None:
    """Make objects of our classes travel, which Pyro5 sends as dicts otherwise."""
    from Pyro5.api import register_class_to_dict, register_dict_to_class

    for kind in (Ask, Told):
        register_class_to_dict(kind, lambda value: {"__class__": type(value).__name__, "text": value.text})
        register_dict_to_class(kind.__name__, lambda name, fields, kind=kind: kind(fields["text"]))


@contextlib.contextmanager
def connect(port: int, callers: int) -> Iterator[list[Asking]]:
    from Pyro5.api import Proxy

    register()
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(f"PYRO:{OBJECT}@127.0.0.1:{port}")) for _ in range(callers)]

        def asking(proxy: Proxy) -> Asking:
            def ask(text: str) -> Told:
                proxy._pyroClaimOwnership()  # by the thread of this round; it compares nothing and sends nothing
                return proxy.ask(Ask(text))

            return ask

        try:
            yield [asking(proxy) for proxy in proxies]
        finally:
            for proxy in proxies:
                proxy._pyroClaimOwnership()


def serve() -> None:
    from Pyro5 import config
    from Pyro5.api import Daemon, expose

    @expose
    class Server:
        def ask(self, request: Ask) -> Told:
            return answer(request)

    register()
    config.THREADPOOL_SIZE = 2 * THREADS
    daemon = Daemon("127.0.0.1", int(os.environ["BENCH_PORT"]))
    daemon.register(Server(), OBJECT)
    daemon.requestLoop()


if __name__ == "__main__":
    serve()

"""rpyc: a threaded server, and a connection for each thread.

rpyc would send an object as a reference, each attribute of which is a further call; so its calls carry the text, and
both sides make the object.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from benchmarks.bench.messages import Ask, Told, answer
from benchmarks.bench.peers import Asking


def command(port: int) -> list[str]:
    return ["-m", "benchmarks.bench.peers.rpyc"]


@contextlib.contextmanager
def connect(port: int, callers: int) -> Iterator[list[Asking]]:
    import rpyc

    with contextlib.ExitStack() as stack:

        def asking() -> Asking:
            remote = stack.enter_context(rpyc.connect("127.0.0.1", port)).root.ask
            return lambda text: Told(remote(Ask(text).text))

        yield [asking() for _ in range(callers)]


def serve() -> None:
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Server(rpyc.Service):  # type: ignore[misc]
        def exposed_ask(self, text: str) -> str:
            return answer(Ask(text)).text

    ThreadedServer(Server, hostname="127.0.0.1", port=int(os.environ["BENCH_PORT"])).start()


if __name__ == "__main__":
    serve()

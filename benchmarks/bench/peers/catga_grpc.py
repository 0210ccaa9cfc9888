"""catga_sync over gRPC: the same node behind ``serve_grpc``, called over one channel that all threads share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from benchmarks.bench.messages import Ask, Told
from benchmarks.bench.peers import Asking, catga
from benchmarks.bench.servers import THREADS, ServerFailedError
from catga_sync import Mediator, create_cluster


def command(port: int) -> list[str]:
    return ["-m", "benchmarks.bench.peers.catga_grpc"]


@contextlib.contextmanager
def connect(port: int, callers: int) -> Iterator[list[Asking]]:
    peers = {f"node-{port}": f"grpc://127.0.0.1:{port}"}
    with create_cluster(Mediator(), node_id="caller", discovery="static", environ={}, peers=peers) as caller:

        def ask(text: str) -> Told:
            return caller.send(Ask(text)).unwrap()

        ask("ready?")
        way = caller.explain(Ask("which way?")).way
        if way != "over gRPC":
            raise ServerFailedError(f"the calls go {way}")
        yield [ask] * callers


def serve() -> None:
    from catga_sync.integrations.grpc import serve_grpc

    serve_grpc(catga.node("grpc"), max_workers=THREADS).wait()


if __name__ == "__main__":
    serve()

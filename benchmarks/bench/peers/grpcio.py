"""grpcio: a unary call with a message of protobuf, over one channel that all threads share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from benchmarks.bench.messages import Ask, Told, answer
from benchmarks.bench.peers import Asking
from benchmarks.bench.servers import THREADS

METHOD = "/bench.Asking/Ask"


def command(port: int) -> list[str]:
    return ["-m", "benchmarks.bench.peers.grpcio"]


@contextlib.contextmanager
def connect(port: int, callers: int) -> Iterator[list[Asking]]:
    import grpc
    from google.protobuf.wrappers_pb2 import StringValue

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(METHOD, StringValue.SerializeToString, StringValue.FromString)

        def ask(text: str) -> Told:
            return Told(call(StringValue(value=Ask(text).text), timeout=30.0).value)

        yield [ask] * callers


def serve() -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from google.protobuf.wrappers_pb2 import StringValue

    def handle(request: StringValue, context: Any) -> StringValue:
        return StringValue(value=answer(Ask(request.value)).text)

    method = grpc.unary_unary_rpc_method_handler(handle, StringValue.FromString, StringValue.SerializeToString)
    server = grpc.server(ThreadPoolExecutor(THREADS))
    service, name = METHOD.strip("/").split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['BENCH_PORT']}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    serve()

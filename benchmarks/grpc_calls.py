"""How long one call over gRPC takes, beside a bare call of grpcio. Run it on a quiet machine.

python benchmarks/grpc_calls.py [CALLS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from catga_sync import Mediator, Request, create_cluster, message

SERVER = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import dataclass
    import grpc
    from catga_sync import Mediator, Request, create_cluster, message
    from catga_sync.integrations.grpc import serve_grpc

    @message(name="bench.Echo")
    @dataclass(frozen=True)
    class Echo(Request[str]):
        text: str

    local = Mediator()
    local.register(Echo, lambda request: request.text)
    options = {"insecure": True, "discovery": "memory://", "idempotency": "off"}
    mediator = create_cluster(local, node_id="node", endpoint="grpc://127.0.0.1:1", **options)
    served = serve_grpc(mediator, address="127.0.0.1:0")
    bare = grpc.server(ThreadPoolExecutor(8))
    echo = grpc.unary_unary_rpc_method_handler(lambda message, context: message)
    bare.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bare", {"Echo": echo}),))
    port = bare.add_insecure_port("127.0.0.1:0")
    bare.start()
    print(served.port, port, flush=True)
    sys.stdin.read()
"""


@message(name="bench.Echo")
@dataclass(frozen=True)
class Echo(Request[str]):
    text: str


def measure(call: Callable[[], object], calls: int) -> str:
    """Return median and 99th percentile of the calls, in milliseconds."""
    for _ in range(calls // 10):
        call()
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1000.0)
    return f"p50 {statistics.median(times):.3f} ms, p99 {statistics.quantiles(times, n=100)[98]:.3f} ms"


def main(calls: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SERVER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        ours, bare = map(int, server.stdout.readline().split())
        options = {"insecure": True, "peers": {"node": f"grpc://127.0.0.1:{ours}"}}
        with create_cluster(Mediator(), node_id="web", environ={}, **options) as web:
            request = Echo("x" * 100)
            web.send(request).unwrap()
            print(f"send over gRPC   {measure(lambda: web.send(request).unwrap(), calls)}")
        with grpc.insecure_channel(f"127.0.0.1:{bare}") as channel:
            echo, body = channel.unary_unary("/bench.Bare/Echo"), b"x" * 100
            print(f"bare grpcio      {measure(lambda: echo(body, timeout=30), calls)}")
        server.stdin.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)

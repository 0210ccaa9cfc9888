"""What hooks cost a call, and a scrape the process: no hook, an empty one, and Prometheus.

    python benchmarks/hooks.py                 values in this process
    python benchmarks/hooks.py --shared        values in files, as several workers have them

A remote call goes through invoker and receiver in one thread, without sockets: the hooks of both sides are in it, or
those of the side that is named. Kinds take turns, many times. The figure of a turn is the CPU time of all its calls by
their number, so that what a hook puts off and does later, at once, is in it. Shown is the least turn of each kind in
microseconds: what the machine adds is not the same in each turn. Below are what a kind takes more than none, and how
many times as long. The scrape is the CPU time of the page while four threads send. Needs prometheus_client.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from catga_sync import ClusterMediator, ClusterOptions, Mediator, Request, message
from catga_sync.cluster.factory import assemble
from catga_sync.hooks import AttemptDetails, HandleDetails, SendDetails, ServedDetails
from catga_sync.receiver.receiver import RawRequest, Receiver
from catga_sync.transport.base import Response


@message(name="bench.Ask")
@dataclass(frozen=True)
class Ask(Request[str]):
    text: str


class Empty:
    """A hook that does nothing."""

    def on_send(self, details: SendDetails) -> Callable[[Any], None]:
        return _nothing

    def on_attempt(self, details: AttemptDetails) -> Callable[[Any], None]:
        return _nothing

    def on_handle(self, details: HandleDetails) -> Callable[[Any], None]:
        return _nothing

    def on_served(self, details: ServedDetails) -> None:
        pass


def _nothing(result: Any) -> None:
    pass


class Direct:
    """A channel that calls a receiver of this process."""

    receiver: Receiver

    def exchange(
        self, node: Any, path: str, headers: dict[str, str], body: bytes, expires: float, renew: Any = None
    ) -> Response:
        lowered = {"host": "127.0.0.1", **{name.lower(): value for name, value in headers.items()}}
        raw = RawRequest("POST", path, lowered, io.BytesIO(body).read, str(len(body)), remote_address="127.0.0.1")
        came = self.receiver.handle(raw)
        return Response(came.status, came.headers, came.body, lambda: None)

    def tidy(self, nodes: Any) -> None:
        pass

    def close(self) -> None:
        pass


@contextlib.contextmanager
def caller_and_node(at_caller: list[Any], at_node: list[Any]) -> Iterator[tuple[ClusterMediator, ClusterMediator]]:
    handlers = Mediator()
    handlers.register(Ask, lambda request: request.text)
    common = {"insecure": True, "idempotency": "off"}
    channel = Direct()
    endpoint = "http://127.0.0.1:9"
    own = ClusterOptions(node_id="node", endpoint=endpoint, discovery="memory://", hooks=at_node, **common)
    node = assemble(handlers, own).mediator
    peers = {"node": {"url": endpoint, "handles": ["bench.Ask"]}}
    options = ClusterOptions(node_id="caller", discovery="static", peers=peers, hooks=at_caller, **common)
    with node, assemble(Mediator(), options, channel=channel).mediator as caller:
        channel.receiver = node.receiver
        yield caller, node


def turn(call: Callable[[], object], count: int) -> float:
    """Return the microseconds of CPU time that a call takes on average."""
    began = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - began) / count * 1e6


def measure(rounds: int, calls: int) -> dict[str, float]:
    from catga_sync.observability.prometheus import PrometheusHook, metrics_app

    empty, prometheus = [Empty()], [PrometheusHook()]
    kinds: dict[str, tuple[list[Any], list[Any]]] = {
        "no hook": ([], []),
        "empty hook": (empty, empty),
        "prometheus": (prometheus, prometheus),
        "prometheus at the caller": (prometheus, []),
        "prometheus at the node": ([], prometheus),
    }
    took: dict[tuple[str, str], list[float]] = {}
    request = Ask("tea")
    with contextlib.ExitStack() as stack:
        pairs = {kind: stack.enter_context(caller_and_node(*hooks)) for kind, hooks in kinds.items()}
        for _ in range(rounds):
            for kind, (caller, node) in pairs.items():
                # A local send has one side.
                for way, mediator in [("remote", caller), ("local", node)][: 1 if " at the " in kind else 2]:
                    mediator.send(request).unwrap()
                    figure = turn(lambda mediator=mediator: mediator.send(request), calls)
                    took.setdefault((way, kind), []).append(figure)
        found = {f"{way}, {kind}": min(turns) for (way, kind), turns in took.items()}
        for way, kind in took:
            if kind != "no hook":
                with_hook, without = found[f"{way}, {kind}"], found[f"{way}, no hook"]
                found[f"{way}, {kind}, more"] = with_hook - without
                found[f"{way}, {kind}, times"] = with_hook / without
        found["scrape, CPU ms"] = scrape(pairs["prometheus"][0], metrics_app())
    return found


def scrape(caller: ClusterMediator, app: Any) -> float:
    """Return the milliseconds of CPU time that a page takes while other threads send; the median of many."""
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            caller.send(Ask("tea"))

    senders = [threading.Thread(target=load) for _ in range(4)]
    for sender in senders:
        sender.start()
    times = []
    try:
        for _ in range(30):
            began = time.thread_time()
            b"".join(app({"REQUEST_METHOD": "GET", "HTTP_ACCEPT": ""}, lambda *_: None))
            times.append(time.thread_time() - began)
    finally:
        stop.set()
        for sender in senders:
            sender.join()
    return statistics.median(times) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shared", action="store_true", help="values in files, as several workers have them")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=256, help="a turn, of each kind")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.shared and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # prometheus_client reads it when it is imported.
        with tempfile.TemporaryDirectory() as folder:
            environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environ, check=False).returncode)
    logging.disable()
    found = measure(given.rounds, given.calls)
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:40} {value:10.2f}")


if __name__ == "__main__":
    main()

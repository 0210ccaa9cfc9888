"""How long a send takes, here and to another process, and how that compares between two checkouts.

    python benchmarks/send.py                       this checkout
    python benchmarks/send.py --against ../before   both, in turns; prints the ratio of the medians

Each round is a process of its own: it starts gunicorn with one worker of eight threads, warms up, and takes the median
of the calls that one thread makes one after another. Needs gunicorn.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
KINDS = ("local", "remote", "remote, insecure", "stream", "stream, insecure", "batch of 100")


def measure(rounds: int) -> dict[str, float]:
    """Return microseconds for each kind of call; the median of so many calls."""
    from catga_sync import ClusterOptions, Mediator, Request, create_cluster, message

    @message(name="bench.Ask")
    @dataclass(frozen=True)
    class Ask(Request[str]):
        text: str

    def median(call: Callable[[], object], count: int) -> float:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return statistics.median(times[count // 5 :]) * 1e6

    found = {}
    local = Mediator()
    local.register(Ask, lambda request: request.text)
    request = Ask("tea")
    hundred = [request] * 100
    with create_cluster(local, node_id="alone", discovery="memory://bench", environ={}) as alone:
        found["local"] = median(lambda: alone.send(request), 10 * rounds)
    insecure: dict[str, Any] = {"insecure": True}
    kinds: list[tuple[str, dict[str, Any]]] = [("remote", {}), ("remote, insecure", insecure)]
    if hasattr(ClusterOptions, "stream"):  # an older checkout has none
        kinds = [(kind, {**options, "stream": "off"}) for kind, options in kinds]
        kinds += [("stream", {"stream": "on"}), ("stream, insecure", {**insecure, "stream": "on"})]
    for kind, options in kinds:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        command = ["-m", "gunicorn", "-b", endpoint.removeprefix("http://"), "-k", "gthread", "--threads", "8"]
        environ = {**os.environ, "BENCH_ENDPOINT": endpoint, "BENCH_INSECURE": "1" if options.get("insecure") else ""}
        command += ["--log-level", "error", "--chdir", str(HERE / "benchmarks"), "send:app()"]
        server = subprocess.Popen([sys.executable, *command], env=environ, stderr=subprocess.DEVNULL)
        try:
            peers = {"node": endpoint}
            with create_cluster(
                Mediator(), node_id="caller", discovery="static", peers=peers, environ={}, **options
            ) as caller:
                end = time.monotonic() + 20.0
                while not caller.send(request, timeout=5.0).is_success:
                    if time.monotonic() > end:
                        raise SystemExit("the server does not respond")
                    time.sleep(0.05)
                # Not before the node has told what it offers.
                wanted = "stream/1" if options.get("stream") == "on" else "batch"
                while not any(wanted in node.features for node in caller.nodes()):
                    time.sleep(0.05)
                found[kind] = median(lambda caller=caller: caller.send(request), rounds)
                if kind == "remote":
                    found["batch of 100"] = median(lambda caller=caller: caller.send_batch(hundred), rounds // 20)
        finally:
            server.terminate()
            server.wait()
    return found


def app() -> object:
    """Return the app of the server."""
    from flask import Flask

    from catga_sync import Mediator, Request, create_cluster, message
    from catga_sync.integrations.wsgi import ClusterMiddleware

    @message(name="bench.Ask")
    @dataclass(frozen=True)
    class Ask(Request[str]):
        text: str

    local = Mediator()
    local.register(Ask, lambda request: request.text)
    options = {"endpoint": os.environ["BENCH_ENDPOINT"], "insecure": bool(os.environ["BENCH_INSECURE"])}
    cluster = create_cluster(local, node_id="node", discovery="memory://bench", environ={}, **options)
    return ClusterMiddleware(Flask(__name__), cluster)


def in_process(checkout: Path, rounds: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(rounds)]
    environ = {**os.environ, "PYTHONPATH": str(checkout)}
    return json.loads(subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each checkout")
    parser.add_argument("--calls", type=int, default=2000, help="calls in a round")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        logging.disable(logging.CRITICAL)  # the server takes a moment to start
        print(json.dumps(measure(args.measure)))
        return
    checkouts = [HERE, *([args.against.resolve()] if args.against else [])]
    told: list[list[dict[str, float]]] = [[] for _ in checkouts]
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", end="\r", file=sys.stderr)
        for checkout, results in zip(checkouts, told, strict=True):
            results.append(in_process(checkout, args.calls))
    for kind in KINDS:
        if any(kind not in results[0] for results in told):
            continue
        medians = [statistics.median(each[kind] for each in results) for results in told]
        spread = f"{min(each[kind] for each in told[0]):.0f} to {max(each[kind] for each in told[0]):.0f}"
        line = f"{kind:18} {medians[0]:9.1f} us  ({spread})"
        if args.against:
            ratios = sorted(here[kind] / there[kind] for here, there in zip(*told, strict=True))
            line += f"   before {medians[1]:9.1f} us   ratio {statistics.median(ratios):.2f}"
            line += f"  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(line)


if __name__ == "__main__":
    main()

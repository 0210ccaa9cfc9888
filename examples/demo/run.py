"""Start three nodes, send some hundreds of requests to the cluster, check every answer, clean up.

    python examples/demo/run.py [--all]

This program is a pure client: a mediator with no endpoint and no handlers. It knows the requests, and neither where
the nodes are nor which of them answers what. It ends with 0 only if every request was answered by the right node
with the right value.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import table
from questions import Question, ask_everything
from servers import SIGNALS, Server, discovery_in, running

from catga_sync import CatgaResult, ClusterMediator, Mediator, create_cluster

from messages import AskReport, Report

NODES = ["atlas", "clock", "planner"]
QUESTIONS = 320
CALLERS = 4
#: Seconds.
STARTING, CALLING, ONE_CALL = 25.0, 25.0, 10.0


class DemoFailed(Exception):
    """Something is not as it has to be; the text says what."""


@dataclass(frozen=True)
class Answer:
    question: Question
    result: CatgaResult[Any]
    seconds: float

    @property
    def is_right(self) -> bool:
        # Results are equal when value, error, code and delivery are.
        return self.result.node_id == self.question.node and self.result == self.question.answer


def main() -> int:
    parser = argparse.ArgumentParser(description="Three nodes, some hundreds of requests.")
    parser.add_argument("--all", action="store_true", help="show every request, not one in ten")
    every = 1 if parser.parse_args().all else 10
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="catga-demo-") as folder:
            return demonstrate(Path(folder), every)
    except KeyboardInterrupt:
        print("\ninterrupted; all servers have been stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as with "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def demonstrate(folder: Path, every: int) -> int:
    cluster_name = f"demo-{os.getpid()}"
    # The key that the nodes of one user share is there: the servers have another folder for temporary files.
    os.environ["CATGA_RUNTIME_DIR"] = str(folder)
    log = folder / "log"
    logging.basicConfig(filename=log)
    with running(NODES, cluster_name, folder) as servers:
        try:
            with create_cluster(
                Mediator(), node_id="caller", cluster_name=cluster_name, discovery=discovery_in(folder)
            ) as mediator:
                return ask(mediator, servers, every)
        except BrokenPipeError:
            raise
        except Exception as failure:
            for name, file in [*((server.name, server.log) for server in servers), ("this program", log)]:
                print(f"\n--- last lines of {name}:\n{last_lines(file)}", file=sys.stderr)
            if isinstance(failure, DemoFailed):
                print(f"\nFAILED: {failure}", file=sys.stderr)
                return 1
            raise


def ask(mediator: ClusterMediator, servers: list[Server], every: int) -> int:
    print("starting three gunicorn servers ...", flush=True)
    began = time.monotonic()
    wait_until_they_see_each_other(mediator, servers, began + STARTING)
    print(f"after {time.monotonic() - began:.1f} s all of them see each other:\n")
    table.print_nodes(mediator.nodes())

    questions = ask_everything(QUESTIONS)
    rows = table.Rows(len(questions))
    answers = []
    began = time.monotonic()
    for number, answer in enumerate(answers_to(mediator, questions), 1):
        answers.append(answer)
        if number % every == 0 or not answer.result or not answer.is_right:
            rows.add(answer.question.text, answer.result, answer.seconds)
        rows.tick(number)
    took = time.monotonic() - began
    rows.end()

    wrong = [answer for answer in answers if not answer.is_right]
    table.print_totals([(a.question.node, a.result, a.seconds) for a in answers], took, len(wrong))
    table.print_sends(len(answers), reports(mediator))
    if wrong:
        raise DemoFailed("\n".join(f"{a.question.text}: {a.result.node_id} said {a.result}" for a in wrong[:5]))
    return 0


def wait_until_they_see_each_other(mediator: ClusterMediator, servers: list[Server], end: float) -> None:
    while True:
        dead = [server.name for server in servers if server.popen.poll() is not None]
        if dead:
            raise DemoFailed(f"{', '.join(dead)} ended instead of serving")
        seen = reports(mediator)
        if sorted(seen) == NODES and all(report.sees == NODES for report in seen.values()):
            return
        if time.monotonic() >= end:
            views = "; ".join(f"{node} sees {', '.join(report.sees)}" for node, report in seen.items())
            raise DemoFailed(f"the nodes have not found each other within {STARTING:g} s: {views or 'nobody answers'}")
        time.sleep(0.05)


def last_lines(log: Path, count: int = 25) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


def reports(mediator: ClusterMediator) -> dict[str, Report]:
    answers = mediator.broadcast(AskReport(), timeout=ONE_CALL)
    return {node: result.unwrap() for node, result in answers.items() if result}


def answers_to(mediator: ClusterMediator, questions: list[Question]) -> Iterator[Answer]:
    """Send all of them from several threads at once; yield the answers as they come."""

    def send(question: Question) -> Answer:
        began = time.perf_counter()
        result = mediator.send(question.request, timeout=ONE_CALL)  # to whom? The cluster knows.
        return Answer(question, result, time.perf_counter() - began)

    pool = futures.ThreadPoolExecutor(CALLERS)
    try:
        for sent in futures.as_completed([pool.submit(send, question) for question in questions], CALLING):
            yield sent.result()
    except futures.TimeoutError:
        raise DemoFailed(f"not every request was answered within {CALLING:g} s") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())

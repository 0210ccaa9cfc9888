"""Callers for fault tests: every call is written down, whatever came of it.

    closed   so many callers, each makes its next call when the last has returned
    open     so many calls a second at random moments, whether or not the last ones have returned; a stall of the
             cluster delays none of them, as it does not delay users

Rules of this file:
1. A caller raises nothing; what it was told is in ``Load.told`` and in the ledger.
2. An open load has threads enough that calls wait for the cluster and never for a thread; ``Load.late`` tells.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from catga_sync import ClusterMediator, ClusterNode, ErrorCode
from catga_sync.results import CatgaResult
from catga_sync.routing import Router
from tests.faults.ledger import Verdict, append
from tests.faults.messages import Ask, Do

__all__ = ["Load", "Watched"]


class Watched:
    """
    A router that notes whom it has chosen and when. Thread-safe if the other one is.

    Args:
        router: Chooses.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        #: (time, node id) of each choice
        self.choices: list[tuple[float, str]] = []

    def route(self, message: Any, nodes: tuple[ClusterNode, ...]) -> ClusterNode:
        """See ``Router``."""
        node = self._router.route(message, nodes)
        self.choices.append((time.monotonic(), node.node_id))
        return node

    def last(self, node_id: str) -> float:
        """Return when a node was chosen last."""
        return max((at for at, chosen in list(self.choices) if chosen == node_id), default=float("-inf"))


class Load:
    """
    Callers at work while the ``with`` block runs.

    Args:
        client: Sends.
        ledger: Where verdicts go.
        callers: Threads.
        rate: Calls a second of an open load; None means a closed one.
        queries: The share of queries; the rest are plain requests.
        seconds: What a handler takes.
        timeout: Of each call.
    """

    def __init__(
        self,
        client: ClusterMediator,
        ledger: Path,
        *,
        callers: int = 16,
        rate: float | None = None,
        queries: float = 0.5,
        seconds: float = 0.004,
        timeout: float = 2.0,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._rate = rate
        self._queries = queries
        self._seconds = seconds
        self._timeout = timeout
        self._stop = threading.Event()
        self._due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._rng = random.Random(7)
        self._turns = itertools.count()
        self._run = uuid.uuid4().hex[:8]
        self.told: list[Verdict] = []
        #: The longest that a call of an open load had to wait for a thread.
        self.late = 0.0
        self._callers = [threading.Thread(target=self._call_on, name=f"caller-{n}") for n in range(callers)]
        self._clock = None if rate is None else threading.Thread(target=self._tick, name="callers-clock")

    def __enter__(self) -> Load:
        for thread in self._callers:
            thread.start()
        if self._clock is not None:
            self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Make no further calls; wait for those under way."""
        self._stop.set()
        if self._clock is not None:
            self._clock.join()
        for _ in self._callers:
            self._due.put(None)
        for thread in self._callers:
            thread.join()

    def answered(self, count: int, *, after: float = float("-inf"), by: str | None = None) -> Callable[[], bool]:
        """Return a probe: whether so many calls that began after a moment have succeeded, at one node if given."""
        return lambda: (
            sum(each.success and each.sent > after and by in (None, each.node) for each in list(self.told)) >= count
        )

    @property
    def failed(self) -> list[Verdict]:
        """The calls that did not succeed."""
        return [each for each in list(self.told) if not each.success]

    def _tick(self) -> None:
        assert self._rate is not None
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._due.put(due)
            due += self._rng.expovariate(self._rate)

    def _call_on(self) -> None:
        while True:
            due = None
            if self._clock is not None:
                due = self._due.get()
                if due is None:
                    return
            elif self._stop.is_set():
                return
            self._call(due)

    def _call(self, due: float | None) -> None:
        turn = next(self._turns)
        # The same in every run: query or plain by the number of the call.
        kind = "query" if (turn * 0.618034) % 1.0 < self._queries else "plain"
        text = f"{self._run}-{turn}"
        sent = time.monotonic()
        self.late = max(self.late, 0.0 if due is None else sent - due)
        request = (Ask if kind == "query" else Do)(text, self._seconds)
        result = self._client.send(request, timeout=self._timeout)
        told = verdict_of(result, text, kind, sent, self._timeout, due)
        append(self._ledger, told)
        self.told.append(told)


def verdict_of(
    result: CatgaResult[Any], text: str, kind: str, sent: float, timeout: float, due: float | None = None
) -> Verdict:
    """Return what a caller was told, as it goes into the ledger."""
    return Verdict(
        text=text,
        kind=kind,
        request_id=result.request_id,
        success=result.is_success,
        delivery=result.delivery.name,
        code=_name(result.code),
        error=result.error,
        execution=None if result.value is None else result.value.execution,
        node=result.node_id,
        attempts=tuple((each.node_id, each.delivery.name, _name(each.code)) for each in result.attempts),
        due=sent if due is None else due,
        sent=sent,
        returned=time.monotonic(),
        timeout=timeout,
    )


def _name(code: ErrorCode | str | None) -> str | None:
    return code.name if isinstance(code, ErrorCode) else code

"""Callers that make a number of calls, of every kind and mood, and write down what they were told."""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from types import TracebackType
from typing import Any

from catga_sync import ClusterMediator
from tests.faults.ledger import Verdict
from tests.faults.load import verdict_of
from tests.faults.messages import Ask, Do, Put
from tests.faults.moods import CALLING, SERVING, calling

__all__ = ["Barrage"]

_CALLERS, _BATCH = 16, 6
#: Seconds: of a call, and the most that a handler takes.
_TIMEOUT, _WORK = 2.0, 0.03


class Barrage:
    """
    Calls under way while the ``with`` block runs.

    Args:
        client: Sends calls and batches.
        wrapped: Sends the calls that meet a behaviour at the caller, which it is given here.
        calls: How many, the items of batches included.
        seed: Settles what is sent.
    """

    def __init__(self, client: ClusterMediator, wrapped: ClusterMediator, calls: int, seed: float) -> None:
        wrapped.add_behavior(calling())
        self._client, self._wrapped = client, wrapped
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._left = calls
        self._numbers = itertools.count()
        self._run = uuid.uuid4().hex[:8]
        self.told: list[Verdict] = []
        #: What ``send`` has raised, in words. It is to raise nothing.
        self.raised: list[str] = []
        self._callers = [threading.Thread(target=self._call_on, name=f"caller-{n}") for n in range(_CALLERS)]

    def __enter__(self) -> Barrage:
        for thread in self._callers:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._left = 0
        for thread in self._callers:
            thread.join()

    def over(self, seconds: float) -> bool:
        """Wait for some seconds, or until all calls are made; return whether they are."""
        end = time.monotonic() + seconds
        for thread in self._callers:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._callers)

    def _call_on(self) -> None:
        while True:
            with self._lock:
                many = min(self._left, _BATCH if self._rng.random() < 0.03 else 1)
                self._left -= many
                made = [self._make() for _ in range(many)]
                wrapped = many == 1 and self._rng.random() < 0.3
                if wrapped and self._rng.random() < 0.6:
                    made = [(kind, self._with_mood(request, CALLING)) for kind, request in made]
            if not made:
                return
            self._call(self._wrapped if wrapped else self._client, made)

    def _make(self) -> tuple[str, Any]:
        kind, cls = self._rng.choices([("query", Ask), ("plain", Do), ("query", Put)], [4, 5, 1])[0]
        request = cls(f"{self._run}-{next(self._numbers)}", self._rng.uniform(0.0, _WORK))
        return kind, self._with_mood(request, SERVING) if self._rng.random() < 0.2 else request

    def _with_mood(self, request: Any, moods: tuple[str, ...]) -> Any:
        return type(request)(f"{request.text.partition('.')[0]}.{self._rng.choice(moods)}", request.seconds)

    def _call(self, client: ClusterMediator, made: list[tuple[str, Any]]) -> None:
        sent = time.monotonic()
        requests = [request for _, request in made]
        try:
            if len(requests) == 1:
                results = [client.send(requests[0], timeout=_TIMEOUT)]
            else:
                results = list(client.send_batch(requests, timeout=_TIMEOUT))
        except BaseException as error:
            self.raised.append(f"send has raised {error!r} for {requests}")
            return
        for (kind, request), result in zip(made, results, strict=True):
            self.told.append(verdict_of(result, request.text, kind, sent, _TIMEOUT))

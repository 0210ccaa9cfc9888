"""Counting what Django does around requests, as monitoring tools do: by its signals."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from django.core.signals import request_finished, request_started
from django.db import connection
from django.db.backends.signals import connection_created

from tests.apps.messages import Observed

__all__ = ["observed"]

_lock = threading.Lock()
_seen: Counter[Any] = Counter()


def _count(signal: Any, **_: Any) -> None:
    with _lock:
        _seen[signal] += 1


for each in (request_started, request_finished, connection_created):
    each.connect(_count)


def observed() -> Observed:
    """Return what this process has seen so far."""
    with _lock:
        return Observed(
            _seen[request_started], _seen[request_finished], _seen[connection_created], len(connection.queries_log)
        )

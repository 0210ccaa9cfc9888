"""Ends what the main thread runs, as servers do: from a signal handler, in the middle of it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

__all__ = ["ended_by_server"]


@contextlib.contextmanager
def ended_by_server(error: type[BaseException] = SystemExit) -> Iterator[Callable[..., None]]:
    """Give a function during which the server, told so by a signal, raises that error; its arguments do not matter."""

    def end(number: int, frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, end)
    try:
        yield lambda *_: signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)

"""Targets of which all but one have a fault, for the test that the harness reports it."""

from __future__ import annotations

import logging

from tests.fuzz.target import Finding, Target, pure

__all__ = ["TARGETS"]


def _sound(data: bytes) -> bool:
    return data.startswith(b"a")


def _raising(data: bytes) -> bool:
    if data[:3] == b"bad":
        raise Finding("a fault that was planted")
    return True


def _forging(data: bytes) -> bool:
    logging.getLogger("catga_sync.planted").warning("a caller said %s", data.decode("latin-1"))
    return True


TARGETS = (
    Target("sound", pure(_sound), lambda: [b"a"]),
    Target("raising", pure(_raising), lambda: [b"ba", b"ad"], ("bad",)),
    Target("forging", pure(_forging), lambda: [b"a"], ("\n",)),
)

"""How many examples Hypothesis tries: a hundredth in every run, and all of them in "make soak"."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

__all__ = ["thorough", "tried"]


def thorough(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Have Hypothesis try so many examples of a test in "make soak", and a hundredth of them otherwise.

    Args:
        examples: All of them.
    """

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        return pytest.mark.thorough(settings(max_examples=tried(examples), deadline=None)(test))

    return decorate


def tried(examples: int) -> int:
    """Return how many of so many examples this run tries."""
    return examples if os.environ.get("CATGA_TESTS_THOROUGH") else max(examples // 100, 6)

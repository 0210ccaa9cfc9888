"""How many examples Hypothesis tries: an eighth in every run, and all of them in "make soak"."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

__all__ = ["thorough"]


def thorough(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Have Hypothesis try so many examples of a test in "make soak", and an eighth of them otherwise.

    Args:
        examples: All of them.
    """
    tried = examples if os.environ.get("CATGA_TESTS_THOROUGH") else examples // 8

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        return pytest.mark.thorough(settings(max_examples=tried, deadline=None)(test))

    return decorate

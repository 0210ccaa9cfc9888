"""Tables of rows that one test walks: of thousands of short cases, pytest's own work for each was most of the time."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

__all__ = ["every_row"]


def every_row(
    columns: str | Sequence[str], rows: Iterable[Any], ids: Iterable[object] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """
    Have one test go through all rows of a table, and fail with those that are wrong.

    It is written as ``pytest.mark.parametrize``, and several of them multiply as there. Take that one where a row
    starts something, skips, or changes what a fixture has given: here all rows get the same, and one that skips fails.
    A row that changes it because it is wrong may have later ones fail with it. The first of those named is wrong.

    Args:
        columns: The arguments that a row gives: names with commas between them, or a sequence of names.
        rows: A sequence of values for each row, or the value itself where ``columns`` is one name.
        ids: Names of the rows, where their values do not say what they are.
    """
    names = [name.strip() for name in columns.split(",")] if isinstance(columns, str) else list(columns)
    table = [(row,) if columns == names[0] else tuple(row) for row in rows]
    titles = [f" ({title})" for title in ids] or [""] * len(table)
    if not table or any(len(row) != len(names) for row in table):
        raise ValueError(f"rows: each has a value for {', '.join(names)}, and there is one at least")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def walk(*args: Any, **given: Any) -> None:
            wrong: dict[str, BaseException] = {}
            for number, (title, row) in enumerate(zip(titles, table, strict=True)):
                values = dict(zip(names, row, strict=True))
                try:
                    test(*args, **given, **values)
                except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
                    wrong[f"row {number}{title}: {repr(values)[:500]}"] = error
            if wrong:
                texts = [f"{row}\n{_where(error)}\n{type(error).__name__}: {error}" for row, error in wrong.items()]
                text = f"{len(wrong)} of {len(table)} rows are wrong\n\n" + "\n\n".join(texts)
                # The first of them, with its lines, stands above this.
                raise AssertionError(text) from next(iter(wrong.values()))

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name not in names]
        # What is left is what pytest sees, and takes for fixtures.
        walk.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]  # a function's own
        return walk

    return decorate


def _where(error: BaseException) -> str:
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{at.filename}:{at.lineno}: {at.line}"

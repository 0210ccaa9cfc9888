"""Write the table of docs/options.md from catga_sync/options.py: ``make docs``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from catga_sync.options import ENVIRONMENT_PREFIX, ClusterOptions

PAGE = Path(__file__).with_name("options.md")
BEGIN = "<!-- make docs writes this table -->\n"
END = "<!-- end of the table -->\n"


def table() -> str:
    """Return the options as a Markdown table."""
    head = ["| option | default | values | variable | meaning |", "|---|---|---|---|---|"]
    return "\n".join(head + [row(each) for each in dataclasses.fields(ClusterOptions)]) + "\n"


def row(field: dataclasses.Field[Any]) -> str:
    """Return the line of one option."""
    kind, meaning = field.metadata["kind"], field.metadata["meaning"]
    default = field.default_factory() if field.default is dataclasses.MISSING else field.default
    variable = "" if kind.read is None else f"`{ENVIRONMENT_PREFIX}{field.name.upper()}`"
    if kind.read is json.loads:
        variable += " (JSON)"
    shown = json.dumps(default) if isinstance(default, str) else repr(default)
    return f"| `{field.name}` | `{shown}` | {kind.values} | {variable} | {meaning} |"


def renewed(page: str) -> str:
    """Return the page with the table as it is now."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name}: the marks around the table are missing")
    return f"{before}{begin}\n{table()}\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

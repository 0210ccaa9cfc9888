"""The README, run: what it prints is what there is."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from catga_sync import ClusterOptions

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(*languages: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, language, text) of each block."""
    for found in FENCE.finditer(README):
        if found[1] in languages:
            yield README.count("\n", 0, found.start(2)) + 1, found[1], found[2]


def is_a_file(text: str) -> bool:
    """Say whether a block is a file, by its first line: those are parts of examples, which have tests of their own."""
    return re.match(r"# [\w/]+\.py\b", text) is not None


def run_everything() -> int:
    """Run the blocks from top to bottom as one program; return how many examples of theirs went wrong."""
    sys.path.insert(0, str(ROOT / "examples" / "quickstart"))
    module = types.ModuleType("readme")
    sys.modules["readme"] = module
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for line, language, text in blocks("python", "pycon"):
        if language == "pycon":
            test = parser.get_doctest(text, vars(module), "README", "README.md", line - 1)
            runner.run(test, clear_globs=False)
            vars(module).update(test.globs)  # a DocTest works on a copy
        elif not is_a_file(text):
            exec(compile("\n" * (line - 1) + text, "README.md", "exec"), vars(module))
    return runner.summarize().failed


@pytest.mark.parametrize(("line", "text"), [(line, text) for line, _, text in blocks("python")])
def test_a_block_compiles(line: int, text: str) -> None:
    compile("\n" * (line - 1) + text, "README.md", "exec", dont_inherit=True)


def test_the_blocks_run_from_top_to_bottom(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CATGA_")}
    found = subprocess.run(
        [sys.executable, "-W", "error", __file__],
        env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_table_of_options_is_that_of_the_code() -> None:
    section = README.partition("\n## Options\n")[2].partition("\n## ")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| `(.*?)` \|", section, re.MULTILINE))
    code = {
        each.name: {} if each.default is dataclasses.MISSING else each.default
        for each in dataclasses.fields(ClusterOptions)
    }
    assert {name: ast.literal_eval(default) for name, default in table.items()} == code


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((examples/[^)#]+)\)", README))))
def test_a_link_to_an_example_leads_somewhere(path: str) -> None:
    assert (ROOT / path).is_file()


if __name__ == "__main__":
    sys.exit(min(run_everything(), 1))

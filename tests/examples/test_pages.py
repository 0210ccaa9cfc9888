"""The code on the pages, run: README.md and docs/.

The blocks of a page are one program, in the folder of the quick start. A block marked ``no-run`` needs what may be
missing, such as a Redis server: it must compile. A block that begins with a file name belongs to an example.
"""

from __future__ import annotations

import doctest
import gc
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(python|pycon)( no-run)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# [\w/]+\.py\b")


def blocks(page: str) -> Iterator[tuple[int, str, bool, str]]:
    """Yield line number, language, whether it runs, and text of each block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        runs = found[2] is None and not FILE.match(found[3])
        yield text.count("\n", 0, found.start(3)) + 1, found[1], runs, found[3]


def run(page: str) -> int:
    """Run the blocks of a page from top to bottom as one program; return the number of examples that failed."""
    module = sys.modules["page"] = types.ModuleType("page")
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for line, language, runs, text in blocks(page):
        if language == "pycon":
            test = parser.get_doctest(text, vars(module), page, page, line - 1)
            runner.run(test, clear_globs=False)
            vars(module).update(test.globs)  # a DocTest works on a copy
        elif runs:
            try:
                exec(compile("\n" * (line - 1) + text, page, "exec"), vars(module))
            except ImportError as exc:
                # The environment that is there to have no extras runs a page up to what needs one.
                if not os.environ.get("CATGA_TESTS_NOEXTRAS") or "pip install catga-sync[" not in str(exc):
                    raise
                break  # what follows may show what this block has made
    return runner.summarize().failed


def run_each() -> list[str]:
    """Run each page in a process of its own, forked when all is imported; return those that failed."""
    import catga_sync.integrations.flask  # noqa: F401

    # A child that ends would go through all of it, which takes longer than most pages.
    gc.freeze()

    sys.path.insert(0, str(ROOT / "examples" / "quickstart"))
    failed = []
    for page in PAGES:
        child = os.fork()
        if child == 0:
            sys.exit(min(run(page), 1))
        if os.waitpid(child, 0)[1] != 0:
            failed.append(page)
    return failed


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_compiles(page: str) -> None:
    for line, language, _, text in blocks(page):
        if language == "python":
            compile("\n" * (line - 1) + text, page, "exec", dont_inherit=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_blocks_of_each_page_run_from_top_to_bottom(tmp_path: Path) -> None:
    kept = "CATGA_TESTS_NOEXTRAS"
    environment = {name: value for name, value in os.environ.items() if name == kept or not name.startswith("CATGA_")}
    found = subprocess.run(
        [sys.executable, "-W", "error", __file__],
        cwd=tmp_path,
        env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert found.returncode == 0, found.stdout + found.stderr


if __name__ == "__main__":
    failed = run_each()
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)

"""docs/performance.md is made from the files of the benchmarks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.bench import report
from benchmarks.bench.measure import Measured

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_performance.py"


@pytest.fixture(name="script")
def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_performance", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_page_has_what_the_files_have(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    wanted = script.renewed(page, script.results(report.RESULTS, script.IMAGES))
    assert page == wanted, "run make docs"


def test_a_part_is_a_table_with_its_plot_and_what_failed(script: ModuleType, tmp_path: Path) -> None:
    figures = {"marshmallow": [60.0, 72.0], "catga_sync": [10.0, 10.0]}
    report.write("codec", Measured(figures, {"msgspec": "it is not installed"}), tmp_path)
    (tmp_path / "performance-codec.png").touch()
    text = script.results(tmp_path, tmp_path)
    assert "| marshmallow / catga_sync | 6.6 | 6.3 to 6.9 | >= 6 | ok |" in text
    assert "| catga_sync / msgspec |  |  | <= 5 | not measured |" in text
    assert "Failed: msgspec: it is not installed" in text
    assert "![codec](images/performance-codec.png)" in text
    assert "### remote" not in text


def test_a_page_without_marks_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="the marks around the results are missing"):
        script.renewed("# Performance\n", "")

"""Write the results in docs/performance.md from the files of ``make bench``: ``make docs``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks.bench import report
from benchmarks.bench.__main__ import PARTS
from benchmarks.bench.measure import Measured

PAGE = Path(__file__).with_name("performance.md")
IMAGES = Path(__file__).with_name("images")
BEGIN = "<!-- make docs writes this, from the files of make bench -->\n"
END = "<!-- end of the results -->\n"


def results(folder: Path, images: Path) -> str:
    """
    Return the results as Markdown.

    Args:
        folder: Has the files of the parts.
        images: Has the plots; one that is missing is left out.
    """
    found = {part: report.read(folder / f"{part}.json") for part in PARTS if (folder / f"{part}.json").is_file()}
    if not found:
        return "No results are kept here yet: run `make bench`.\n"
    return "\n".join(section(part, measured, told, images) for part, (measured, told) in found.items())


def section(part: str, measured: Measured, told: dict[str, Any], images: Path) -> str:
    """Return what the page says of one part."""
    lines = [f"### {part}", ""]
    lines += [f"{told['date']}, commit {told['commit']}, Python {told['python']}, {told['processor']}.", ""]
    judged = report.verdicts(part, measured)
    if judged:
        lines += ["| ratio | median | quartiles | wanted | |", "|---|---:|---:|---:|---|"]
    for verdict in judged:
        target, ratio = verdict.target, verdict.found
        name = f"{target.over} {'/' if target.unit is None else '-'} {target.under}"
        figures = " | " if ratio is None else f"{ratio.median:.3g} | {ratio.low:.3g} to {ratio.high:.3g}"
        lines.append(f"| {name} | {figures} | {target.bound} | {verdict.status} |")
    if judged:
        lines.append("")
    lines += [f"Failed: {name}: {' '.join(why.split())}\n" for name, why in measured.failures.items()]
    plot = f"performance-{part}.png"
    if (images / plot).is_file():
        lines += [f"![{part}](images/{plot})", ""]
    lines += ["Versions: " + ", ".join(f"{name} {version}" for name, version in told["versions"].items()) + ".", ""]
    return "\n".join(lines)


def renewed(page: str, text: str) -> str:
    """Return the page with other results."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name}: the marks around the results are missing")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> None:
    """Copy the plots, and write the page."""
    for plot in sorted(report.RESULTS.glob("*.png")):
        IMAGES.mkdir(exist_ok=True)
        shutil.copyfile(plot, IMAGES / f"performance-{plot.name}")
    PAGE.write_text(renewed(PAGE.read_text("utf-8"), results(report.RESULTS, IMAGES)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The plots that docs/performance.md shows, of the files of ``report``. Needs matplotlib."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.bench.measure import Measured, spread
from benchmarks.bench.report import read

#: What is drawn as bars: the part, the title, the ending of the names of its cases, and the scale.
BARS = (
    ("remote", "Median time of a call, microseconds (less is better)", ", p50", 1e6),
    ("remote", "Calls a second of 8 threads (more is better)", ", 8", 1.0),
    ("local", "A handler in the same process, microseconds (less is better)", "", 1e6),
    ("codec", "27 values written and read, microseconds (less is better)", "", 1.0),
)
AXES = {"payload": "bytes of the text", "types": "types", "nodes": "nodes", "streams": "open streams"}
OURS, OTHERS = "#2f6f9f", "#b5b5b5"


def write(folder: Path) -> list[Path]:
    """Draw what the files in a folder have, beside them; return the files of the plots."""
    found = {path.stem: read(path)[0] for path in sorted(folder.glob("*.json"))}
    parts = dict.fromkeys(part for part, *_ in BARS)
    drawn = [_bars(part, found[part], folder / f"{part}.png") for part in parts if part in found]
    if "growth" in found:
        drawn.append(_growth(found["growth"], folder / "growth.png"))
    return drawn


def _bars(part: str, measured: Measured, path: Path) -> Path:
    charts = [each for each in BARS if each[0] == part]
    figure, axes = plt.subplots(len(charts), squeeze=False, figsize=(8, 3.5 * len(charts)), layout="constrained")
    for axis, (_, title, ending, scale) in zip(axes[:, 0], charts, strict=True):
        cases = {
            name.removesuffix(ending): spread([scale * figure for figure in figures])
            for name, figures in measured.figures.items()
            if name.endswith(ending)
        }
        names = sorted(cases, key=lambda name: cases[name].median)
        errors = [
            [cases[name].median - cases[name].low for name in names],
            [cases[name].high - cases[name].median for name in names],
        ]
        colours = [OURS if name.startswith(("stream", "POST", "gRPC", "catga_sync")) else OTHERS for name in names]
        axis.barh(names, [cases[name].median for name in names], xerr=errors, color=colours)
        axis.set_title(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _growth(measured: Measured, path: Path) -> Path:
    lines: dict[str, dict[str, list[tuple[int, float]]]] = {axis: {} for axis in AXES}
    for name, figures in measured.figures.items():
        axis_name, series, size = name.split(" / ")
        lines[axis_name].setdefault(series, []).append((int(size), 1e6 * statistics.median(figures)))
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for axis, (name, title) in zip(axes.flat, AXES.items(), strict=True):
        for series, points in lines[name].items():
            axis.plot(*zip(*sorted(points), strict=True), marker="o", label=series)
        axis.set(xscale="log", yscale="log", xlabel=title, ylabel="microseconds a call")
        # From 0.1 up: a line that does not grow looks level.
        axis.set_ylim(bottom=0.1)
        if lines[name]:
            axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path

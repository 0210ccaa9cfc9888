"""Draws the dashboard as images/dashboard.png: its own queries and layout, answered by a real Prometheus.

    python docs/observability/picture.py

Two nodes are called for a minute; one of them is killed and started anew, and then hangs for a while. Needs the program
prometheus, matplotlib, and what the tests need.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import matplotlib as mpl  # noqa: E402

mpl.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.dates import ConciseDateFormatter, SecondLocator  # noqa: E402

from tests.external.prometheus_server import Prometheus, Watched, panels, resolved, titles  # noqa: E402

FILE = ROOT / "docs" / "images" / "dashboard.png"
#: Columns of Grafana's grid; inches for a column, and for a row.
COLUMNS, WIDTH, HEIGHT = 24, 0.5, 0.3
#: Seconds between two points, and the time over which rates are taken.
STEP, INTERVAL = 1, "6s"
#: The units of Grafana that the dashboard has -> what is written at the axis.
UNITS = {"reqps": "per second", "s": "seconds", "Bps": "bytes per second", "short": ""}


def scene(cluster: Watched) -> None:
    """Have the cluster do what is to be seen."""
    pause = threading.Event()
    pause.wait(20)
    cluster.kill("node-2")
    pause.wait(8)
    cluster.start("node-2")
    pause.wait(15)
    with cluster.hanging("node-2"):
        pause.wait(8)
    pause.wait(20)


def legend(form: str, labels: dict[str, str]) -> str:
    """Return the name of a series as the dashboard words it."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), form).strip()


def series(
    asked: Prometheus, panel: dict[str, Any], begin: float, end: float
) -> dict[str, tuple[list[Any], list[float]]]:
    """Return what the queries of a panel give for that time: the name of each series -> its times and its values."""
    found = {}
    for target in panel["targets"]:
        query = resolved(target["expr"], INTERVAL)
        for each in asked.ask("query_range", query=query, start=begin, end=end, step=STEP)["result"]:
            times = [datetime.fromtimestamp(float(at)) for at, _ in each["values"]]  # noqa: DTZ006 - as on the wall
            values = [float(value) for _, value in each["values"]]
            if any(map(math.isfinite, values)):
                found[legend(target["legendFormat"], each["metric"])] = (times, values)
    return found


def draw(asked: Prometheus, begin: float, end: float) -> None:
    """Draw each panel where the dashboard has it."""
    every = panels()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in every)
    plt.rcParams.update({"font.size": 6, "axes.titlesize": 8, "axes.grid": True, "grid.alpha": 0.3})
    figure = plt.figure(figsize=(COLUMNS * WIDTH, rows * HEIGHT))
    for row in titles():
        figure.text(0.01, 1 - (row["gridPos"]["y"] + 0.7) / rows, row["title"], fontsize=10, color="dimgray")
    for panel in every:
        place = panel["gridPos"]
        left, top = (place["x"] + 1.3) / COLUMNS, 1 - (place["y"] + 0.9) / rows
        height = (place["h"] - 2.4) / rows
        axes = figure.add_axes((left, top - height, (place["w"] - 1.9) / COLUMNS, height))
        axes.set_title(panel["title"], loc="left", fontweight="bold")
        for name, (times, values) in series(asked, panel, begin, end).items():
            axes.plot(times, values, linewidth=0.9, label=name)
        axes.set_ylim(0, 1.4 * axes.get_ylim()[1])  # room for the legend
        axes.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]])
        axes.xaxis.set_major_locator(SecondLocator(bysecond=(0, 20, 40)))
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        if axes.lines:
            axes.legend(loc="upper left", fontsize=5, framealpha=0.6, ncols=2)
    figure.savefig(FILE, dpi=85)


def main() -> None:
    """Play the scene and draw it."""
    with tempfile.TemporaryDirectory() as folder, Watched(Path(folder)) as cluster:
        begin = time.time()
        scene(cluster)
        draw(cluster.prometheus, begin, time.time())


if __name__ == "__main__":
    main()

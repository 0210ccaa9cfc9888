"""What is told of a part: its ratios beside the targets, and a file that the page and the plots are made from."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.bench.measure import Measured, spread
from benchmarks.bench.servers import ROOT
from benchmarks.bench.targets import TARGETS, Verdict, judge

RESULTS = ROOT / "benchmarks" / "results"

#: The libraries whose versions are told.
LIBRARIES = (
    *("catga-sync", "flask", "gunicorn", "marshmallow", "requests", "urllib3", "werkzeug"),
    *("grpcio", "protobuf", "Pyro5", "rpyc", "msgspec", "mediatr", "diator", "python-cqrs", "di"),
)


def verdicts(part: str, measured: Measured) -> list[Verdict]:
    """Judge the targets of a part."""
    return [judge(target, measured) for target in TARGETS if target.part == part]


def table(part: str, measured: Measured) -> str:
    """Return the figures of a part, its ratios, and what failed, as lines of text."""
    lines = [f"{'figure':32}{'median':>14}   (quartiles)"]
    for name, figures in measured.figures.items():
        found = spread(figures)
        lines.append(f"{name:32}{found.median:14.6g}   ({found.low:.6g} to {found.high:.6g})")
    judged = verdicts(part, measured)
    if judged:
        lines += ["", f"{'ratio':58}{'median':>8}  {'(quartiles)':18}{'wanted':16}"]
    for verdict in judged:
        target, found_ratio = verdict.target, verdict.found
        name = f"{target.over} {'over' if target.unit is None else 'minus'} {target.under}"
        figures_told = f"{'':8}  {'':18}"
        if found_ratio is not None:
            quartiles = f"({found_ratio.low:.3g} to {found_ratio.high:.3g})"
            figures_told = f"{found_ratio.median:8.3g}  {quartiles:18}"
        lines.append(f"{name:58}{figures_told}{target.bound:16}{verdict.status}")
    lines += [f"FAILED {name}: {' '.join(why.split())}" for name, why in measured.failures.items()]
    return "\n".join(lines)


def write(part: str, measured: Measured, folder: Path) -> Path:
    """Write the file of a part, which has all figures and what they were measured with."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{part}.json"
    told = {"part": part, **surroundings(), "figures": measured.figures, "failures": measured.failures}
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> tuple[Measured, dict[str, Any]]:
    """Return the figures of a file, and what they were measured with."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return Measured(told.pop("figures"), told.pop("failures")), told


def surroundings() -> dict[str, Any]:
    """Return what else the figures depend on."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "processor": _processor(),
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # a copy without git


def _processor() -> str:
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} x {name}"

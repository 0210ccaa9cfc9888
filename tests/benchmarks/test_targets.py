"""How the benchmarks judge what they have measured, tell it, and keep it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks.bench.__main__ import PARTS, main
from benchmarks.bench.measure import Measured
from benchmarks.bench.remote import WAYS, cases_of
from benchmarks.bench.report import read, table, write
from benchmarks.bench.targets import TARGETS, Target, judge
from tests.tables import every_row

MEASURED = Measured({"ours": [1.0, 2.0, 3.0], "theirs": [2.0, 4.0, 6.0]})


@every_row(
    ("target", "status"),
    [
        (Target("p", "ours", "theirs", most=0.5), "ok"),
        (Target("p", "ours", "theirs", most=0.49), "missed"),
        (Target("p", "theirs", "ours", least=2.0), "ok"),
        (Target("p", "theirs", "ours", least=2.01, stretch=3.0), "missed"),
        (Target("p", "theirs", "ours", most=2.0, unit="MB"), "ok"),
        (Target("p", "theirs", "ours", most=1.9, unit="MB"), "missed"),
        (Target("p", "ours", "theirs", stretch=0.1), "shown"),
        (Target("p", "ours", "nobody", most=0.5), "not measured"),
    ],
)
def test_a_target_is_judged_by_the_median(target: Target, status: str) -> None:
    assert judge(target, MEASURED).status == status


@every_row(
    ("target", "bound"),
    [
        (Target("p", "a", "b", most=0.3, stretch=0.2), "<= 0.3 [0.2]"),
        (Target("p", "a", "b", least=15.0), ">= 15"),
        (Target("p", "a", "b", most=60.0, unit="MB"), "<= 60 MB"),
        (Target("p", "a", "b", stretch=1.0), "[1]"),
    ],
)
def test_a_bound_reads_as_one_writes_it(target: Target, bound: str) -> None:
    assert target.bound == bound


def test_every_target_is_that_of_a_part() -> None:
    assert {target.part for target in TARGETS} == set(PARTS) - {"growth"}


def test_every_target_of_remote_has_its_cases() -> None:
    cases = {case for name, way in WAYS.items() for case in cases_of(name, way)}
    wanted = {name for target in TARGETS if target.part == "remote" for name in (target.over, target.under)}
    assert wanted - cases == set()


@every_row("part", PARTS)
def test_every_part_is_there_under_its_name(part: str) -> None:
    assert importlib.import_module(f"benchmarks.bench.{part}").PART.name == part


def test_what_failed_is_in_the_table_and_its_targets_are_not_measured() -> None:
    measured = Measured({"stream, p50": [1.0], "stream, 8": [1.0]}, {"rpyc, 8": "ImportError: no\n  module"})
    lines = table("remote", measured).splitlines()
    assert "FAILED rpyc, 8: ImportError: no module" in lines
    (line,) = [line for line in lines if line.startswith("stream, 8 over rpyc, 8")]
    assert line.endswith("not measured")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    measured = Measured({"catga_sync": [1.0, 2.0]}, {"msgspec": "it is not installed"})
    found, told = read(write("codec", measured, tmp_path))
    assert found == measured
    assert {"date", "commit", "python", "processor", "versions"} <= set(told)
    assert told["versions"]["marshmallow"]


def test_an_unknown_part_is_refused_with_the_names_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["remtoe"])
    assert "'remtoe'; the parts are remote, batch, codec, local, growth, idle" in capsys.readouterr().err

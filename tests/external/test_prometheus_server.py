"""Prometheus itself: it gives data for each query of the dashboard, and its alerts fire for what they are made for."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.external.prometheus_server import ALERTS, Watched, panels, require_prometheus, resolved
from tests.process.messages import Ask
from tests.processes import until

require_prometheus()

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("prometheus")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("watched")) as made:
        yield made
    assert made.failures == []


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", ALERTS)


def test_each_alert_fires_for_its_cause_and_for_nothing_less() -> None:
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


@pytest.mark.slow
def test_each_query_of_the_dashboard_gives_data_and_alerts_fire_for_a_node_that_hangs(cluster: Watched) -> None:
    asked = cluster.prometheus
    until(lambda: len(asked.query("catga_handlers_in_flight")) == 3, "both nodes and their caller are scraped", 60)
    until(lambda: cluster.caller.send(Ask("tea"), timeout=0.5).node_id == "node-2", "the node has calls", 60)
    cluster.kill("node-2")
    until(lambda: asked.query("catga_retries_total > 0"), "calls to the node that is gone are made again elsewhere", 60)
    cluster.start("node-2")
    until(lambda: cluster.caller.send(Ask("tea"), timeout=0.5).node_id == "node-2", "the node has calls again", 60)
    with cluster.hanging("node-2"):
        until(lambda: asked.firing() >= {"CatgaNodeEjected", "CatgaOutcomeUnknown"}, "alerts for the hanging node", 60)

    queries = {resolved(target["expr"], "10s") for panel in panels() for target in panel["targets"]}

    def without_data() -> set[str]:
        found = {query: [value for _, value in asked.query(query)] for query in queries}
        return {query for query, values in found.items() if not any(map(math.isfinite, values))}

    until(lambda: not without_data(), "each query gives data", 60)

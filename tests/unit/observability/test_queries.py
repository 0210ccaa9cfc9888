"""The queries of the dashboard and of the alert rules: each parses, and asks for what the hook has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import require_module

require_module("prometheus_client")
promql = require_module("promql_parser")
yaml = require_module("yaml")

from prometheus_client import CollectorRegistry  # noqa: E402

from catga_sync.observability._metrics import Metrics  # noqa: E402
from catga_sync.receiver.refusal import Reason  # noqa: E402
from tests.tables import every_row  # noqa: E402

FOLDER = Path(__file__).parents[3] / "docs" / "observability"
PAGE = FOLDER.parent / "observability.md"
#: What Prometheus itself adds to the samples of an address.
FROM_SCRAPE = {"instance", "job"}


def known() -> dict[str, set[str]]:
    """Return the name of each series -> its labels."""
    registry = CollectorRegistry()
    Metrics(registry)
    found: dict[str, set[str]] = {}
    for collector in registry._collector_to_names:
        for family in collector.collect():
            # A metric of prometheus_client has the names of its labels itself.
            labels = set((family if hasattr(family, "_labelnames") else collector)._labelnames)
            kinds = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}[family.type]
            found.update({family.name + kind: labels | ({"le"} if kind == "_bucket" else set()) for kind in kinds})
    return found


def dashboard() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


QUERIES = [
    *(target["expr"].replace("$__rate_interval", "5m") for panel in dashboard() for target in panel["targets"]),
    *(rule["expr"] for rule in alerts()),
]


def selectors(node: Any) -> Iterator[Any]:
    """Yield what the query reads."""
    if type(node).__name__ == "VectorSelector":
        yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield from selectors(child)
    for child in getattr(node, "args", ()):
        yield from selectors(child)


def groupings(node: Any) -> Iterator[tuple[list[str], Any]]:
    """Yield the labels of each ``by``, and what they are the labels of."""
    if type(node).__name__ == "AggregateExpr" and node.modifier is not None:
        yield node.modifier.labels, node.expr
    for name in ("lhs", "rhs", "expr"):
        child = getattr(node, name, None)
        if child is not None:
            yield from groupings(child)
    for child in getattr(node, "args", ()):
        yield from groupings(child)


@every_row("query", QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_are_there(query: str):
    series, parsed = known(), promql.parse(query)
    read = list(selectors(parsed))
    assert read
    for selector in read:
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert selector.name in series
        assert matched <= series[selector.name] | FROM_SCRAPE
    for labels, below in groupings(parsed):
        for selector in selectors(below):
            assert set(labels) <= series[selector.name] | FROM_SCRAPE


def test_what_is_no_metric_of_ours_would_be_found():
    (wrong,) = selectors(promql.parse("sum(rate(catga_send_total[5m]))"))
    assert wrong.name not in known()


@every_row("query", QUERIES)
def test_the_reasons_of_a_query_are_reasons_of_the_receiver(query: str):
    for matcher in (each for one in selectors(promql.parse(query)) for each in one.matchers.matchers):
        if matcher.name == "reason":
            assert set(matcher.value.split("|")) <= {reason.name.lower() for reason in Reason}


def test_each_legend_names_labels_of_its_query():
    for panel in dashboard():
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            by = [label for labels, _ in groupings(promql.parse(target["expr"].replace("$__rate_interval", "5m")))
                  for label in labels]  # fmt: skip
            assert shown <= set(by), panel["title"]


def test_each_alert_says_what_is_wrong():
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names) >= 8
    for rule in alerts():
        shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        by = [label for labels, _ in groupings(promql.parse(rule["expr"])) for label in labels]
        assert shown <= set(by), rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_each_metric_is_on_the_dashboard():
    read = {selector.name for query in QUERIES for selector in selectors(promql.parse(query))}
    left_out = {name for name in known() if not name.endswith(("_count", "_sum"))} - read
    # These are for a closer look.
    assert left_out == {"catga_attempt_seconds_bucket", "catga_node_events_total"}


def test_the_page_lists_each_metric_with_its_labels():
    listed = {
        name: set(re.findall(r"\w+", labels))
        for name, labels in re.findall(r"^\| `(catga_\w+)` \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    }
    found = {name.removesuffix("_bucket"): labels - {"le"} for name, labels in known().items()
             if not name.endswith(("_count", "_sum"))}  # fmt: skip
    assert listed == found

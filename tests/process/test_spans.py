"""Nodes in processes of their own: one trace, with the attempt that failed over in it, and its ids in each log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_module
from tests.process.nodes import node
from tests.processes import Process, get, until

for needed in ("gunicorn", "opentelemetry.sdk", "pythonjsonlogger"):
    require_module(needed)

pytestmark = pytest.mark.process

NAMES = ("n1", "n2", "n3", "n4")


def spans_of(folder: Path) -> list[dict[str, Any]]:
    """Return all spans in the order in which they began."""
    lines = [line for file in folder.glob("*.jsonl") for line in file.read_text("utf-8").splitlines()]
    return sorted(map(json.loads, lines), key=lambda span: span["start_time"])


def lines_of(process: Process) -> list[dict[str, Any]]:
    """Return the lines of a process's log; each of them is JSON."""
    return [json.loads(line) for line in process.output().splitlines()]


@pytest.mark.slow
def test_a_call_through_three_processes_is_one_trace_and_its_ids_stand_in_each_log(
    cluster_name: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        options = ("-c", "tests/process/json_logs.py")
        nodes = {
            name: stack.enter_context(
                node(name, cluster_name, *options, app="tests.process.spans:app", SPANS=str(tmp_path))
            )
            for name in NAMES
        }
        for each in NAMES[:2]:
            until(lambda each=each: get(f"{nodes[each].url}/sees").json() == [*NAMES], f"{each} sees all")
        os.killpg(nodes["n3"].pid, signal.SIGKILL)  # it says no good-bye: n2 believes that it is there
        response = get(f"{nodes['n1'].url}/first")
        assert response is not None
        assert response.text == "done by n4"
        spans = until(lambda: len(found := spans_of(tmp_path)) == 9 and found, "all spans are written")
        logs = {name: lines_of(nodes[name]) for name in ("n1", "n2", "n4")}
    told = [f"{each['resource']['attributes']['service.name']} {each['kind'][9:]} {each['name']}" for each in spans]
    assert told == [
        "n1 INTERNAL send spans.First",
        "n1 INTERNAL handle spans.First",
        "n1 INTERNAL send spans.Second",
        "n1 CLIENT spans.Second",
        "n2 SERVER spans.Second",
        "n2 INTERNAL send spans.Third",
        "n2 CLIENT spans.Third",
        "n2 CLIENT spans.Third",
        "n4 SERVER spans.Third",
    ]
    ids = [each["context"]["span_id"] for each in spans]
    expected = [None, *ids[:6], ids[5], ids[7]]
    assert [each["parent_id"] for each in spans] == expected
    assert {each["context"]["trace_id"] for each in spans} == {spans[0]["context"]["trace_id"]}
    assert [each["attributes"].get("rpc.status_code") for each in spans[6:]] == ["UNAVAILABLE", "OK", "OK"]
    # The lines of the handlers have the ids of their spans; those of a view, and of gunicorn, have none.
    trace_id = spans[0]["context"]["trace_id"][2:]
    for name, text, span in (("n1", "first", spans[1]), ("n2", "second", spans[4]), ("n4", "third", spans[8])):
        (line,) = [each for each in logs[name] if each["message"] == text]
        assert (line["trace_id"], line["span_id"]) == (trace_id, span["context"]["span_id"][2:])
        assert (line["request_id"], line["node_id"]) == (span["attributes"]["catga.request_id"], name)
    outside = [each for each in logs["n1"] if each["message"] == "view" or each["logger"] == "gunicorn.error"]
    assert len(outside) > 3
    assert {(each["request_id"], each["trace_id"], each["node_id"]) for each in outside} == {("-", "-", "n1")}

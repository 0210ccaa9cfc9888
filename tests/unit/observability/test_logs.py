"""The ids of a call on the lines of the log, and lines as JSON."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from catga_sync import CatgaResult, Mediator, Request, create_cluster
from catga_sync.context import CallContext, enter_call, leave_call
from catga_sync.observability.logs import RequestIdFilter, json_formatter
from tests.conftest import require_module
from tests.unit.serving import three_ways

GIVEN = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
NAME = f"{__name__}.lines"


@dataclass(frozen=True)
class Say(Request[str]):
    text: str


class Lines(logging.Handler):
    """Keeps what a handler with the filter would write."""

    def __init__(self, formatter: logging.Formatter | None = None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.records: list[Any] = []
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.getLogger(NAME)
    made.propagate = False
    yield made
    for handler in list(made.handlers):
        made.removeHandler(handler)


def speaking(logger: logging.Logger) -> Mediator:
    local = Mediator()

    @local.handler
    def say(request: Say) -> CatgaResult[str]:
        logger.info("said %s", request.text)
        return CatgaResult.success(request.text)

    return local


def test_a_line_of_a_handler_has_the_ids_of_the_callers_result_wherever_it_runs(logger: logging.Logger) -> None:
    lines = Lines(logging.Formatter("%(request_id)s %(trace_id)s %(node_id)s %(message)s"))
    lines.addFilter(RequestIdFilter())
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    with three_ways(speaking(logger)) as ways:
        for way, mediator in ways.items():
            if way == "the local mediator":
                continue
            result = mediator.send(Say("tea"))
            assert lines.lines[-1] == f"{result.request_id} {result.request_id} node said tea"


def test_a_call_of_a_local_mediator_has_ids_once_it_is_part_of_a_call(logger: logging.Logger) -> None:
    lines = Lines()
    lines.addFilter(RequestIdFilter(node_id="users"))
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    token = enter_call(CallContext("outer", traceparent=GIVEN))
    try:
        speaking(logger).send(Say("tea"))
    finally:
        leave_call(token)
    (record,) = lines.records
    assert (record.trace_id, record.span_id, record.node_id) == ("a" * 32, "b" * 16, "users")
    assert record.request_id != "outer"


def test_a_line_outside_a_call_has_dashes_and_the_node_that_was_given(logger: logging.Logger) -> None:
    for given, shown in ((None, "-"), ("users", "users")):
        record: Any = logging.makeLogRecord({"msg": "up"})
        assert RequestIdFilter(given).filter(record) is True
        assert (record.request_id, record.trace_id, record.span_id, record.node_id) == ("-", "-", "-", shown)


def test_a_record_keeps_an_id_that_it_has(logger: logging.Logger) -> None:
    lines = Lines()
    lines.addFilter(RequestIdFilter())
    logger.addHandler(lines)
    token = enter_call(CallContext("r-1"))
    try:
        logger.warning("of the load balancer", extra={"request_id": "lb-7"})
    finally:
        leave_call(token)
    # As a listener of a queue does, in another thread: outside the call.
    RequestIdFilter().filter(lines.records[0])
    assert lines.records[0].request_id == "lb-7"
    assert lines.records[0].trace_id == CallContext("r-1").trace_id


@pytest.mark.parametrize("filtered", [True, False])
def test_a_line_as_json_has_time_ids_extras_and_traceback(logger: logging.Logger, filtered: bool) -> None:
    require_module("pythonjsonlogger")
    lines = Lines(json_formatter())
    if filtered:
        lines.addFilter(RequestIdFilter())
    logger.addHandler(lines)
    token = enter_call(CallContext("r-1", traceparent=GIVEN, node_id="users"))
    try:
        raise ValueError("no\ntea")
    except ValueError:
        logger.exception("it failed: %s", "Ä", extra={"order": 7})
    finally:
        leave_call(token)
    (line,) = lines.lines
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("exc_info").endswith("ValueError: no\ntea")
    moment = datetime.fromisoformat(found.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert moment.timestamp() == pytest.approx(lines.records[0].created, abs=1e-5)
    assert found == {
        "level": "ERROR",
        "logger": NAME,
        "message": "it failed: Ä",
        "request_id": "r-1",
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "node_id": "users",
        "order": 7,
    }


def test_a_dictionary_of_logging_names_both(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("pythonjsonlogger")
    stream = io.StringIO()
    logging.config.dictConfig(
        {
            "version": 1,
            "incremental": False,
            "disable_existing_loggers": False,
            "filters": {"ids": {"()": "catga_sync.observability.logs.RequestIdFilter", "node_id": "users"}},
            "formatters": {"json": {"()": "catga_sync.observability.logs.json_formatter"}},
            "handlers": {
                "out": {"class": "logging.StreamHandler", "stream": stream, "filters": ["ids"], "formatter": "json"}
            },
            "loggers": {NAME: {"level": "INFO", "handlers": ["out"], "propagate": False}},
        }
    )
    with create_cluster(speaking(logger), environ={}, node_id="node", discovery="memory://") as node:
        result = node.send(Say("tea"))
    logger.info("done")
    said, done = map(json.loads, stream.getvalue().splitlines())
    assert (said["request_id"], said["node_id"]) == (result.request_id, "node")
    assert (done["request_id"], done["node_id"]) == ("-", "users")

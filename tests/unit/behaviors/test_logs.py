"""A line for every call, and nothing of its payload."""

import logging
from dataclasses import dataclass

from catga_sync.behaviors import logging_behavior
from catga_sync.errors import ErrorCode
from catga_sync.mediator import Mediator
from catga_sync.messages import Query
from catga_sync.results import CatgaResult


@dataclass(frozen=True)
class Login(Query[str]):
    password: str = "hunter2"


def lines_of(caplog, answer, **options):
    mediator = Mediator()
    mediator.register(Login, lambda request: answer)
    mediator.add_behavior(logging_behavior(**options))
    with caplog.at_level(logging.DEBUG):
        result = mediator.send(Login())
    return result, [record for record in caplog.records if record.name == options.get("name", "catga_sync.calls")]


def test_a_success_is_one_line_at_info(caplog):
    result, (record,) = lines_of(caplog, "welcome")
    assert result.value == "welcome"
    assert record.levelno == logging.INFO
    ids = f"request_id={result.request_id} trace_id={result.request_id}"
    assert record.getMessage().startswith(f"Login ok: {ids} time_ms=")


def test_a_failure_is_a_warning_that_says_why(caplog):
    failed = CatgaResult.failure("no such user", "users.unknown")
    result, (record,) = lines_of(caplog, failed)
    assert result == failed
    assert record.levelno == logging.WARNING
    assert "Login failed" in record.getMessage()
    assert "code=users.unknown delivery=EXECUTED error='no such user'" in record.getMessage()


def test_a_code_of_ours_is_written_by_name(caplog):
    _, (record,) = lines_of(caplog, CatgaResult.failure("no", ErrorCode.NOT_FOUND))
    assert "code=NOT_FOUND " in record.getMessage()


def test_neither_the_request_nor_the_answer_is_in_the_log(caplog):
    lines_of(caplog, "the answer is forty-two")
    assert "hunter2" not in caplog.text
    assert "forty-two" not in caplog.text


def test_the_level_of_a_success_can_be_chosen(caplog):
    _, (record,) = lines_of(caplog, "x", level=logging.DEBUG)
    assert record.levelno == logging.DEBUG


def test_a_failure_is_never_quieter_than_the_chosen_level(caplog):
    _, (record,) = lines_of(caplog, CatgaResult.failure("no"), level=logging.ERROR)
    assert record.levelno == logging.ERROR


def test_the_lines_go_to_the_logger_that_was_given(caplog):
    mediator = Mediator()
    mediator.register(Login, lambda request: "x")
    mediator.add_behavior(logging_behavior(logging.getLogger("my.own")))
    with caplog.at_level(logging.INFO):
        mediator.send(Login())
    assert [record.name for record in caplog.records] == ["my.own"]


def forged(**cells):
    text = "x\n2026-01-01 ERROR forged"
    return CatgaResult(False, None, **{"error": "no", "code": "mine", **dict.fromkeys(cells, text)})


def test_no_error_text_can_forge_a_line_of_the_log(caplog):
    _, (record,) = lines_of(caplog, forged(error=True))
    assert "\n" not in record.getMessage()


def test_no_code_can_forge_a_line_of_the_log(caplog):
    _, (record,) = lines_of(caplog, forged(code=True))
    assert "\n" not in record.getMessage()

"""The table of refusals: one status and one code for each reason, and no two reasons that are one."""

import re
from http import HTTPStatus
from pathlib import Path

import catga_sync.receiver
from catga_sync.errors import ErrorCode
from catga_sync.receiver.refusal import Reason, Refused
from tests.tables import every_row


@every_row("reason", Reason)
def test_a_reason_is_a_member_of_its_own_with_a_status_and_a_code(reason):
    assert Reason[reason.name] is reason
    assert HTTPStatus(reason.status)
    assert isinstance(reason.code, ErrorCode)


def test_reasons_with_one_status_and_one_code_are_told_apart():
    busy = (Reason.BUSY.status, Reason.BUSY.code)
    assert busy == (Reason.NO_MEMORY.status, Reason.NO_MEMORY.code)
    assert Reason.BUSY is not Reason.NO_MEMORY
    assert len({reason.name for reason in Reason}) == len(Reason.__members__)


def test_a_refusal_is_told_with_its_text_and_keeps_the_cause_to_itself():
    refused = Refused(Reason.STORE_DOWN, "cannot tell", cause="secret path")
    assert (str(refused), refused.reason.status, refused.headers) == ("cannot tell", 503, {})


def test_no_other_file_of_the_receiver_names_a_status():
    folder = Path(next(iter(catga_sync.receiver.__path__)))
    for file in folder.glob("*.py"):
        if file.name != "refusal.py":
            assert re.findall(r"(?:Refused|RawResponse)\(\d|status\w* = \d|ErrorCode\.\w+, \"", file.read_text()) == []

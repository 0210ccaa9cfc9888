"""Why a node does not answer as itself, in a sentence: what was asked, what came back, and the cure."""

from __future__ import annotations

from typing import Any

import pytest

from catga_sync.transport.http.diagnosis import trouble_of
from catga_sync.transport.http.probe import Probe, ProbeOutcome
from tests.tables import every_row

PATH = "/catga/cluster/node"
URL = f"http://localhost:5001{PATH}"


def other(status: int, url: str = URL, **said: Any) -> Probe:
    return Probe(ProbeOutcome.OTHER, status=status, url=url, **said)


def text_of(probe: Probe, *listening: str, own: bool = True) -> str:
    trouble = trouble_of(probe, own_id="me" if own else None, listening=lambda: listening)
    assert trouble is not None
    return str(trouble)


def test_a_node_that_describes_itself_has_no_trouble() -> None:
    answer = Probe(ProbeOutcome.DESCRIBED, {"nodeId": "me"}, 200, URL, node_id="me")
    assert trouble_of(answer, own_id="me") is None
    assert trouble_of(answer) is None
    # Another node is known by the id that the list has for it, whatever it calls itself.
    assert trouble_of(answer, own_id="you") is not None


@pytest.mark.parametrize(
    "said",
    [
        {"node_id": "x\n2026 INFO all is well\x1b[31m"},
        {"refusal": "no\r\n\x1b[2J" + "x" * 10_000},
        {"location": "/\x1b]0;title\x07" + "y" * 10_000},
    ],
)
def test_what_another_server_says_cannot_write_lines_of_its_own(said: dict[str, Any]) -> None:
    text = text_of(other(302, **said))
    assert text.isprintable()
    assert len(text) < 1200


@every_row(
    ("address", "listening", "cure"),
    [
        ("[::1]:5001", ["127.0.0.1:5001"], "give endpoint='http://127.0.0.1:5001'"),
        ("[::1]:5001", ["0.0.0.0:5001"], "give endpoint='http://127.0.0.1:5001'"),
        ("127.0.0.1:5001", ["[::1]:5001"], "give endpoint='http://[::1]:5001'"),
        ("10.0.0.7:5001", ["10.0.0.8:5001", "127.0.0.1:80"], "give endpoint='http://10.0.0.8:5001'"),
    ],
)
def test_a_name_that_leads_past_this_process_is_replaced_by_its_address(
    address: str, listening: list[str], cure: str
) -> None:
    text = text_of(other(404, address=address), *listening)
    assert f"HTTP status 404 at {address}; another server responds there under the name in the endpoint" in text
    assert cure in text


@every_row(
    ("address", "listening"),
    [
        ("127.0.0.1:5001", ["127.0.0.1:5001"]),
        ("127.0.0.1:5001", ["0.0.0.0:5001"]),
        ("127.0.0.1:5001", ["[::]:5001"]),
        ("[::1]:5001", ["[::]:5001"]),
        ("[::1]:5001", ["[::1]:5001", "127.0.0.1:5001"]),
        ("[::1]:5001", ["127.0.0.1:5002"]),
        ("[::1]:5001", []),
    ],
)
def test_a_server_that_is_this_process_or_may_be_is_not_taken_for_another(address: str, listening: list[str]) -> None:
    assert "another server" not in text_of(other(404, address=address), *listening)


def test_a_peer_is_never_told_where_this_process_listens() -> None:
    text = text_of(other(404, address="[::1]:5001"), "127.0.0.1:5001", own=False)
    assert "this process" not in text
    refused = Probe(ProbeOutcome.REFUSED, url=URL, error="Connection refused")
    assert str(trouble_of(refused, listening=lambda: ["127.0.0.1:1"])) == (
        f"GET {URL}: Connection refused; nothing listens there: is the node running, and is that its address?"
    )


@every_row("status", [*range(200, 600, 1)])
def test_every_status_has_a_cure(status: int) -> None:
    for own in (True, False):
        for authentic in (True, False):
            for node_id in (None, "x"):
                asked, found, cure = (
                    text_of(other(status, node_id=node_id, authentic=authentic), own=own)
                    .replace(": HTTP", "\nHTTP", 1)
                    .replace("; ", "\n", 1)
                    .splitlines()
                )
                assert asked == f"GET {URL}"
                assert found.startswith(f"HTTP status {status}")
                assert len(cure) > 10

"""Sessions and adapters of the user's own: what he set holds, and so does what is promised of every call."""

from __future__ import annotations

import pytest
import requests
import responses
from requests.adapters import HTTPAdapter

from catga_sync import Delivery, ErrorCode
from catga_sync.serialization import MessageRegistry
from catga_sync.transport import HttpInvoker
from tests.misbehaviour import peers
from tests.misbehaviour.calls import Order, invoke
from tests.misbehaviour.peers import reply, serving


@responses.activate
def test_responses_can_stand_in_for_the_peer(invoker: HttpInvoker) -> None:
    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        whole = reply(b"\r\n\r\n" + bytes(request.body or b""), payloadData=None, isSuccess=False, errorMessage="no")
        return 200, {}, whole.partition(b"\r\n\r\n")[2].decode()

    responses.add_callback(responses.POST, "http://node.test:5000/catga/cluster/invoke", callback=answer)
    result = invoke(invoker, "http://node.test:5000", Order())
    assert (result.error, result.delivery) == ("no", Delivery.EXECUTED)
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize(
    ("raised", "delivery"),
    [
        (requests.ConnectTimeout(), Delivery.NOT_EXECUTED),
        (requests.ReadTimeout(), Delivery.UNKNOWN),
        (requests.ConnectionError("who knows"), Delivery.UNKNOWN),
    ],
    ids=["connect timeout", "read timeout", "connection error"],
)
def test_without_evidence_only_a_connection_never_made_proves_anything(
    invoker: HttpInvoker, raised: Exception, delivery: Delivery
) -> None:
    responses.add(responses.POST, "http://node.test:5000/catga/cluster/invoke", body=raised)
    assert invoke(invoker, "http://node.test:5000", Order()).delivery is delivery


def test_an_adapter_that_the_user_mounted_is_used() -> None:
    seen = []

    class Noting(HTTPAdapter):
        def send(self, request: requests.PreparedRequest, **options: object) -> requests.Response:  # type: ignore[override]
            seen.append(request.url)
            return super().send(request, **options)  # type: ignore[arg-type]

    session = requests.Session()
    session.mount("http://127.0.0.1", Noting())
    session.headers["X-Team"] = "blue"
    mine = HttpInvoker(MessageRegistry(), session=session)
    with serving(peers.answers) as peer:
        assert invoke(mine, peer.endpoint, Order())
        assert b"x-team: blue" in peer.requests[0].lower()
    assert seen == [f"{peer.endpoint}/catga/cluster/invoke"]
    session.close()


def test_a_session_of_the_users_own_keeps_the_deadline_too() -> None:
    with requests.Session() as session:
        mine = HttpInvoker(MessageRegistry(), session=session)
        with serving(peers.drips_its_head) as peer:
            result = invoke(mine, peer.endpoint, Order(), timeout=0.4)
    assert (result.delivery, result.code) == (Delivery.UNKNOWN, ErrorCode.DEADLINE_EXCEEDED)

"""When the streams of a node end: with its drain, and with its worker."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from catga_sync import ClusterMediator, Mediator, create_cluster
from catga_sync.receiver.receiver import RawRequest, RawResponse
from catga_sync.wire.frames import GOING, PROTOCOL, Frame, FrameReader
from catga_sync.wire.routes import STREAM_PATH


@pytest.fixture
def mediator() -> Iterator[ClusterMediator]:
    with create_cluster(Mediator(), node_id="n1", discovery="memory://", insecure=True, environ={}) as made:
        yield made


def ask_for_a_stream(mediator: ClusterMediator) -> RawResponse:
    headers = {"upgrade": PROTOCOL, "connection": "Upgrade"}
    raw = RawRequest("GET", STREAM_PATH, headers, lambda size: b"", None, takes_over=True)
    return mediator.receiver.handle(raw)


@contextlib.contextmanager
def idle_stream(mediator: ClusterMediator) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(20)
        receiver = mediator.receiver
        receiver.streams.start(
            ours, None, receiver.serve_call, remote_address="peer", hung_up=lambda sock: sock.fileno() < 0
        )
        yield theirs


def test_a_drain_ends_the_idle_streams_at_once(mediator: ClusterMediator) -> None:
    with idle_stream(mediator) as stream:
        assert mediator.drain(20)
        reader = FrameReader(None, 100_000)
        frame: Frame | None = None
        while frame is None:
            data = stream.recv(65536)
            assert data, "closed without GOING"
            frame = reader.feed(data)
    assert (frame.kind, frame.number) == (GOING, 0)


def test_a_worker_that_ends_says_so_and_that_another_one_may_be_asked_at_once(mediator: ClusterMediator) -> None:
    assert ask_for_a_stream(mediator).status == 101
    mediator.receiver.streams.end("the worker ends")
    response = ask_for_a_stream(mediator)
    assert (response.status, response.headers["Retry-After"], response.headers["Catga-Executed"]) == (503, "0", "0")
    assert json.loads(response.body)["errorMessage"] == "this worker of node n1 ends; send by POST"


def test_a_node_with_all_the_streams_that_it_may_have_is_left_alone_for_a_while(mediator: ClusterMediator) -> None:
    mediator.receiver.streams.most = 1
    with idle_stream(mediator):
        response = ask_for_a_stream(mediator)
    assert (response.status, "Retry-After" in response.headers) == (503, False)
    assert "as many streams as it may" in json.loads(response.body)["errorMessage"]

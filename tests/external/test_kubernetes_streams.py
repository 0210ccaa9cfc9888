"""Kubernetes discovery, when the API server says something wrong, or nothing, or is not there."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time

import pytest

from catga_sync.discovery import _kubernetes_api, _kubernetes_watch, kubernetes
from catga_sync.discovery.kubernetes import KubernetesApiError, KubernetesDiscovery
from tests import processes
from tests.conftest import require_module

require_module("kubernetes")

# isort: split

from tests.external.kubernetes_api import Handler, KubernetesApi  # noqa: E402 - see above
from tests.external.kubernetes_case import (  # noqa: E402
    Discover,
    FaultCase,
    Pauses,
    answers,
    ids,
    known_ids,
    until_ids,
)
from tests.external.kubernetes_objects import endpoint_slice, pod, status, written  # noqa: E402
from tests.fuzz.peer import Peer  # noqa: E402


class TestStream(FaultCase):
    @pytest.mark.parametrize(
        "text",
        [
            b"this is not JSON\n",
            b'"text"\n',
            b'{"type": "MODIFIED"}\n',
            b'{"type": 1, "object": {}}\n',
            b'{"type": "RENAMED", "object": {"metadata": {"resourceVersion": "1"}}}\n',
            b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": 1}}}\n',
            b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "1"}}}\n',
            b'{"type": "DELETED", "object": {"metadata": {"resourceVersion": "1"}}}\n',
            b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "' + b"9" * 200 + b'"}}}\n',
            b'{"type": "ADDED", "object": ' + b"[" * 1000 + b"]" * 1000 + b"}\n",
            b"\xff\xfe\n",
            json.dumps(
                {"type": "ADDED", "object": {**written(endpoint_slice("x", service="y")), "metadata": {"name": "x"}}}
            ).encode()
            + b"\n",
        ],
    )
    def test_of_garbage_is_given_up_for_a_new_list(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, text: bytes
    ) -> None:
        api.say(text)
        processes.until(lambda: api.count("list") == 2, "it lists anew")
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [0.25]

    def test_that_is_cut_off_is_given_up_for_a_new_list(self, api: KubernetesApi, users: KubernetesDiscovery) -> None:
        api.say(b'{"type": "ADDED", "obj')
        api.cut_watches()
        processes.until(lambda: api.count("list") == 2, "it lists anew")
        self.change(api)
        self.until_changed(users)

    def test_that_ends_in_the_middle_of_an_event_is_given_up(
        self, api: KubernetesApi, users: KubernetesDiscovery
    ) -> None:
        api.say(b'{"type": "ADDED", "obj')
        api.end_watches()
        processes.until(lambda: api.count("list") == 2, "it lists anew")
        self.change(api)
        self.until_changed(users)

    def test_of_events_too_long_is_given_up(
        self, api: KubernetesApi, users: KubernetesDiscovery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_kubernetes_api, "MAX_EVENT", 100_000)
        for _ in range(3):
            api.say(b"x" * 50_000)
        processes.until(lambda: api.count("list") == 2, "it lists anew")

    @pytest.mark.parametrize("refuse_after", [None, 2])
    def test_that_ends_with_an_error_is_taken_up_again_after_a_wait(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, refuse_after: int | None
    ) -> None:
        details = {} if refuse_after is None else {"retryAfterSeconds": refuse_after}
        api.error(status(500, "InternalError", "etcdserver: no leader", **details))
        self.change(api)
        self.until_changed(users)
        assert api.count("list") == 1
        assert pauses.seconds == [0.25 if refuse_after is None else 2.5]

    def test_that_always_ends_at_once_is_no_reason_to_hurry(
        self,
        api: KubernetesApi,
        users: KubernetesDiscovery,
        pauses: Pauses,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_kubernetes_watch, "_SHORT", 600.0)  # "at once", on a busy machine too

        def end(handler: Handler) -> None:
            handler.begin_stream()
            handler.send_chunk(b"")

        api.fault("watch", end, times=4)
        self.end_watch(api)
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [0.25, 0.5, 1.0, 2.0]

    def test_that_falls_silent_is_taken_up_again(self, api: KubernetesApi, discover: Discover, pauses: Pauses) -> None:
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        users = discover(idle_timeout=0.3)
        until_ids(users, "users-0")
        api.store.is_mute = True
        self.change(api)
        api.store.is_mute = False
        self.until_changed(users)
        assert api.count("list") == 1


class TestSilence(FaultCase):
    def test_instead_of_a_watch_is_given_up(self, api: KubernetesApi, discover: Discover, pauses: Pauses) -> None:
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        api.hang("watch", times=2)
        users = discover(timeout=0.5)
        processes.until(lambda: known_ids(users) == ["users-0"], "it has listed")
        processes.until(lambda: api.count("watch") >= 3, "it has waited for nothing twice")
        assert len(pauses.seconds) >= 2
        self.change(api)
        self.until_changed(users)

    def test_from_the_start_costs_the_first_call_a_second_and_the_others_nothing(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.undo()  # no more patience than users have
        assert kubernetes._FIRST_LIST == 1.0
        api.hang()
        users = discover(timeout=60.0)
        begun = time.monotonic()
        with pytest.raises(KubernetesApiError, match="the API server has not responded yet"):
            users.nodes()
        first = time.monotonic() - begun
        begun = time.monotonic()
        for _ in range(20):
            with pytest.raises(KubernetesApiError, match="the API server has not responded yet"):
                users.nodes()
        assert first > 0.9
        assert time.monotonic() - begun < 10 * first  # would be 20 times that

    def test_drop_by_drop_does_not_hold_the_thread(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_kubernetes_api, "_LIST_TIMEOUT", 0.3)
        monkeypatch.setattr(kubernetes, "_FIRST_LIST", 0.1)  # the calls that do not wait cut it
        ended = threading.Event()

        def drip(handler: Handler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            try:
                for _ in range(1000):
                    handler.wfile.write(b"x")
                    ended.wait(0.02)
            except OSError:
                ended.set()
            handler.close_connection = True

        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        api.fault("list", drip, times=1)
        users = discover()
        processes.until(lambda: known_ids(users) == ["users-0"], "it has listed")
        processes.until(ended.is_set, "the server has noticed")

    def test_of_a_body_that_never_ends_does_not_hold_the_thread(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_kubernetes_api, "_LIST_TIMEOUT", 0.3)
        pause = threading.Event()

        def drip(handler: Handler) -> None:
            handler.begin_stream()
            while not pause.wait(0.02):
                handler.send_chunk(b" ")

        api.fault("list", drip)
        with pytest.raises(KubernetesApiError, match="does not end"):
            discover().nodes()


class TestAnswer(FaultCase):
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"<html>", "is not JSON"),
            (b"[]", "is not a JSON object"),
            (b"{}", "did not respond with an EndpointSliceList"),
            (b'{"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1"}, "items": {}}', "items: a list"),
            (b'{"kind": "EndpointSliceList", "metadata": {}, "items": []}', "resourceVersion: a text"),
            (b'{"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1"}, "items": [1]}', "asked for"),
            (b'{"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1", "continue": 1}}', "continue: a text"),
        ],
    )
    def test_that_is_no_list_is_refused(self, api: KubernetesApi, discover: Discover, body: bytes, text: str) -> None:
        api.fault("list", lambda handler: handler.send_raw(200, body))
        with pytest.raises(KubernetesApiError, match=text):
            discover().nodes()

    def test_that_is_too_long_is_refused(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_kubernetes_api, "MAX_PAGE", 100_000)
        api.fault("list", lambda handler: handler.send_raw(200, b" " * 200_000))
        with pytest.raises(KubernetesApiError, match="more than 100000 bytes"):
            discover().nodes()

    @pytest.mark.parametrize(
        ("head", "again"),
        [
            (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
            (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4096),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"x" * 4096),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-9\r\n", b"x" * 4096),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", b"x" * 4096),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 4096),
            (b"HTTP/1.1 200 OK\r\n\r\n", b" " * 4096),
        ],
        ids=["headers", "a-header", "a-size", "a-size-below-0", "a-chunk", "a-length", "a-body"],
    )
    def test_of_which_any_part_never_ends_is_refused(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch, head: bytes, again: bytes
    ) -> None:
        monkeypatch.setattr(_kubernetes_api, "MAX_PAGE", 100_000)

        def pour(handler: Handler) -> None:
            handler.wfile.write(head)
            with contextlib.suppress(OSError):
                while True:
                    handler.wfile.write(again)
            handler.close_connection = True

        api.fault("list", pour)
        users = discover()
        processes.until(lambda: not known_ids(users) and api.count("list") >= 2, "it has given up one")
        with pytest.raises(KubernetesApiError, match=r"cannot be reached|more than 100000 bytes|cut off"):
            users.nodes()

    def test_that_goes_on_for_ever_is_refused(self, api: KubernetesApi, discover: Discover) -> None:
        more = {"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1", "continue": "x"}, "items": []}
        api.fault("list", lambda handler: handler.send_object(200, more))
        with pytest.raises(KubernetesApiError, match="more than 1000 EndpointSlices"):
            discover().nodes()

    def test_that_is_compressed_is_refused(self, api: KubernetesApi, discover: Discover) -> None:
        api.fault("list", lambda handler: handler.send_raw(200, b"{}", {"Content-Encoding": "gzip"}))
        with pytest.raises(KubernetesApiError, match="content coding"):
            discover().nodes()
        assert api.asked[0].headers["Accept-Encoding"] == "identity"

    def test_that_is_shorter_than_announced_is_refused(self, api: KubernetesApi, discover: Discover) -> None:
        def lie(handler: Handler) -> None:
            handler.send_raw(200, b"{}", {"Content-Length": "100"})
            handler.close_connection = True

        api.fault("list", lie)
        with pytest.raises(KubernetesApiError, match="cut off"):
            discover().nodes()

    def until_endpoint(self, users: KubernetesDiscovery, endpoint: str) -> None:
        processes.until(lambda: endpoint in [record.node.endpoint for record in users.nodes()], f"{endpoint} is there")

    def test_with_a_wrong_endpoint_loses_that_one_and_tells_once(
        self, api: KubernetesApi, users: KubernetesDiscovery, caplog: pytest.LogCaptureFixture
    ) -> None:
        for last in ("10.0.0.2", "10.0.0.3"):
            api.put(endpoint_slice("users-b", pod("bad", "169.254.169.254"), pod("users-1", last)))
            self.until_endpoint(users, f"http://{last}:8000")
        until_ids(users, "users-0", "users-1")
        assert caplog.text.count("169.254.169.254 is a multicast or link-local address") == 1


class TestDown(FaultCase):
    def test_from_the_start_is_an_error_with_the_cause(self, api: KubernetesApi, discover: Discover) -> None:
        api.stop()
        users = discover()
        with pytest.raises(KubernetesApiError, match=r"cannot be reached: .*[Rr]efused"):
            users.nodes()
        api.start()
        processes.until(lambda: answers(users), "it is answered")

    def test_later_costs_nothing_and_is_made_up_for(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "catga_sync")
        api.stop()
        processes.until(lambda: len(pauses.seconds) >= 5, "it was not answered several times")
        before = users.nodes()
        assert ids(users) == ["users-0"]
        assert users.nodes() is before
        self.change(api)
        api.age()
        api.start()
        self.until_changed(users)
        assert caplog.text.count("the nodes of users are those seen last") == 1
        processes.until(lambda: caplog.text.count("the nodes of users are followed again") == 1, "that is told")

    def test_in_another_protocol_is_an_error_on_one_line(self, discover: Discover) -> None:
        with (
            contextlib.closing(Peer()) as peer,
            peer.sending(b"220 mail\x1b[31m\r\n"),
            pytest.raises(KubernetesApiError, match="cannot be reached") as caught,
        ):
            discover(api_server=peer.url).nodes()
        assert str(caught.value).isprintable()

    def test_at_an_address_that_is_none_is_an_error_with_the_cause(self, discover: Discover) -> None:
        users = discover(api_server="https://no-such-host.invalid")
        with pytest.raises(KubernetesApiError, match="cannot be reached"):
            processes.until(lambda: users.nodes() and None, "never")

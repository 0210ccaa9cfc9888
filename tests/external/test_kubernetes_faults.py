"""Kubernetes discovery, when the API server refuses, fails, hangs, lies or is not there."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from catga_sync.discovery import _kubernetes_api
from catga_sync.discovery.kubernetes import KubernetesApiError, KubernetesDiscovery
from tests import processes
from tests.conftest import require_module

require_module("kubernetes")

# isort: split

from tests.external.kubernetes_api import Handler, KubernetesApi  # noqa: E402 - see above
from tests.external.kubernetes_case import Discover, Highest, KubernetesCase, Pauses, ids, until_ids  # noqa: E402
from tests.external.kubernetes_objects import endpoint_slice, pod, status, written  # noqa: E402


class FaultCase(KubernetesCase):
    @pytest.fixture
    def users(self, api: KubernetesApi, discover: Discover) -> KubernetesDiscovery:
        """A discovery that watches one pod, and draws the longest waits."""
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        users = discover(rng=Highest(), timeout=1.0)
        until_ids(users, "users-0")
        processes.until(lambda: api.open_watches == 1, "a watch is open")
        return users

    def change(self, api: KubernetesApi) -> None:
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))

    def until_changed(self, users: KubernetesDiscovery) -> None:
        until_ids(users, "users-0", "users-1")


class TestToken(FaultCase):
    def test_that_was_rotated_is_read_when_the_old_one_is_refused(
        self, api: KubernetesApi, users: KubernetesDiscovery, token: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.tokens = {"token-2"}
        api.end_watches()
        processes.until(lambda: "does not accept the token" in caplog.text, "the token is refused")
        self.change(api)
        assert ids(users) == ["users-0"]
        token.write_text("token-2")
        self.until_changed(users)
        assert api.count("list") == 1

    def test_is_refused_twice_before_there_is_a_wait(
        self, api: KubernetesApi, discover: Discover, token: Path, pauses: Pauses
    ) -> None:
        refused = threading.Event()

        def refuse(handler: Handler) -> None:
            token.write_text("token-2")
            api.tokens = {"token-2"}
            handler.send_object(401, status(401, "Unauthorized", "Unauthorized"))
            refused.set()

        api.fault("list", refuse, times=1)
        assert ids(discover()) == []
        assert refused.is_set()
        assert pauses.seconds == []

    def test_is_read_for_every_request(self, api: KubernetesApi, users: KubernetesDiscovery, token: Path) -> None:
        token.write_text("token-2\n")
        api.tokens = {"token-1", "token-2"}
        api.end_watches()
        processes.until(lambda: api.count("watch") == 2, "it watches again")
        sent = [asked.headers["Authorization"] for asked in api.asked]
        assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]

    @pytest.mark.parametrize("text", [None, "", "   \n", "to\nken", "tök", "x" * 100_000])
    def test_that_is_none_is_not_sent_and_not_shown(
        self, api: KubernetesApi, discover: Discover, token: Path, text: str | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        token.unlink() if text is None else token.write_text(text, encoding="utf-8")
        with pytest.raises(KubernetesApiError, match=r"EndpointSlices of shop/users: token_file: .*token") as raised:
            discover().nodes()
        for secret in ("to\nken", "to\\nken", "tök", "x" * 50):
            assert secret not in str(raised.value) + caplog.text
        assert api.asked == []

    def test_is_sent_by_nobody_who_has_none(self, api: KubernetesApi, discover: Discover) -> None:
        api.tokens = {""}
        discover(token_file=None).nodes()
        assert "Authorization" not in api.asked[0].headers

    def test_does_not_follow_a_redirect(self, api: KubernetesApi, discover: Discover) -> None:
        with KubernetesApi() as other:
            api.refuse(307, "TemporaryRedirect", Location=f"{other.url}/apis")
            with pytest.raises(KubernetesApiError, match="answered 307"):
                discover().nodes()
            assert other.asked == []

    def test_takes_no_proxy_password_or_cookie_from_elsewhere(
        self, api: KubernetesApi, discover: Discover, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("default login me password secret\n")
        (tmp_path / "netrc").chmod(0o600)
        with KubernetesApi() as proxy:
            for name, value in {"HTTP_PROXY": proxy.url, "ALL_PROXY": proxy.url, "NO_PROXY": "x"}.items():
                monkeypatch.setenv(name, value)
                monkeypatch.setenv(name.lower(), value)
            monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
            api.refuse(500, times=1, Set_Cookie="a=b; Path=/")
            users = discover()
            processes.until(lambda: api.open_watches == 1 or not _nodes(users), "it watches")
            assert proxy.asked == []
        assert {asked.headers["Authorization"] for asked in api.asked} == {"Bearer token-1"}
        assert not any("Cookie" in asked.headers for asked in api.asked)


def _nodes(users: KubernetesDiscovery) -> list[str]:
    try:
        return ids(users)
    except KubernetesApiError:
        return []


class TestRefusal(FaultCase):
    def test_for_want_of_a_role_names_the_rule_once_and_ends_when_there_is_one(
        self, api: KubernetesApi, discover: Discover, pauses: Pauses, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.is_allowed = False
        users = discover()
        with pytest.raises(
            KubernetesApiError, match="may not list and watch EndpointSlices in namespace 'shop'"
        ) as raised:
            users.nodes()
        rule = "apiGroups [discovery.k8s.io], resources [endpointslices], verbs [get, list, watch], and a RoleBinding"
        assert rule.replace(", and", ",") in str(raised.value).replace(", and", ",")
        assert 'User "system:serviceaccount:shop:default" cannot list' in str(raised.value)
        processes.until(lambda: len(pauses.seconds) >= 5, "it was refused several times")
        assert [record.levelno for record in caplog.records if "(403)" in record.getMessage()] == [logging.ERROR]
        api.is_allowed = True
        processes.until(lambda: _answers(users), "it is let in")

    def test_of_a_watch_keeps_what_is_known(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        api.is_allowed = False
        api.end_watches()
        processes.until(lambda: len(pauses.seconds) >= 3, "it was refused several times")
        assert ids(users) == ["users-0"]
        api.heal()
        self.change(api)
        self.until_changed(users)

    def test_of_a_cluster_without_endpoint_slices_says_so(self, api: KubernetesApi, discover: Discover) -> None:
        api.refuse(404, "NotFound")
        with pytest.raises(KubernetesApiError, match=r"has no EndpointSlices \(404\): Kubernetes from 1\.21 on"):
            discover().nodes()

    @pytest.mark.parametrize(("code", "seconds"), [(429, "7"), (503, "3")])
    def test_with_a_time_to_wait_is_obeyed(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, code: int, seconds: str
    ) -> None:
        api.refuse(code, "TooManyRequests", times=2, Retry_After=seconds)
        api.end_watches()
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [int(seconds) * 1.25] * 2
        assert api.count("list") == 1

    def test_with_a_time_that_is_absurd_is_obeyed_for_five_minutes(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        api.refuse(429, times=1, Retry_After="999999999")
        api.refuse(429, times=1, Retry_After="Fri, 31 Dec 2199 23:59:59 GMT")
        api.end_watches()
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [300.0 * 1.25, 0.5]

    def test_again_and_again_is_met_with_waits_that_double_up_to_30_seconds(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.refuse(500, times=10)
        api.end_watches()
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
        assert caplog.text.count("scripted 500") == 1

    def test_again_and_again_is_met_with_waits_that_are_drawn(
        self, api: KubernetesApi, discover: Discover, pauses: Pauses
    ) -> None:
        api.refuse(500, times=12)
        users = discover()
        processes.until(lambda: _answers(users), "it is answered")
        bounds = [min(30.0, 0.25 * 2**number) for number in range(12)]
        assert all(0.0 <= drawn <= bound for drawn, bound in zip(pauses.seconds, bounds, strict=True))
        assert len({round(drawn / bound, 3) for drawn, bound in zip(pauses.seconds, bounds, strict=True)}) > 6

    def test_is_forgotten_after_a_good_watch(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        for _ in range(2):
            api.refuse(500, times=3)
            seen = api.count("watch")
            api.end_watches()
            processes.until(
                lambda before=seen: api.count("watch") == before + 4 and api.open_watches == 1, "it watches"
            )
            api.bookmark()
        assert pauses.seconds == [0.25, 0.5, 1.0] * 2


def _answers(users: KubernetesDiscovery) -> bool:
    try:
        users.nodes()
    except KubernetesApiError:
        return False
    return True


class TestGone(FaultCase):
    @pytest.mark.parametrize("refuses", [True, False], ids=["by-a-status", "by-an-event"])
    def test_version_is_followed_by_a_list_at_once(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, refuses: bool
    ) -> None:
        api.refuses_old_watches = refuses
        api.store.is_mute = True
        self.change(api)
        api.age()
        api.store.is_mute = False
        api.end_watches()
        self.until_changed(users)
        assert (api.count("list"), pauses.seconds) == (2, [])

    def test_version_in_the_middle_of_a_watch_is_followed_by_a_list(
        self, api: KubernetesApi, users: KubernetesDiscovery
    ) -> None:
        api.error(status(410, "Gone", "too old resource version: 1 (2)"))
        processes.until(lambda: api.count("list") == 2, "it lists anew")
        self.change(api)
        self.until_changed(users)

    def test_again_and_again_is_no_reason_to_hurry(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        api.refuse(410, "Expired", "watch", times=5)
        api.end_watches()
        self.change(api)
        self.until_changed(users)
        processes.until(lambda: api.open_watches == 1, "it watches")
        assert pauses.seconds == [0.5, 1.0, 2.0, 4.0]

    def test_page_makes_the_list_begin_anew(self, api: KubernetesApi, discover: Discover) -> None:
        for number in range(60):
            api.put(endpoint_slice(f"users-{number:03}", pod(f"users-{number:03}", f"10.0.0.{number}")))
        api.fault("list", lambda handler: (api.store.compact(), handler._list(_asked(api)))[0], times=0)
        passed: list[int] = []

        def second_page(handler: Handler) -> None:
            passed.append(len(api.asked))
            if len(passed) == 2:
                # Between the pages a slice goes, and the history with it.
                api.delete("users-000")
                api.age()
            handler._list(api.asked[-1]) if len(passed) != 2 else handler.send_object(410, status(410, "Expired", "x"))

        api.fault("list", second_page)
        users = discover()
        assert ids(users) == [f"users-{number:03}" for number in range(1, 60)]
        assert [bool(asked.query.get("continue")) for asked in api.asked[:4]] == [False, True, False, True]


def _asked(api: KubernetesApi) -> Any:
    return api.asked[-1]


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
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        api.fault("watch", lambda handler: (handler.begin_stream(), handler.send_chunk(b""))[0], times=4)
        api.end_watches()
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
        users = discover(timeout=0.2)
        until_ids(users, "users-0")
        processes.until(lambda: len(pauses.seconds) == 2, "it has waited for nothing twice")
        self.change(api)
        self.until_changed(users)

    def test_from_the_start_costs_the_first_call_a_second_and_the_others_nothing(
        self, api: KubernetesApi, discover: Discover
    ) -> None:
        api.hang()
        users = discover(timeout=30.0)
        begun = time.monotonic()
        with pytest.raises(KubernetesApiError, match="it has not answered yet"):
            users.nodes()
        assert 0.8 < time.monotonic() - begun < 2.0
        begun = time.monotonic()
        for _ in range(20):
            with pytest.raises(KubernetesApiError):
                users.nodes()
        assert time.monotonic() - begun < 0.2

    def test_drop_by_drop_does_not_hold_the_thread(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_kubernetes_api, "_LIST_TIMEOUT", 0.3)
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
        processes.until(lambda: _nodes(users) == ["users-0"], "it has listed")
        assert ended.is_set()

    def test_of_a_body_that_never_ends_does_not_hold_the_thread(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_kubernetes_api, "_LIST_TIMEOUT", 0.3)
        pause = threading.Event()

        def drip(handler: Handler) -> None:
            handler.begin_stream()
            while not pause.wait(0.02):
                handler.send_chunk(b" ")

        api.fault("list", drip, times=1)
        with pytest.raises(KubernetesApiError, match="does not come to an end"):
            discover().nodes()


class TestAnswer(FaultCase):
    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"<html>", "is not JSON"),
            (b"[]", "is not a JSON object"),
            (b"{}", "did not answer with an EndpointSliceList"),
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

    def test_that_goes_on_for_ever_is_refused(self, api: KubernetesApi, discover: Discover) -> None:
        more = {"kind": "EndpointSliceList", "metadata": {"resourceVersion": "1", "continue": "x"}, "items": []}
        api.fault("list", lambda handler: handler.send_object(200, more))
        with pytest.raises(KubernetesApiError, match="more than 5000 EndpointSlices"):
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

    def test_with_a_wrong_endpoint_loses_that_one_and_tells_once(
        self, api: KubernetesApi, users: KubernetesDiscovery, caplog: pytest.LogCaptureFixture
    ) -> None:
        for last in ("10.0.0.2", "10.0.0.3"):
            api.put(endpoint_slice("users-b", pod("bad", "169.254.169.254"), pod("users-1", last)))
            processes.until(lambda end=last: f"http://{end}:8000" in str(users.nodes()), "the good one is there")
        until_ids(users, "users-0", "users-1")
        assert caplog.text.count("169.254.169.254 is a multicast or link-local address") == 1


class TestDown(FaultCase):
    def test_from_the_start_is_an_error_with_the_cause(self, api: KubernetesApi, discover: Discover) -> None:
        api.stop()
        users = discover()
        with pytest.raises(KubernetesApiError, match=r"cannot be reached: .*[Rr]efused"):
            users.nodes()
        api.start()
        processes.until(lambda: _answers(users), "it is answered")

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

    def test_at_an_address_that_is_none_is_an_error_with_the_cause(self, discover: Discover) -> None:
        users = discover(api_server="https://no-such-host.invalid")
        with pytest.raises(KubernetesApiError, match="cannot be reached"):
            processes.until(lambda: users.nodes() and None, "never", 5.0)

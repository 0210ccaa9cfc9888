"""Kubernetes discovery, when the API server refuses."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

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
)
from tests.external.kubernetes_objects import endpoint_slice, pod, status  # noqa: E402


class TestToken(FaultCase):
    def test_that_was_rotated_is_read_when_the_old_one_is_refused(
        self, api: KubernetesApi, users: KubernetesDiscovery, token: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.tokens = {"token-2"}
        self.end_watch(api)
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
            refused.set()
            handler.send_object(401, status(401, "Unauthorized", "Unauthorized"))

        api.fault("list", refuse, times=1)
        assert ids(discover()) == []
        assert refused.is_set()
        assert pauses.seconds == []

    def test_is_read_for_every_request(self, api: KubernetesApi, users: KubernetesDiscovery, token: Path) -> None:
        token.write_text("token-2\n")
        api.tokens = {"token-1", "token-2"}
        self.end_watch(api)
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
            with pytest.raises(KubernetesApiError, match="responded with 307"):
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
            processes.until(lambda: api.open_watches == 1 or not known_ids(users), "it watches")
            assert proxy.asked == []
        assert {asked.headers["Authorization"] for asked in api.asked} == {"Bearer token-1"}
        assert not any("Cookie" in asked.headers for asked in api.asked)


class TestRefusal(FaultCase):
    def test_for_want_of_a_role_names_the_rule_once_and_ends_when_there_is_one(
        self, api: KubernetesApi, discover: Discover, pauses: Pauses, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.is_allowed = False
        users = discover()
        with pytest.raises(KubernetesApiError, match=r"EndpointSlices in namespace 'shop' \(403\)") as raised:
            users.nodes()
        rule = "a Role with apiGroups [discovery.k8s.io], resources [endpointslices], verbs [get, list, watch]"
        assert rule in str(raised.value)
        assert 'User "system:serviceaccount:shop:default" cannot list' in str(raised.value)
        processes.until(lambda: len(pauses.seconds) >= 5, "it was refused several times")
        assert [record.levelno for record in caplog.records if "(403)" in record.getMessage()] == [logging.ERROR]
        api.is_allowed = True
        processes.until(lambda: answers(users), "it is let in")

    def test_of_a_watch_keeps_what_is_known(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        api.is_allowed = False
        self.end_watch(api)
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
        self.end_watch(api)
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [int(seconds) * 1.25] * 2
        assert api.count("list") == 1

    def test_with_a_time_that_is_absurd_is_obeyed_for_five_minutes(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        api.refuse(429, times=1, Retry_After="999999999")
        api.refuse(429, times=1, Retry_After="Fri, 31 Dec 2199 23:59:59 GMT")
        self.end_watch(api)
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [300.0 * 1.25, 0.5]

    def test_again_and_again_is_met_with_waits_that_double_up_to_30_seconds(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.refuse(500, times=10)
        self.end_watch(api)
        self.change(api)
        self.until_changed(users)
        assert pauses.seconds == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
        assert caplog.text.count("scripted 500") == 1

    def test_again_and_again_is_met_with_waits_that_are_drawn(
        self, api: KubernetesApi, discover: Discover, pauses: Pauses
    ) -> None:
        api.refuse(500, times=12)
        users = discover()
        processes.until(lambda: answers(users), "it is answered")
        bounds = [min(30.0, 0.25 * 2**number) for number in range(12)]
        assert all(0.0 <= drawn <= bound for drawn, bound in zip(pauses.seconds, bounds, strict=True))
        assert len({round(drawn / bound, 3) for drawn, bound in zip(pauses.seconds, bounds, strict=True)}) > 6

    def until_watching(self, api: KubernetesApi, times: int) -> None:
        """End the watch, and wait until so many have been asked for, and the last one is open."""
        self.end_watch(api)
        processes.until(lambda: (api.count("watch"), api.open_watches) == (times, 1), "it watches")

    def test_is_forgotten_after_a_good_watch(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        for _ in range(2):
            api.refuse(500, times=3)
            self.until_watching(api, api.count("watch") + 4)
        assert pauses.seconds == [0.25, 0.5, 1.0] * 2


class TestGone(FaultCase):
    @pytest.mark.parametrize("refuses", [True, False], ids=["by-a-status", "by-an-event"])
    def test_version_is_followed_by_a_list_at_once(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses, refuses: bool
    ) -> None:
        api.refuses_old_watches = refuses
        api.bookmark()
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
        self.end_watch(api)
        self.change(api)
        self.until_changed(users)
        processes.until(lambda: api.open_watches == 1, "it watches")
        assert pauses.seconds == [0.5, 1.0, 2.0, 4.0]

    def test_page_makes_the_list_begin_anew(self, api: KubernetesApi, discover: Discover) -> None:
        for number in range(60):
            api.put(endpoint_slice(f"users-{number:03}", pod(f"users-{number:03}", f"10.0.0.{number}")))
        page = api.store.page

        def page_and_change(*query: Any) -> Any:
            found = page(*query)
            if api.count("list") == 1:
                # Between the pages a slice goes, and the history with it.
                api.delete("users-000")
                api.age()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(api.store, "page", page_and_change)
            assert ids(discover()) == [f"users-{number:03}" for number in range(1, 60)]
        assert [bool(asked.query.get("continue")) for asked in api.asked[:4]] == [False, True, False, True]

"""Kubernetes discovery, when all goes well."""

from __future__ import annotations

import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from catga_sync.discovery import kubernetes
from catga_sync.discovery.base import Discovery
from catga_sync.discovery.kubernetes import KubernetesApiError, KubernetesDiscovery
from catga_sync.errors import CatgaError, ConfigurationError
from catga_sync.nodes import ClusterNode, NodeRecord, NodeStatus
from tests import processes
from tests.conftest import require_module

require_module("kubernetes")

# isort: split

from tests.external.kubernetes_api import Handler, KubernetesApi  # noqa: E402 - see above
from tests.external.kubernetes_case import Discover, KubernetesCase, Pauses, ids, until_ids  # noqa: E402
from tests.external.kubernetes_objects import endpoint_slice, pod  # noqa: E402
from tests.tables import every_row  # noqa: E402


def followers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "catga-kubernetes"]


class TestNodes(KubernetesCase):
    @pytest.fixture
    def users(self, api: KubernetesApi, discover: Discover) -> KubernetesDiscovery:
        """A discovery that watches two pods."""
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1"), pod("users-1", "10.0.0.2")))
        users = discover()
        until_ids(users, "users-0", "users-1")
        processes.until(lambda: api.open_watches == 1, "a watch is open")
        return users

    def test_are_all_there_at_the_first_call(self, api: KubernetesApi, discover: Discover) -> None:
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1"), pod("users-1", "10.0.0.2")))
        api.put(endpoint_slice("users-b", pod("users-2", "10.0.0.3")))
        api.put(endpoint_slice("accounts-a", pod("accounts-0", "10.0.0.4"), service="accounts"))
        api.put(endpoint_slice("users-a", pod("users-9", "10.0.0.5")), "elsewhere")
        assert ids(discover()) == ["users-0", "users-1", "users-2"]

    def test_are_none_where_there_is_no_slice_and_that_is_told(
        self, discover: Discover, caplog: pytest.LogCaptureFixture
    ) -> None:
        users = discover()
        assert list(users.nodes()) == []
        assert "no EndpointSlice of a service 'users' in namespace 'shop'" in caplog.text

    def test_are_followed_without_another_list(self, api: KubernetesApi, users: KubernetesDiscovery) -> None:
        api.put(endpoint_slice("users-b", pod("users-2", "10.0.0.3")))
        until_ids(users, "users-0", "users-1", "users-2")
        ending = pod("users-1", "10.0.0.2", ready=False, serving=True, terminating=True)
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1"), ending))
        processes.until(lambda: users.nodes()[1].node.status is NodeStatus.DRAINING, "users-1 drains")
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        until_ids(users, "users-0", "users-2")
        api.delete("users-b")
        until_ids(users, "users-0")
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1"), service="accounts"))
        until_ids(users)
        assert (api.count("list"), api.count("watch")) == (1, 1)

    def test_are_the_same_object_as_long_as_nothing_changes(
        self, api: KubernetesApi, users: KubernetesDiscovery
    ) -> None:
        before = users.nodes()
        api.put(endpoint_slice("users-c"))
        api.put(endpoint_slice("users-d", pod("users-3", "10.0.0.4")))
        until_ids(users, "users-0", "users-1", "users-3")
        assert users.nodes() is users.nodes()
        assert [record.node.node_id for record in before] == ["users-0", "users-1"]

    def test_come_from_all_pages_of_a_long_list(self, api: KubernetesApi, discover: Discover) -> None:
        for number in range(120):
            api.put(endpoint_slice(f"users-{number:03}", pod(f"users-{number:03}", f"10.0.0.{number}")))
        users = discover()
        assert ids(users) == [f"users-{number:03}" for number in range(120)]
        assert [asked.query.get("limit") for asked in api.asked[:3]] == ["50"] * 3
        assert [bool(asked.query.get("continue")) for asked in api.asked[:3]] == [False, True, True]

    def test_may_be_in_the_namespace_of_the_service_account(
        self, api: KubernetesApi, discover: Discover, tmp_path: Path
    ) -> None:
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")), "mine")
        (tmp_path / "namespace").write_text("mine")
        assert ids(discover("kubernetes:///users", namespace_file=tmp_path / "namespace")) == ["users-0"]

    @pytest.mark.parametrize("text", [None, "", "../secrets", "a/b", "é"])
    def test_need_a_namespace(self, discover: Discover, tmp_path: Path, text: str | None) -> None:
        file = tmp_path / "namespace"
        if text is not None:
            file.write_text(text, encoding="utf-8")
        with pytest.raises(KubernetesApiError, match=r"this namespace/users: discovery: .*namespace"):
            discover("kubernetes:///users", namespace_file=file).nodes()


class TestWatch(KubernetesCase):
    @pytest.fixture
    def users(self, api: KubernetesApi, discover: Discover) -> KubernetesDiscovery:
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        users = discover()
        until_ids(users, "users-0")
        processes.until(lambda: api.open_watches == 1, "a watch is open")
        return users

    def watches(self, api: KubernetesApi) -> list[dict[str, str]]:
        return [asked.query for asked in api.asked if asked.verb == "watch"]

    def test_begins_at_the_version_of_the_list(self, api: KubernetesApi, users: KubernetesDiscovery) -> None:
        (query,) = self.watches(api)
        assert query.pop("timeoutSeconds") in {str(seconds) for seconds in range(150, 301)}
        assert query == {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": "kubernetes.io/service-name=users",
            "resourceVersion": str(api.store.version),
        }

    def test_that_ends_is_followed_by_one_from_the_last_event(
        self, api: KubernetesApi, users: KubernetesDiscovery, pauses: Pauses
    ) -> None:
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))
        until_ids(users, "users-0", "users-1")
        version = api.store.version
        api.end_watches()
        processes.until(lambda: len(self.watches(api)) == 2, "it watches again")
        assert self.watches(api)[1]["resourceVersion"] == str(version)
        assert (api.count("list"), pauses.seconds) == (1, [])

    def test_that_ends_is_followed_by_one_from_the_last_bookmark(
        self, api: KubernetesApi, users: KubernetesDiscovery
    ) -> None:
        api.age()
        api.bookmark()
        api.end_watches()
        processes.until(lambda: len(self.watches(api)) == 2, "it watches again")
        assert self.watches(api)[1]["resourceVersion"] == str(api.store.version)
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))
        until_ids(users, "users-0", "users-1")
        assert api.count("list") == 1

    def test_misses_nothing_that_happens_between_two(self, api: KubernetesApi, users: KubernetesDiscovery) -> None:
        held = threading.Event()

        def hold(handler: Handler) -> None:
            held.wait(20)
            handler.send_object(503, {})

        api.fault("watch", hold, times=1)
        api.end_watches()
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))
        api.delete("users-a")
        held.set()
        until_ids(users, "users-1")
        assert api.count("list") == 1

    def test_goes_on_in_pieces_of_any_size(self, api: KubernetesApi, users: KubernetesDiscovery) -> None:
        api.say(b'\n{"type": "BOOKMARK", "object": {"metadata"')
        api.say(b': {"resourceVersion": "777"}}}\n\n{"type": "BOOK')
        api.say(b'MARK", "object": {"metadata": {"resourceVersion": "888"}}}\n')
        api.end_watches()
        processes.until(lambda: len(self.watches(api)) == 2, "it watches again")
        assert self.watches(api)[1]["resourceVersion"] == "888"

    def test_is_the_only_thing_that_goes_on(self, api: KubernetesApi, users: KubernetesDiscovery) -> None:
        for _ in range(100):
            users.nodes()
        assert len(followers()) == 1
        assert len(api.asked) == 2


class TestLife(KubernetesCase):
    def test_nothing_is_touched_by_making_one(self, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was opened"))
        discovery = KubernetesDiscovery("kubernetes:///users", api_server=api.url)
        discovery.close()
        assert (followers(), api.asked) == ([], [])

    def test_registering_asks_nobody(self, api: KubernetesApi, discover: Discover) -> None:
        users = discover()
        users.register(NodeRecord(ClusterNode("users-0", "http://10.0.0.1:8000")), 30.0)
        users.deregister("users-0", "")
        assert api.asked == []

    @pytest.mark.parametrize("verb", ["list", "watch"])
    def test_closing_ends_a_thread_that_waits_for_the_server(
        self, api: KubernetesApi, discover: Discover, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        api.hang(verb)
        users = discover(timeout=60.0)
        if verb == "watch":
            users.nodes()
        else:
            monkeypatch.setattr(kubernetes, "_FIRST_LIST", 0.1)
            with pytest.raises(KubernetesApiError):
                users.nodes()
        processes.until(lambda: api.count(verb) == 1, "it waits")
        (thread,) = followers()
        users.close()
        assert not thread.is_alive()
        users.close()

    def test_closing_ends_a_silent_watch_and_a_wait(self, api: KubernetesApi, discover: Discover) -> None:
        for broken in (False, True):
            users = discover(pause=threading.Event.wait)
            if broken:
                api.refuse(429, "TooManyRequests", Retry_After="100")
                with pytest.raises(KubernetesApiError, match="responded with 429: scripted 429"):
                    users.nodes()
            else:
                users.nodes()
                processes.until(lambda: api.open_watches == 1, "a watch is open")
            users.close()
            assert followers() == []

    def test_after_closing_it_starts_afresh(self, api: KubernetesApi, discover: Discover) -> None:
        users = discover()
        users.nodes()
        users.close()
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        assert ids(users) == ["users-0"]

    def test_a_discovery_that_is_dropped_takes_its_thread_along(self, api: KubernetesApi, token: Path) -> None:
        users = KubernetesDiscovery("kubernetes://shop/users", api_server=api.url, token_file=token, ca_file=None)
        users.nodes()
        assert len(followers()) == 1
        del users
        gc.collect()
        processes.until(lambda: followers() == [], "the thread has ended")

    def test_many_threads_that_begin_at_once_start_one(self, api: KubernetesApi, discover: Discover) -> None:
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        users, gate, seen = discover(), threading.Barrier(16), []

        def first() -> None:
            gate.wait(20)
            seen.append(ids(users))

        threads = [threading.Thread(target=first) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert seen == [["users-0"]] * 16
        assert api.count("list") == 1


class TestOptions:
    def test_it_is_a_discovery(self) -> None:
        discovery: Discovery = KubernetesDiscovery("kubernetes://shop/users")
        assert discovery.refresh_interval == 0.25

    @every_row(
        ("options", "text"),
        [
            ({"api_server": "http://10.0.0.1:8001"}, r"^api_server: give https://host:port \(http:// is for loopback"),
            ({"api_server": "grpc://10.0.0.1"}, "^api_server: "),
            ({"api_server": "https://10.0.0.1/prefix"}, "^api_server: "),
            ({"api_server": "https://me:secret@10.0.0.1"}, "^api_server: "),
            ({"timeout": 0}, "^timeout: give seconds above 0, not 0"),
            ({"watch_timeout": float("nan")}, "^watch_timeout: "),
            ({"idle_timeout": "90"}, "^idle_timeout: "),
        ],
    )
    def test_that_are_wrong_are_refused_by_name(self, options: dict[str, Any], text: str) -> None:
        with pytest.raises(ConfigurationError, match=text):
            KubernetesDiscovery("kubernetes://shop/users", **options)

    def test_plain_http_is_for_loopback(self) -> None:
        for url in ("http://localhost:8001", "http://127.0.0.1:8001", "http://[::1]:8001"):
            KubernetesDiscovery("kubernetes://shop/users", api_server=url)

    def test_errors_have_the_one_root_and_survive_a_pickle(self) -> None:
        again: Any = pickle.loads(pickle.dumps(KubernetesApiError("no", status=429, retry_after=7.0)))
        assert isinstance(again, CatgaError)
        assert (str(again), again.status, again.retry_after) == ("no", 429, 7.0)

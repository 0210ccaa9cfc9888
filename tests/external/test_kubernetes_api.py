"""The API server of these tests is one to the official client, too."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.conftest import require_module

require_module("kubernetes")

# isort: split

from kubernetes.client import ApiClient, ApiException, Configuration, DiscoveryV1Api  # noqa: E402 - see above
from kubernetes.watch import Watch  # noqa: E402

from tests.external.kubernetes_api import KubernetesApi  # noqa: E402
from tests.external.kubernetes_objects import endpoint_slice, pod, status, written  # noqa: E402


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi() as api:
        yield api


@pytest.fixture
def client(api: KubernetesApi) -> Iterator[Any]:
    settings: Any = Configuration(host=api.url, api_key={"authorization": "Bearer token-1"})
    settings.retries = False
    with contextlib.closing(ApiClient(settings)) as made:
        yield DiscoveryV1Api(made)


USERS: dict[str, Any] = {"namespace": "shop", "label_selector": "kubernetes.io/service-name=users"}


def names(answer: Any) -> list[str]:
    return [item.metadata.name for item in answer.items]


class TestList:
    def test_gives_what_was_put_and_its_version(self, api: KubernetesApi, client: Any) -> None:
        made = endpoint_slice("users-a", pod("users-0", "10.0.0.1"), pod("users-1", "10.0.0.2", ready=False))
        api.put(made)
        api.put(endpoint_slice("accounts-a", service="accounts"))
        api.put(endpoint_slice("users-b"), "elsewhere")

        answer = client.list_namespaced_endpoint_slice(**USERS)

        assert names(answer) == ["users-a"]
        assert answer.items[0].endpoints == made.endpoints
        assert answer.items[0].ports == made.ports
        assert answer.items[0].api_version is None
        assert int(answer.items[0].metadata.resource_version) < int(answer.metadata.resource_version)

    def test_writes_an_empty_slice_as_a_server_in_go_does(self, api: KubernetesApi, client: Any) -> None:
        api.put(endpoint_slice("users-a", ports=[]))
        (item,) = client.list_namespaced_endpoint_slice(**USERS).items
        assert (item.endpoints, item.ports) == (None, None)

    def test_comes_in_pages_of_one_version(self, api: KubernetesApi, client: Any) -> None:
        for letter in "abc":
            api.put(endpoint_slice(f"users-{letter}"))
        first = client.list_namespaced_endpoint_slice(**USERS, limit=2)
        api.delete("users-c")
        more = {"limit": 2, "_continue": first.metadata._continue}
        second = client.list_namespaced_endpoint_slice(**USERS, **more)

        assert (names(first), names(second)) == (["users-a", "users-b"], ["users-c"])
        assert first.metadata.resource_version == second.metadata.resource_version
        assert second.metadata._continue is None

        api.age()
        with pytest.raises(ApiException) as raised:
            client.list_namespaced_endpoint_slice(**USERS, **more)
        assert (raised.value.status, "Expired" in str(raised.value.body)) == (410, True)

    def test_refuses_an_object_that_the_official_client_does_not_read(self, api: KubernetesApi) -> None:
        item = written(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        wrongs: list[dict[str, Any]] = [{"addressType": None}, {"ports": [{"port": "http"}]}, {"adresses": []}]
        for wrong in wrongs:
            with pytest.raises(ValueError):
                api.put({**item, **wrong})

    def test_is_for_those_who_may(self, api: KubernetesApi, client: Any) -> None:
        api.is_allowed = False
        with pytest.raises(ApiException, match="is forbidden") as raised:
            client.list_namespaced_endpoint_slice(**USERS)
        assert raised.value.status == 403
        api.tokens = {"token-2"}
        with pytest.raises(ApiException) as raised:
            client.list_namespaced_endpoint_slice(**USERS)
        assert raised.value.status == 401


class TestWatch:
    def follow(self, client: Any, **options: Any) -> Generator[tuple[str, str, str], None, None]:
        """Yield type, name and version of what happens."""
        watch: Any = Watch
        for event in watch().stream(client.list_namespaced_endpoint_slice, **USERS, timeout_seconds=60, **options):
            metadata = event["raw_object"]["metadata"]
            yield event["type"], metadata.get("name", ""), metadata["resourceVersion"]

    def test_tells_every_change_after_a_version(self, api: KubernetesApi, client: Any) -> None:
        api.put(endpoint_slice("users-a"))
        version = client.list_namespaced_endpoint_slice(**USERS).metadata.resource_version
        api.put(endpoint_slice("users-b"))
        api.put(endpoint_slice("accounts-a", service="accounts"))
        with contextlib.closing(self.follow(client, resource_version=version, allow_watch_bookmarks=True)) as events:
            assert next(events)[:2] == ("ADDED", "users-b")
            api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
            assert next(events)[:2] == ("MODIFIED", "users-a")
            api.delete("users-b")
            assert next(events)[:2] == ("DELETED", "users-b")
            api.put(endpoint_slice("users-a", service="accounts"))
            kind, name, last = next(events)
            assert (kind, name) == ("DELETED", "users-a")
            api.bookmark()
            assert next(events) == ("BOOKMARK", "", last)
            api.end_watches()
            assert list(events) == []

    def test_begins_with_what_is_there_if_no_version_is_given(self, api: KubernetesApi, client: Any) -> None:
        api.put(endpoint_slice("users-a"))
        with contextlib.closing(self.follow(client)) as events:
            assert next(events)[:2] == ("ADDED", "users-a")
            api.end_watches()
            assert list(events) == []

    @pytest.mark.parametrize("refuses", [True, False], ids=["by-a-status", "by-an-event"])
    def test_from_a_version_that_is_gone_is_refused(self, api: KubernetesApi, client: Any, refuses: bool) -> None:
        api.refuses_old_watches = refuses
        api.put(endpoint_slice("users-a"))
        version = client.list_namespaced_endpoint_slice(**USERS).metadata.resource_version
        api.age()
        with pytest.raises(ApiException, match=r"too old resource version|Gone") as raised:
            list(self.follow(client, resource_version=version))
        assert raised.value.status == 410

    def test_can_end_with_an_error(self, api: KubernetesApi, client: Any) -> None:
        with contextlib.closing(self.follow(client)) as events:
            api.put(endpoint_slice("users-a"))
            next(events)
            api.error(status(500, "InternalError", "etcdserver: no leader"))
            with pytest.raises(ApiException, match="no leader"):
                next(events)

"""What the tests of Kubernetes discovery have in common."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from catga_sync.discovery import kubernetes
from catga_sync.discovery.kubernetes import KubernetesApiError, KubernetesDiscovery
from tests import processes
from tests.external.kubernetes_api import KubernetesApi
from tests.external.kubernetes_objects import endpoint_slice, pod

__all__ = ["Discover", "FaultCase", "KubernetesCase", "Pauses", "answers", "ids", "known_ids", "until_ids"]

Discover = Callable[..., KubernetesDiscovery]


class Pauses:
    """Take note of the waits, and make them short. Thread-safe."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, wake: threading.Event, seconds: float) -> None:
        self.seconds.append(seconds)
        wake.wait(0.01)


class Highest(random.Random):
    """Draws the upper bound, so that bounds can be seen."""

    def uniform(self, a: float, b: float) -> float:
        return b


def ids(discovery: KubernetesDiscovery) -> list[str]:
    """Return the ids of the nodes that are there."""
    return [record.node.node_id for record in discovery.nodes()]


def until_ids(discovery: KubernetesDiscovery, *expected: str) -> None:
    """Wait until exactly those nodes are there."""
    processes.until(lambda: ids(discovery) == list(expected), f"the nodes are {expected}")


class KubernetesCase:
    """An API server, a token for it, and what makes discoveries that are closed at the end."""

    @pytest.fixture(autouse=True)
    def _patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wait for longer than users do: a busy machine is no API server that hangs, nor a thread that does not end."""
        monkeypatch.setattr(kubernetes, "_FIRST_LIST", 20.0)
        monkeypatch.setattr(kubernetes, "_PATIENCE", 20.0)

    @pytest.fixture
    def api(self) -> Iterator[KubernetesApi]:
        with KubernetesApi() as api:
            yield api

    @pytest.fixture
    def token(self, tmp_path: Path) -> Path:
        file = tmp_path / "token"
        file.write_text("token-1\n")
        return file

    @pytest.fixture
    def pauses(self) -> Pauses:
        return Pauses()

    @pytest.fixture
    def discover(self, api: KubernetesApi, token: Path, pauses: Pauses) -> Iterator[Discover]:
        with ExitStack() as discoveries:

            def discover(url: str = "kubernetes://shop/users", **options: Any) -> KubernetesDiscovery:
                given = {"api_server": api.url, "token_file": token, "ca_file": None, "pause": pauses, "timeout": 20.0}
                return discoveries.enter_context(closing(KubernetesDiscovery(url, **{**given, **options})))

            yield discover


class FaultCase(KubernetesCase):
    """The same with a discovery that is well, and a change to see whether it still is."""

    @pytest.fixture
    def users(self, api: KubernetesApi, discover: Discover) -> KubernetesDiscovery:
        """A discovery that watches one pod, and draws the longest waits."""
        api.put(endpoint_slice("users-a", pod("users-0", "10.0.0.1")))
        users = discover(rng=Highest())
        until_ids(users, "users-0")
        processes.until(lambda: api.open_watches == 1, "a watch is open")
        return users

    def end_watch(self, api: KubernetesApi) -> None:
        """Have the watch end after something has come, as a good one does."""
        api.bookmark()
        api.end_watches()

    def change(self, api: KubernetesApi) -> None:
        api.put(endpoint_slice("users-b", pod("users-1", "10.0.0.2")))

    def until_changed(self, users: KubernetesDiscovery) -> None:
        until_ids(users, "users-0", "users-1")


def known_ids(users: KubernetesDiscovery) -> list[str]:
    """Return the ids of the nodes that are there; none while there has been no list."""
    try:
        return ids(users)
    except KubernetesApiError:
        return []


def answers(users: KubernetesDiscovery) -> bool:
    """Return whether there has been a list."""
    try:
        users.nodes()
    except KubernetesApiError:
        return False
    return True

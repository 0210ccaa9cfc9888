"""Names are resolved within a call's time, however long the system's resolver takes."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from catga_sync.transport.http import resolver as names
from catga_sync.transport.http.resolver import addresses_of
from tests.processes import until
from tests.unit.cluster.fakes import FakeClock


class Resolver:
    """A system's resolver that hangs until it is let go."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.go = threading.Event()
        #: Names that are answered without waiting to be let go, and the error that they get, if any.
        self.quick: dict[str, OSError | None] = {}
        #: What names lead to, where it is something else than this machine.
        self.found: dict[str, tuple[str, ...]] = {}
        self._real = socket.getaddrinfo
        self.running = 0
        self.most = 0

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        if options.get("flags") == socket.AI_NUMERICHOST:
            return self._real(host, port, *args, **options)
        self.asked[host] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        if host not in self.quick:
            self.go.wait(30)
        self.running -= 1
        error = self.quick.get(host)
        if error is not None:
            raise error
        if host == "nowhere.test":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found = self.found.get(host, ("127.0.0.1", "127.0.0.2"))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(names, "_resolver", names._Resolver())
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.go.set()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.0.0.9"])
def test_an_address_asks_nobody(resolver: Resolver, address: str) -> None:
    assert addresses_of(address, 80, 0.0) == [address]
    assert resolver.asked == Counter()


def test_a_name_has_its_addresses_in_order(resolver: Resolver) -> None:
    resolver.go.set()
    assert addresses_of("users.test", 80, 10.0) == ["127.0.0.1", "127.0.0.2"]


def test_an_unknown_name_is_an_error_of_the_system(resolver: Resolver) -> None:
    resolver.go.set()
    with pytest.raises(socket.gaierror):
        addresses_of("nowhere.test", 80, 10.0)


def test_a_silent_resolver_keeps_nobody_for_longer_than_he_has(resolver: Resolver) -> None:
    with pytest.raises(TimeoutError, match=r"has not responded for 'users\.test'"):
        addresses_of("users.test", 80, 0.05)


@pytest.mark.parametrize("name", ["localhost", "LocalHost.", "users.localhost"])
def test_localhost_asks_nobody(resolver: Resolver, name: str) -> None:
    assert addresses_of(name, 80, 0.0) == ["::1", "127.0.0.1"]
    assert resolver.asked == Counter()


def test_a_name_that_ends_like_localhost_is_none(resolver: Resolver) -> None:
    resolver.go.set()
    assert addresses_of("notlocalhost", 80, 10.0) == ["127.0.0.1", "127.0.0.2"]


def test_so_many_names_are_looked_up_at_once(resolver: Resolver) -> None:
    hosts = [f"{number}.test" for number in range(names.AT_ONCE + 3)]
    with ThreadPoolExecutor(len(hosts)) as pool:
        asking = [pool.submit(addresses_of, host, 80, 20.0) for host in hosts]
        until(lambda: len(resolver.asked) == names.AT_ONCE, "so many run")
        resolver.go.set()
        assert {tuple(each.result(20)) for each in asking} == {("127.0.0.1", "127.0.0.2")}
    assert resolver.most == names.AT_ONCE


def test_callers_who_want_the_same_name_share_one_look_up(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = []
    result = Future.result

    def counted(future: Future[Any], timeout: float | None = None) -> Any:
        waiting.append(future)
        return result(future, timeout)

    monkeypatch.setattr(Future, "result", counted)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(addresses_of, "users.test", 80, 20.0) for _ in range(8)]
        until(lambda: any(waiting.count(future) == 8 for future in list(waiting)), "all wait for the same")
        resolver.go.set()
        assert {tuple(each.result(20)) for each in asking} == {("127.0.0.1", "127.0.0.2")}
    assert resolver.asked["users.test"] == 1


def test_a_thread_that_cannot_be_started_spoils_no_later_look_up(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.go.set()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(names.AT_ONCE + 1):
            with pytest.raises(RuntimeError):
                addresses_of("users.test", 80, 10.0)
    assert addresses_of("users.test", 80, 10.0)


def test_names_that_hang_delay_no_other(resolver: Resolver) -> None:
    for host in ("a.test", "b.test", "c.test"):
        with pytest.raises(TimeoutError):
            addresses_of(host, 80, 0.01)
    resolver.quick["users.test"] = None
    assert addresses_of("users.test", 80, 10.0) == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize("error", [None, socket.gaierror(socket.EAI_AGAIN, "try again")], ids=["silence", "EAI_AGAIN"])
def test_a_name_server_that_fails_leaves_what_was_known(resolver: Resolver, error: OSError | None) -> None:
    resolver.quick["users.test"] = None
    addresses_of("users.test", 80, 10.0)
    if error is None:
        del resolver.quick["users.test"]
    else:
        resolver.quick["users.test"] = error
    assert addresses_of("users.test", 80, 10.0) == ["127.0.0.1", "127.0.0.2"]
    assert resolver.asked["users.test"] == 2


def test_a_name_that_is_gone_is_forgotten(resolver: Resolver) -> None:
    resolver.quick["users.test"] = None
    addresses_of("users.test", 80, 10.0)
    resolver.quick["users.test"] = socket.gaierror(socket.EAI_NONAME, "gone")
    with pytest.raises(socket.gaierror, match="gone"):
        addresses_of("users.test", 80, 10.0)
    del resolver.quick["users.test"]
    with pytest.raises(TimeoutError):
        addresses_of("users.test", 80, 0.01)


def test_what_was_known_too_long_ago_is_not_used(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(names, "_resolver", names._Resolver(monotonic=clock.monotonic))
    resolver.quick["users.test"] = None
    addresses_of("users.test", 80, 10.0)
    del resolver.quick["users.test"]
    clock.advance(names.MAX_KNOWN_AGE)
    assert addresses_of("users.test", 80, 10.0)
    clock.advance(0.1)
    with pytest.raises(TimeoutError):
        addresses_of("users.test", 80, 0.01)


def test_so_many_names_are_remembered_and_the_oldest_go_first(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_KNOWN", 2)
    for host in ("a.test", "b.test", "a.test", "c.test"):
        resolver.quick[host] = None
        addresses_of(host, 80, 10.0)
    resolver.quick.clear()
    assert addresses_of("a.test", 80, 10.0)
    assert addresses_of("c.test", 80, 10.0)
    with pytest.raises(TimeoutError):
        addresses_of("b.test", 80, 0.01)


def test_a_name_that_was_not_found_in_time_is_found_later(resolver: Resolver) -> None:
    with pytest.raises(TimeoutError):
        addresses_of("users.test", 80, 0.05)
    resolver.go.set()
    assert addresses_of("users.test", 80, 10.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_a_resolver_of_its_own(resolver: Resolver) -> None:
    with pytest.raises(TimeoutError):
        addresses_of("users.test", 80, 0.05)
    child = os.fork()
    if child == 0:
        resolver.go.set()
        try:
            os._exit(0 if addresses_of("users.test", 80, 10.0) else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("address", ["169.254.169.254", "64:ff9b::a9fe:a9fe", "224.0.0.1", "0.0.0.0", "fe80::1%lo"])
def test_a_name_that_leads_to_what_is_no_node_is_refused(resolver: Resolver, address: str) -> None:
    """As ``metadata.google.internal`` does, or any name whose owner wishes so."""
    resolver.quick["metadata.google.internal"] = None
    resolver.found["metadata.google.internal"] = (address,)
    with pytest.raises(
        OSError, match=r"metadata\.google\.internal leads to .*(no node can have|not an address to call)"
    ):
        addresses_of("metadata.google.internal", 80, 5.0)


def test_of_a_name_with_several_addresses_those_that_no_node_can_have_are_left_out(resolver: Resolver) -> None:
    resolver.quick["node.test"] = None
    resolver.found["node.test"] = ("169.254.169.254", "10.0.0.1")
    assert addresses_of("node.test", 80, 5.0) == ["10.0.0.1"]

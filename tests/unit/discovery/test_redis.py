"""What can be told of the Redis store without a server: its URL, its errors, and peers that are no Redis."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from catga_sync.discovery.redis import RedisDiscovery
from catga_sync.errors import ConfigurationError
from tests.conftest import require_module
from tests.contracts.discovery import LONG, record
from tests.processes import until
from tests.tables import every_row

redis = require_module("redis")

SECRET = "hunter2"


def settings(url: str, **options: Any) -> dict[str, Any]:
    found = dict(RedisDiscovery(url, **options)._server.settings)
    provider = found.pop("credential_provider")
    return {**found, "login": None if provider is None else provider.get_credentials()}


# -- the URL --------------------------------------------------------------------------------------------------------


@every_row(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "db": 0, "login": None}),
        ("redis://example.org", {"host": "example.org", "port": 6379}),
        ("redis://10.0.0.7:7000/3", {"host": "10.0.0.7", "port": 7000, "db": 3}),
        ("redis://[2001:db8::1]:7000?db=4", {"host": "2001:db8::1", "port": 7000, "db": 4}),
        ("redis://:p%40%23%2Fss@h", {"login": ("p@#/ss",)}),
        ("redis://us%3Aer:@h", {"login": ("us:er", "")}),
    ],
)
def test_the_url_is_read_as_redis_py_reads_it(url: str, expected: dict[str, Any]) -> None:
    found = settings(url)
    assert {name: found[name] for name in expected} == expected
    assert "ssl" not in found


def test_tls_always_checks_the_certificate_and_the_name_in_it() -> None:
    found = settings(
        "rediss://h?ssl_ca_certs=%2Fetc%2Fca.pem&ssl_cert_reqs=required", ssl_certfile="c", ssl_keyfile="k"
    )
    assert (found["ssl"], found["ssl_cert_reqs"], found["ssl_check_hostname"]) == (True, "required", True)
    assert (found["ssl_ca_certs"], found["ssl_certfile"], found["ssl_keyfile"]) == ("/etc/ca.pem", "c", "k")


def test_options_win_over_the_url() -> None:
    found = settings("rediss://u:p@h?ssl_ca_certs=a", username="v", password="q", ssl_ca_certs="b")
    assert (found["login"], found["ssl_ca_certs"]) == (("v", "q"), "b")


@every_row(
    ("url", "says"),
    [
        (f"http://u:{SECRET}@h", "no Redis URL|write redis://"),
        (f"u:{SECRET}@h", "write redis://"),
        (f"redis://u:{SECRET}/x@h:1/0", "%2F"),
        (f"redis://u:{SECRET}#x@h:1/0", "%23"),
        (f"redis://u:{SECRET}?x@h:1/0", "%3F"),
        (f"redis://u:a:{SECRET}@h:port/0", "write redis://"),
        (f"redis://u:{SECRET}@[h/0", "write redis://"),
        (f"redis://u:{SECRET}@h:99999", "write redis://"),
        (f"redis://u:{SECRET}@h/-1", "write redis://"),
        (f"redis://u:{SECRET}@h/zero", "write redis://"),
        (f"redis://u:{SECRET}@h?{SECRET}", "write redis://"),
        (f"redis://u:{SECRET}@h?socket_timeout=60", "the query takes db and "),
        (f"redis://u:{SECRET}@h?password={SECRET}", "the query takes db and "),
        (f"rediss://u:{SECRET}@h?ssl_cert_reqs=none", "a certificate is always checked"),
        (f"rediss://u:{SECRET}@h?ssl_check_hostname=false", "the query takes db and "),
        (f"rediss://u:{SECRET}@h?ssl_keyfile=k", "ssl_keyfile requires ssl_certfile"),
        (f"redis://u:{SECRET}@h?ssl_ca_certs=a", "ssl_ca_certs requires rediss://"),
    ],
)
def test_a_wrong_url_says_what_to_write_and_never_the_password(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^discovery: .*({says})") as caught:
        RedisDiscovery(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@every_row(
    ("options", "says"),
    [
        ({"prefix": "a{b}"}, "^prefix: give 1 to 64 characters"),
        ({"prefix": ""}, "^prefix: give 1 to 64 characters"),
        ({"cluster_name": "all*"}, "^cluster_name: give 1 to 64 characters"),
        ({"client": redis.Redis()}, "^discovery: give RedisDiscovery a URL, or a client"),
    ],
)
def test_a_wrong_option_says_so(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        RedisDiscovery("redis://h", **options)


def test_it_takes_a_url_or_a_client_that_has_all_it_needs() -> None:
    for options in ({}, {"client": redis.Redis(), "password": SECRET}):
        with pytest.raises(ConfigurationError, match=r"^discovery: give RedisDiscovery a URL") as caught:
            RedisDiscovery(**options)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigurationError, match="decode_responses=False"):
        RedisDiscovery(client=redis.Redis(decode_responses=True))


def test_all_keys_of_a_cluster_share_one_hash_tag() -> None:
    keys = RedisDiscovery("redis://h", cluster_name="shop.eu", prefix="team:a")._keys
    assert len(set(keys)) == 4
    assert all(key.startswith("{team:a:shop.eu}:") for key in keys)


def test_without_the_redis_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install catga-sync\[redis\]"):
        RedisDiscovery("redis://h")


# -- peers that are no Redis ----------------------------------------------------------------------------------------


class Peer:
    def __init__(self, port: int) -> None:
        self.url = f"redis://u:{SECRET}@127.0.0.1:{port}"
        self.connections = 0


@contextlib.contextmanager
def peer(answer: Callable[[socket.socket], None]) -> Iterator[Peer]:
    """Listen until the block is left; ``answer`` gets every connection and may keep it for as long as it likes."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Peer(listener.getsockname()[1])

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    found.connections += 1
                    kept.append(connection)
                    answer(connection)

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(20)
            for connection in kept:
                connection.close()


def test_nothing_is_opened_at_construction() -> None:
    with peer(lambda connection: None) as found:
        store = RedisDiscovery(found.url)
        store.close()
        with pytest.raises(redis.exceptions.TimeoutError):
            store.nodes()
        until(lambda: found.connections == 1, "it is accepted")
        store.close()


def test_a_call_is_made_once_and_gives_up_soon() -> None:
    with peer(lambda connection: None) as found:
        store = RedisDiscovery(found.url)
        calls: list[Callable[[], object]] = [store.nodes, lambda: store.register(record(), LONG)]
        for number, call in enumerate(calls, 1):
            begun = time.monotonic()
            with pytest.raises(redis.exceptions.TimeoutError):
                call()
            # Half a second, and what a busy machine adds; redis-py by itself would try ten times for five.
            assert time.monotonic() - begun < 15
            until(lambda number=number: found.connections == number, f"{number} calls, {number} connections")
        store.close()


def test_a_server_that_is_not_there_raises_at_once(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catga_sync._redis._TIMEOUT", 60.0)
    begun = time.monotonic()
    with pytest.raises(redis.exceptions.ConnectionError):
        RedisDiscovery(f"redis://127.0.0.1:{free_port}").nodes()
    assert time.monotonic() - begun < 30


OK = b"+OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        OK * 3,
        OK * 3 + b"*0\r\n",
        OK * 3 + b"$-1\r\n",
        OK * 3 + b":5\r\n",
        OK * 3 + b"*5\r\n$3\r\n1:1\r\n:1\r\n:1\r\n*2\r\n$1\r\na\r\n",
        OK * 3 + b"*5\r\n$3\r\n1:1\r\n:1\r\n:1\r\n*1\r\n$1\r\na\r\n*0\r\n",
        OK * 3 + b"*5\r\n$3\r\n1:1\r\n:1\r\n:1\r\n:9\r\n*0\r\n",
        OK * 3 + b"$99999999999\r\nabc",
        OK * 3 + b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    ],
)
def test_an_answer_that_is_none_raises_and_gives_nothing_away(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)

    caplog.set_level(logging.DEBUG)
    with peer(say) as found:
        store = RedisDiscovery(found.url)
        with pytest.raises(Exception) as caught:
            store.nodes()
        store.close()
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caplog.text + repr(store)


def test_a_connection_at_which_the_server_hangs_up_on_a_stranger_is_not_used_again() -> None:
    def say(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(OK * 3)
        heard = b""
        while b"EVALSHA" not in heard:
            heard += connection.recv(65536)
        connection.sendall(b"-ERR Protocol error: unauthenticated multibulk length\r\n")

    with peer(say) as found, contextlib.closing(RedisDiscovery(found.url)) as store:
        for number in (1, 2, 3):
            with pytest.raises(ConfigurationError, match="does not accept the user name or the password"):
                store.register(record(), LONG)
            assert found.connections == number

"""Claims on a real Redis server: the contract, and what happens when it is killed, hung, emptied, late or strict."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from catga_sync._clock import SystemClock
from catga_sync.errors import ConfigurationError
from tests import processes
from tests.contracts.idempotency import (
    DONE,
    LONG,
    LOST,
    MISMATCH,
    NEW,
    RUNNING,
    ForkContract,
    IdempotencyContract,
    Make,
    SharedContract,
    done,
    in_threads,
    patiently,
)
from tests.external.redis_server import RedisServer, ServersClock, be_patient, require_redis

redis = require_redis()

from catga_sync.idempotency import Claim, RedisIdempotency  # noqa: E402 - after the skip

pytestmark = [pytest.mark.redis, pytest.mark.process]

Opened = Callable[..., RedisIdempotency]

#: Seconds: it is to take half of one, but machines may be busy. redis-py by itself would try ten times for five.
BOUND = 15.0
#: The rights and the keys that docs/idempotency.md says are needed.
RIGHTS = "+eval +evalsha +time +info +get +set +del +exists +hget +hmget +hset +pexpire"
KEYS = "~catga:default:claim:* ~catga:default:store"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch)


@pytest.fixture
def real_waits(monkeypatch: pytest.MonkeyPatch) -> Callable[[RedisIdempotency], None]:
    """Have a store, and all that are opened later, wait for no longer than they do for users."""

    def real_waits(store: RedisIdempotency) -> None:
        monkeypatch.setattr("catga_sync._redis._TIMEOUT", 0.5)
        monkeypatch.setattr("catga_sync.idempotency.redis._CLAIM_WITHIN", 1.0)
        store.close()
        assert patiently(lambda: state(store, "a connection that waits so"))

    return real_waits


@pytest.fixture(scope="module")
def lasting() -> Iterator[RedisServer]:
    """A server that no test does any harm to."""
    with RedisServer() as found:
        yield found


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server for one test, to do with as it likes."""
    with RedisServer() as found:
        yield found


@pytest.fixture
def opened() -> Iterator[Opened]:
    with contextlib.ExitStack() as stack:
        yield lambda *values, **options: stack.enter_context(contextlib.closing(RedisIdempotency(*values, **options)))


@pytest.fixture
def store(server: RedisServer, opened: Opened) -> RedisIdempotency:
    return opened(server.url)


def run(store: RedisIdempotency, key: str, body: bytes | None = b"x") -> None:
    claim = store.claim(key, "f", LONG)
    assert claim.state is NEW
    assert store.complete(key, claim.token, body)


def state(store: RedisIdempotency, key: str) -> Any:
    return store.wait(key, 0.0).state


def every_call(store: RedisIdempotency) -> list[Callable[[], Any]]:
    return [
        lambda: store.claim("b", "f", LONG),
        lambda: store.complete("a", "token", b"x"),
        lambda: store.release("a", "token"),
        lambda: store.wait("a", LONG),
        store.identity,
    ]


def fails_soon(call: Callable[[], Any]) -> None:
    begun = time.monotonic()
    with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
        call()
    assert time.monotonic() - begun < BOUND


class _Redis:
    @pytest.fixture
    def prefix(self) -> str:
        return uuid.uuid4().hex

    @pytest.fixture
    def make(self, lasting: RedisServer, prefix: str, opened: Opened) -> Make:
        self.clock = ServersClock(lasting)
        return lambda **options: opened(lasting.url, prefix=prefix, **options)

    @pytest.fixture
    def elsewhere(self, lasting: RedisServer, prefix: str) -> Callable[..., str]:
        return lambda **options: f"RedisIdempotency({lasting.url!r}, prefix={prefix!r}, **{options})"


class TestRedis(_Redis, IdempotencyContract):
    pass


# In "make test" SQLite and memory keep what is promised to processes.
@pytest.mark.slow
class TestProcesses(_Redis, ForkContract, SharedContract):
    pass


def test_the_server_s_own_time_ends_leases_and_entries(
    store: RedisIdempotency, opened: Opened, server: RedisServer
) -> None:
    brief = opened(server.url, ttl=0.3)
    brief.claim("a", "f", 0.3)
    processes.until(lambda: state(store, "a") is LOST, "the lease is up")
    processes.until(lambda: state(store, "a") is NEW, "so is the time to live")


# -- gone and back --------------------------------------------------------------------------------------------------


def test_a_server_that_was_killed_fails_every_call_soon_and_works_when_it_is_back(
    server: RedisServer, store: RedisIdempotency
) -> None:
    run(store, "a")
    server.kill()
    for call in every_call(store):
        fails_soon(call)
    server.start()
    # What it does not remember runs again: the promise holds for as long as the store is intact.
    run(store, "a")
    assert state(store, "a") is DONE


def test_a_server_that_saves_remembers_when_it_is_back(opened: Opened) -> None:
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        store = opened(server.url)
        run(store, "a", b"before")
        store.claim("b", "f", LONG)
        server.kill()
        server.start()
        # It listens before it has read what it saved, and refuses everybody until then.
        processes.until(lambda: "Ready to accept connections" in server.process.output(), "it has read what it saved")
        assert store.claim("a", "f", LONG) == done(b"before")
        assert store.claim("b", "f", LONG) == Claim(RUNNING)


@pytest.mark.slow
def test_a_server_that_hangs_fails_every_call_soon_and_works_when_it_goes_on(
    server: RedisServer, store: RedisIdempotency, opened: Opened, real_waits: Callable[[RedisIdempotency], None]
) -> None:
    run(store, "a")
    real_waits(store)
    with server.paused():
        for each in (store, opened(server.url)):
            for call in every_call(each):
                fails_soon(call)
    assert patiently(lambda: state(store, "a")) is DONE
    assert patiently(lambda: store.claim(uuid.uuid4().hex, "f", LONG)).state is NEW


def test_many_threads_that_call_a_server_that_hangs_all_fail_soon(
    server: RedisServer, store: RedisIdempotency, real_waits: Callable[[RedisIdempotency], None]
) -> None:
    run(store, "a")
    real_waits(store)
    with server.paused():
        begun = time.monotonic()
        outcomes = in_threads(16, lambda number: store.claim(f"key-{number}", "f", LONG))
        assert time.monotonic() - begun < BOUND
    assert all("TimeoutError" in str(outcome) for outcome in outcomes)


def test_a_wait_fails_when_the_server_dies_meanwhile(server: RedisServer, store: RedisIdempotency) -> None:
    store.claim("a", "f", LONG)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 12:
            server.kill()

    store._sleep = sleep
    fails_soon(lambda: store.wait("a", 1000.0))
    assert looks == sorted(looks)
    assert looks[0] <= 0.01
    assert looks[-1] == 0.1


def test_an_emptied_server_has_forgotten_everything_and_takes_no_answer_for_it(
    server: RedisServer, store: RedisIdempotency
) -> None:
    claim = store.claim("a", "f", LONG)
    server.command("FLUSHALL")
    assert not store.complete("a", claim.token, b"x")
    assert state(store, "a") is NEW


def test_flushed_scripts_are_loaded_again_by_the_call_that_misses_them(
    server: RedisServer, store: RedisIdempotency
) -> None:
    for _ in range(2):
        for call in every_call(store):
            server.command("SCRIPT FLUSH")
            call()


def test_a_full_server_refuses_claims_and_goes_on_when_there_is_room(
    server: RedisServer, store: RedisIdempotency
) -> None:
    run(store, "a")
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(redis.exceptions.RedisError, match=r"OOM|maxmemory"):
        store.claim("b", "f", LONG)
    server.command("CONFIG", "SET", "maxmemory", "0")
    assert store.claim("b", "f", LONG).state is NEW
    assert state(store, "a") is DONE


# -- lost and late ----------------------------------------------------------------------------------------------------


class Line:
    """A client whose answers can get lost on their way."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.breaks: list[Exception] = []
        self.calls = 0

    def get_encoder(self) -> Any:
        return self._client.get_encoder()

    def eval(self, *words: Any) -> Any:
        return self._answer(self._client.eval(*words))

    def evalsha(self, *words: Any) -> Any:
        return self._answer(self._client.evalsha(*words))

    def _answer(self, found: Any) -> Any:
        self.calls += 1
        if self.breaks:
            raise self.breaks.pop()
        return found


@pytest.fixture
def line(server: RedisServer) -> Iterator[Line]:
    with contextlib.closing(server.client()) as client:
        yield Line(client)


def test_a_claim_whose_answer_was_lost_is_recognised_by_its_token(line: Line, opened: Opened) -> None:
    store = opened(client=line)
    run(store, "scripts are loaded")
    line.calls, line.breaks = 0, [redis.exceptions.ConnectionError("reset by peer")]
    claim = store.claim("a", "f", LONG)
    assert line.calls == 2
    assert claim.state is NEW
    assert store.claim("a", "f", LONG) == Claim(RUNNING)
    assert store.complete("a", claim.token, b"x")


def test_a_claim_of_somebody_else_is_not_taken_for_ones_own_when_an_answer_was_lost(
    line: Line, server: RedisServer, opened: Opened
) -> None:
    store, other = opened(client=line), opened(server.url)
    held = other.claim("a", "f", LONG)
    for expected in (Claim(RUNNING), done(b"x")):
        line.breaks = [redis.exceptions.ConnectionError("reset by peer")]
        assert store.claim("a", "f", LONG) == expected
        other.complete("a", held.token, b"x")


def test_nothing_is_repeated_more_than_once_and_a_hang_never(line: Line, opened: Opened) -> None:
    store = opened(client=line)
    run(store, "scripts are loaded")
    errors = redis.exceptions
    for breaks, calls in (([errors.ConnectionError] * 3, 2), ([errors.TimeoutError] * 3, 1)):
        line.calls, line.breaks = 0, [error("broken") for error in breaks]
        with pytest.raises(breaks[0]):
            store.claim(f"a-{calls}", "f", LONG)
        assert line.calls == calls
        # The claim was made, and nobody has its token: not given to anybody else.
        line.breaks = []
        assert store.claim(f"a-{calls}", "f", LONG) == Claim(RUNNING)
    for call in every_call(store)[1:]:
        line.calls, line.breaks = 0, [errors.ConnectionError("broken")]
        with pytest.raises(errors.ConnectionError):
            call()
        assert line.calls == 1


@pytest.mark.slow
def test_a_claim_that_was_given_up_is_not_made_by_a_server_that_wakes_up_later(
    server: RedisServer, store: RedisIdempotency, opened: Opened, real_waits: Callable[[RedisIdempotency], None]
) -> None:
    other = opened(server.url)
    for each in (store, other):
        run(each, f"the server's time is known to {id(each)}")
    real_waits(store)
    with server.paused():
        for key in ("a-0", "a-1", "a-2"):
            fails_soon(functools.partial(store.claim, key, "f", LONG))
        end = time.monotonic() + 1.3
        processes.until(lambda: time.monotonic() > end, "nobody waits for these any more")
    assert server.command("PING")
    assert [other.claim(f"a-{number}", "f", LONG).state for number in range(3)] == [NEW] * 3


@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
def test_a_server_whose_clock_was_set_is_asked_again(store: RedisIdempotency, hours: int) -> None:
    run(store, "the server's time is known")
    known = store._ahead
    assert known is not None
    store._ahead = known + hours * 3_600_000
    run(store, "a")
    assert store._ahead == pytest.approx(known, abs=60_000)


def test_a_claim_that_is_late_again_and_again_is_an_error(store: RedisIdempotency) -> None:
    run(store, "the server's time is known")

    class Backwards(SystemClock):
        def monotonic(self) -> float:
            return -next(times) * 1000.0

    times = iter(range(100))
    store._clock = Backwards()
    with pytest.raises(redis.exceptions.TimeoutError, match="too late"):
        store.claim("a", "f", LONG)
    store._clock = SystemClock()
    assert state(store, "a") is NEW


# -- what is kept, and for how long ---------------------------------------------------------------------------------


def test_a_claim_is_one_round_trip_and_so_is_its_answer(server: RedisServer, store: RedisIdempotency) -> None:
    run(store, "scripts are loaded")
    with server.watched() as counts:
        run(store, "a", b"x")
    assert counts["evalsha"] == 2
    assert not {"eval", "script", "keys", "scan"} & counts.keys()


def test_an_entry_outlives_its_lease_by_ttl_and_then_goes_by_itself(server: RedisServer, opened: Opened) -> None:
    store = opened(server.url, ttl=1000.0, prefix="shop", cluster_name="east")
    claim = store.claim("a", "f", 50.0)
    key = "shop:east:claim:a"
    assert server.command("KEYS", "*") == [key.encode()]

    def left() -> float:
        return float(server.command("PTTL", key)) / 1000

    assert 1040.0 < left() <= 1050.0
    assert store.complete("a", claim.token, b"x")
    assert 990.0 < left() <= 1000.0
    with contextlib.closing(server.client()) as client:
        assert client.hget(key, "body") == b"x"


def test_clusters_and_prefixes_do_not_see_each_other(server: RedisServer, opened: Opened) -> None:
    stores = [opened(server.url, **names) for names in ({}, {"prefix": "x"}, {"cluster_name": "x"})]
    stores.append(opened(f"{server.url}/1"))
    assert [store.claim("a", "f", LONG).state for store in stores] == [NEW] * 4


# -- connections ------------------------------------------------------------------------------------------------------


def test_nothing_is_opened_before_the_first_call_and_nothing_is_left_after_close(
    server: RedisServer, opened: Opened
) -> None:
    def connections() -> int:
        return int(server.command("INFO", "clients")["connected_clients"])

    def becomes(count: int) -> None:
        """Those that were closed a moment ago count until the server has noticed."""
        processes.until(lambda: connections() == count, f"{count} connections")

    becomes(1)
    store = opened(server.url)
    becomes(1)
    run(store, "a")
    becomes(2)
    store.close()
    becomes(1)


def test_a_childs_end_does_not_touch_the_parents_connection(server: RedisServer) -> None:
    script = (
        "import ctypes, os, sys\n"
        "from catga_sync import _redis\n"
        "from catga_sync.idempotency import RedisIdempotency, redis\n"
        "_redis._TIMEOUT = redis._CLAIM_WITHIN = 20.0\n"
        "store = RedisIdempotency(sys.argv[1])\n"
        "token = store.claim('a', 'f', 60.0).token\n"
        "mine = lambda: store._server.connected().client_id()\n"
        "before = mine()\n"
        "for fork in (os.fork, ctypes.PyDLL(None).fork):\n"
        "    pid = fork()\n"
        "    if pid == 0:\n"
        "        found = store.claim('a', 'f', 60.0).state.name\n"
        "        sys.exit(0 if found == 'RUNNING' and mine() != before else 1)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0\n"
        "    assert mine() == before\n"
        "assert store.complete('a', token, b'x')\n"
        "store.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, server.url], check=True, timeout=LONG)


def test_a_client_of_ones_own_is_used_and_not_closed(server: RedisServer, opened: Opened) -> None:
    with contextlib.closing(server.client(socket_timeout=20.0)) as client:
        store = opened(client=client)
        run(store, "a")
        store.close()
        assert client.ping()
        assert state(store, "a") is DONE


def test_the_rights_in_the_documentation_are_enough_and_none_is_too_many(server: RedisServer, opened: Opened) -> None:
    server.command("ACL", "SETUSER", "node", "reset", "on", ">p@ss", *KEYS.split(), *RIGHTS.split())
    url = f"redis://node:p%40ss@127.0.0.1:{server.port}"

    def all_of_it(store: RedisIdempotency) -> None:
        claim = store.claim(uuid.uuid4().hex, "f", LONG)
        assert claim.state is NEW
        key = uuid.uuid4().hex
        token = store.claim(key, "f", LONG).token
        assert state(store, key) is RUNNING
        assert store.claim(key, "g", LONG).state is MISMATCH
        assert store.complete(key, token, b"x")
        assert store.claim(key, "f", LONG) == done(b"x")
        store.release(key, token)
        dropped = store.claim(key + "2", "f", 0.001)
        store.release(key + "2", dropped.token)
        assert state(store, key + "2") is NEW
        server.command("DEL", "catga:default:store")
        assert store.identity()

    all_of_it(opened(url))
    for right in RIGHTS.split():
        server.command("ACL", "SETUSER", "node", f"-{right[1:]}")
        server.command("SCRIPT FLUSH")
        with pytest.raises(redis.exceptions.RedisError):
            all_of_it(opened(url))
        server.command("ACL", "SETUSER", "node", right)
    all_of_it(opened(f"redis://ignored:wrong@127.0.0.1:{server.port}", username="node", password="p@ss"))
    with pytest.raises(redis.exceptions.RedisError):
        opened(url, prefix="other").claim("a", "f", LONG)


def test_a_lost_claim_on_the_servers_clock_stays_lost_for_somebody_with_another_clock(
    server: RedisServer, store: RedisIdempotency, opened: Opened
) -> None:
    class Ahead:
        def monotonic(self) -> float:
            return time.monotonic() + 1e6

        def time(self) -> float:
            return time.time() + 1e6

    other = opened(server.url, clock=Ahead())
    store.claim("long", "f", LONG)
    store.claim("short", "f", 0.01)
    processes.until(lambda: state(other, "short") is LOST, "the lease is up")
    assert state(other, "long") is RUNNING
    assert other.claim("short", "f", LONG) == Claim(LOST)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "host:6379",
        "",
        "redis://user:se#cret@host",
        "redis://user:se/cret@host",
        "redis://user:secret@host:port",
        "redis://user:secret@host/x",
        "redis://host?password=secret",
        "redis://host?socket_timeout=60&secret=1",
        "redis://host?decode_responses=yes",
        "redis://host?ssl_ca_certs=secret.pem",
        "rediss://host?ssl_cert_reqs=none",
    ],
)
def test_a_wrong_url_is_an_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^idempotency: ") as caught:
        RedisIdempotency(url)
    assert "cret" not in "".join(traceback.format_exception_only(caught.value))


def test_a_url_or_a_client_is_given_and_never_both() -> None:
    client = redis.Redis()
    for values in ({}, {"url": "redis://host", "client": client}, {"client": client, "password": "x"}):
        with pytest.raises(ConfigurationError, match=r"^idempotency: give RedisIdempotency a URL, or a client"):
            RedisIdempotency(**values)
    with pytest.raises(ConfigurationError, match="decode_responses=False"):
        RedisIdempotency(client=redis.Redis(decode_responses=True))


@pytest.mark.parametrize("option", ["prefix", "cluster_name"])
@pytest.mark.parametrize("wrong", ["", "a b", "x" * 65, "{x}", None, 7])
def test_a_wrong_name_is_an_error_that_starts_with_the_options(option: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{option}: give 1 to 64 characters"):
        RedisIdempotency("redis://host", **{option: wrong})


def test_tls_checks_the_certificate_and_its_name() -> None:
    store = RedisIdempotency("rediss://user@host:7000/3?ssl_ca_certs=a.pem", ssl_certfile=os.fspath("b.pem"))
    settings = dict(store._server.settings)
    assert settings.pop("credential_provider").get_credentials() == ("user", "")
    assert settings == {
        "host": "host",
        "port": 7000,
        "db": 3,
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": "a.pem",
        "ssl_certfile": "b.pem",
    }


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install catga-sync\[redis\]"):
        RedisIdempotency("redis://host")

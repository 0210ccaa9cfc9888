"""Streams between real processes: which servers lend their connections, how they end, and what is told then."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catga_sync import CatgaResult, ClusterMediator, Delivery, ErrorCode, Mediator, create_cluster
from catga_sync.cluster.local_node import WITHOUT_A_LIMIT
from catga_sync.hooks import AttemptDetails
from catga_sync.nodes import STREAM
from tests.conftest import require_module
from tests.external.proxies import proxy, require_proxies
from tests.faults.tap import tapped
from tests.process.messages import Answer, Ask, Crowd, Do, Fail, Hold, Out, Tell
from tests.process.nodes import ROOT, node, wait_for
from tests.processes import Process, free_port, running, until

require_module("gunicorn")
psutil = require_module("psutil")

pytestmark = pytest.mark.process

HOOKS = ("-c", "python:catga_sync.integrations.gunicorn")
SECRET = "the key of the tests of streams, which has 32 bytes or more"


class Ways:
    """A hook that notes by which way each attempt went."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_attempt(self, details: AttemptDetails) -> None:
        self.seen.append(details.way)


@contextlib.contextmanager
def caller(
    server: Process, cluster_name: str, endpoint: str | None = None, **options: object
) -> Iterator[tuple[ClusterMediator, Ways]]:
    """A caller of one node, once it has described itself; None means the endpoint of the node itself."""
    ways = Ways()
    with create_cluster(
        Mediator(),
        node_id="caller",
        cluster_name=cluster_name,
        discovery="static",
        peers={"n1": server.url if endpoint is None else endpoint},
        hooks=[ways],
        environ={},
        **options,  # type: ignore[arg-type]
    ) as mediator:
        until(lambda: any("batch" in each.features for each in mediator.nodes()), "the node describes itself")
        yield mediator, ways


# Each way, without a secret and with one; the other combinations in "make soak".
@pytest.mark.parametrize(
    ("options", "env", "way"),
    [
        pytest.param({}, {}, "blueprint", id="shared key-blueprint"),
        pytest.param({}, {}, "middleware", id="shared key-middleware", marks=pytest.mark.slow),
        pytest.param(
            {"secret": SECRET}, {"SECRET": SECRET}, "blueprint", id="secret-blueprint", marks=pytest.mark.slow
        ),
        pytest.param(
            {"secret": SECRET}, {"SECRET": SECRET}, "middleware", id="secret-middleware", marks=pytest.mark.slow
        ),
        pytest.param(
            {"insecure": True}, {"INSECURE": "1"}, "blueprint", id="insecure-blueprint", marks=pytest.mark.slow
        ),
        pytest.param(
            {"insecure": True}, {"INSECURE": "1"}, "middleware", id="insecure-middleware", marks=pytest.mark.slow
        ),
    ],
)
def test_calls_between_two_of_our_nodes_go_over_a_stream_and_say_what_post_says(
    cluster_name: str, options: dict[str, object], env: dict[str, str], way: str
) -> None:
    with node("n1", cluster_name, WAY=way, **env) as server:
        with caller(server, cluster_name, **options) as (mediator, ways):
            results = [mediator.send(Do("x")), *(mediator.send(Fail(how)) for how in ("return", "raise", "crash"))]
            assert mediator.send(Do("y" * 100_000)).unwrap().text == "y" * 100_000
            assert mediator.send(Tell(), context={"tenant": "Jörg, 7"}).unwrap() == {"tenant": "Jörg, 7"}
            assert mediator.send(Tell()).unwrap() == {}
            assert ways.seen == ["stream"] * 7
        with caller(server, cluster_name, stream="off", **options) as (mediator, ways):
            assert results == [
                mediator.send(Do("x")),
                *(mediator.send(Fail(how)) for how in ("return", "raise", "crash")),
            ]
            assert ways.seen == ["post"] * 4
        # gunicorn has taken the connection for that of a caller that has gone, and has nothing to say about it.
        assert [each for each in ("[ERROR]", "Socket error", "StopIteration") if each in server.output()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-w", "2"),
        ("-w", "2", "--preload"),
        ("-w", "4", *HOOKS),
    ],
)
def test_many_callers_get_their_own_responses_from_many_workers(cluster_name: str, options: tuple[str, ...]) -> None:
    with node("n1", cluster_name, *options) as server, caller(server, cluster_name) as (mediator, ways):

        def run(thread: int) -> list[CatgaResult[object]]:
            return [
                result
                for n in range(25)
                if not (result := mediator.send(Do(f"{thread}-{n}"))) or result.unwrap().text != f"{thread}-{n}"
            ]

        with ThreadPoolExecutor(16) as pool:
            wrong = [result for found in pool.map(run, range(16)) for result in found]
        assert wrong == []
        assert ways.seen.count("stream") > 300


# In "make test", test_servers.py looks at such a server.
@pytest.mark.slow
@pytest.mark.parametrize(
    "server_command",
    [
        ["gunicorn", "-k", "sync", "-b"],
        ["waitress", "--listen"],
        ["flask"],
    ],
    ids=["gunicorn sync", "waitress", "Werkzeug"],
)
def test_a_server_that_lends_nothing_is_called_by_post(cluster_name: str, server_command: list[str]) -> None:
    port = free_port()
    app = "tests.process.app:app"
    command = [sys.executable, "-m", *server_command, f"127.0.0.1:{port}", app]
    if server_command == ["flask"]:
        command = [sys.executable, "-m", "flask", "--app", "tests.process.app", "run", "-p", str(port)]
    elif server_command[0] == "waitress":
        require_module("waitress")
    env = {"NODE": "n1", "PORT": str(port), "CLUSTER": cluster_name}
    with running(command, port=port, cwd=ROOT, env=env) as server, caller(server, cluster_name) as (mediator, ways):
        assert STREAM not in mediator.nodes()[0].features
        assert all(mediator.send(Do("x")) for _ in range(3))
        assert ways.seen == ["post"] * 3


def test_a_proxy_that_passes_on_no_upgrade_is_gone_through_by_post(cluster_name: str, tmp_path: Path) -> None:
    require_proxies()
    with (
        node("n1", cluster_name, SECRET=SECRET) as server,
        proxy("nginx", server, tmp_path) as front,
        caller(server, cluster_name, front.url, secret=SECRET) as (mediator, ways),
    ):
        assert STREAM in mediator.nodes()[0].features
        assert all(mediator.send(Do("x")) for _ in range(3))
        # The upgrade was tried once, and costs no call.
        assert ways.seen == ["stream", "post", "post"]
        assert "426" in str(mediator.explain(Do("x")))


def _hold(
    mediator: ClusterMediator, folder: Path, seconds: float
) -> tuple[threading.Thread, list[CatgaResult[object]]]:
    """Start a call that runs for so many seconds, and wait until it does."""
    results: list[CatgaResult[object]] = []
    started = folder / "started"
    thread = threading.Thread(target=lambda: results.append(mediator.send(Hold(str(started), seconds))))
    thread.start()
    until(started.exists, "the handler runs")
    return thread, results


@pytest.mark.slow
@pytest.mark.parametrize("hooks", [(), HOOKS], ids=["bare", "hooks"])
def test_sigterm_ends_what_runs_and_takes_no_more(cluster_name: str, hooks: tuple[str, ...], tmp_path: Path) -> None:
    with node("n1", cluster_name, *hooks) as server, caller(server, cluster_name) as (mediator, ways):
        assert mediator.send(Do("x"))
        thread, results = _hold(mediator, tmp_path, 3.0)
        assert mediator.send(Do("y"))  # over another stream, which waits now
        server.signal(signal.SIGTERM)
        refused = until(lambda: None if (result := mediator.send(Do("z"))) else result, "it takes no more")
        assert refused.delivery is Delivery.NOT_EXECUTED
        thread.join(60)
        assert [result.is_success for result in results] == [True]
        assert server.popen.wait(60) == 0
        assert ways.seen[:3] == ["stream"] * 3


def test_a_worker_that_is_killed_leaves_the_call_unknown_and_the_next_one_works(
    cluster_name: str, tmp_path: Path
) -> None:
    with node("n1", cluster_name) as server, caller(server, cluster_name) as (mediator, ways):
        thread, results = _hold(mediator, tmp_path, 60.0)
        (worker,) = psutil.Process(server.pid).children()
        worker.kill()
        thread.join(60)
        assert [(each.delivery, each.code) for each in results] == [(Delivery.UNKNOWN, ErrorCode.UNAVAILABLE)]
        until(lambda: mediator.send(Ask("x")).is_success, "the next worker serves")
        assert ways.seen[0] == "stream"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_workers_that_are_recycled_lose_no_call(cluster_name: str, workers: str) -> None:
    recycled = ("-w", workers, "--max-requests", "40", *HOOKS)
    with node("n1", cluster_name, *recycled) as server, caller(server, cluster_name) as (mediator, ways):
        results: list[CatgaResult[Answer]] = []

        def many() -> bool:
            with ThreadPoolExecutor(4) as pool:
                results.extend(pool.map(lambda n: mediator.send(Do(str(n))), range(100)))
            return len({each.unwrap().pid for each in results if each}) > 3

        until(many, "several workers have served", 60)
        # No call is lost; one that comes as its worker ends may be refused, and says so.
        assert [each for each in results if not each and each.delivery is not Delivery.NOT_EXECUTED] == []
        # A worker that ends opens no stream, so some calls go by POST; then streams are used again.
        assert ways.seen[0] == "stream"
        until(lambda: mediator.send(Do("x")) and ways.seen[-1] == "stream", "streams are used again")


@pytest.mark.slow
def test_a_call_that_runs_for_long_survives_that_its_worker_is_recycled(cluster_name: str, tmp_path: Path) -> None:
    recycled = ("--timeout", "2", "--max-requests", "10", *HOOKS)
    with node("n1", cluster_name, *recycled) as server, caller(server, cluster_name) as (mediator, ways):
        # For longer than gunicorn lets a worker be silent.
        thread, results = _hold(mediator, tmp_path, 6.0)
        before = psutil.Process(server.pid).children()
        until(lambda: mediator.send(Do("x")) and "Autorestarting" in server.output(), "the worker is to be replaced")
        until(lambda: not set(before) & set(psutil.Process(server.pid).children()), "another worker serves", 60)
        thread.join(60)
        assert [(each.is_success, each.error) for each in results] == [(True, None)]
        assert set(ways.seen) == {"stream"}
        assert "WORKER TIMEOUT" not in server.output()


@pytest.mark.slow
def test_a_reload_loses_no_call(cluster_name: str) -> None:
    with node("n1", cluster_name, "-w", "2", *HOOKS) as server, caller(server, cluster_name) as (mediator, _):
        over = threading.Event()
        results: list[CatgaResult[object]] = []

        def run() -> None:
            while not over.is_set():
                results.append(mediator.send(Do("x")))

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            before = {each.pid for each in psutil.Process(server.pid).children()}
            until(lambda: len(results) > 50, "calls")
            server.signal(signal.SIGHUP)
            until(lambda: not before & {each.pid for each in psutil.Process(server.pid).children()}, "new workers")
            enough = len(results) + 50
            until(lambda: len(results) > enough, "calls of the new workers")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert [each for each in results if not each] == []


@pytest.mark.parametrize(
    ("options", "env", "status"),
    [
        pytest.param({"secret": SECRET}, {"SECRET": SECRET}, b"401", id="secret"),
        pytest.param({}, {}, b"101", id="shared key", marks=pytest.mark.slow),
    ],
)
def test_a_stream_that_was_recorded_runs_nothing_again(
    cluster_name: str, options: dict[str, object], env: dict[str, str], status: bytes
) -> None:
    with node("n1", cluster_name, **env) as server, tapped(server.port) as tap:
        with caller(server, cluster_name, tap.endpoint, **options) as (mediator, ways):
            assert mediator.send(Do("once"))
            assert ways.seen == ["stream"]
        (stream,) = [bytes(each) for each in tap.streams if each.startswith(b"GET /catga/cluster/stream")]
        upgrade, _, frames = stream.partition(b"\r\n\r\n")
        assert frames
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as replayed:
            replayed.sendall(upgrade + b"\r\n\r\n")
            head = replayed.recv(65536)
            assert head.split()[1] == status
            if status == b"101":
                # The node has chosen another nonce, so the keys are others: it goes, and has taken nothing.
                replayed.sendall(frames)
                going = replayed.recv(65536)
                assert (going[4], int.from_bytes(going[5:9], "big")) == (3, 0)
        with caller(server, cluster_name, **options) as (mediator, _):
            assert mediator.send(Do("after"))


@pytest.mark.slow
def test_there_are_only_so_many_streams_and_the_rest_is_sent_by_post(cluster_name: str, tmp_path: Path) -> None:
    with node("n1", cluster_name, CATGA_MAX_STREAMS="1") as server, caller(server, cluster_name) as (mediator, ways):
        thread, results = _hold(mediator, tmp_path, 2.0)
        assert mediator.send(Do("x"))
        assert mediator.send(Do("y"))
        assert "503" in str(mediator.explain(Do("z")))
        thread.join(60)
        assert results[0]
        assert ways.seen[-1] == "post"


@pytest.mark.slow
def test_without_hooks_no_more_calls_of_streams_run_at_once_than_the_bound_and_the_rest_waits(
    cluster_name: str,
) -> None:
    with node("n1", cluster_name) as server, caller(server, cluster_name) as (mediator, ways):
        with ThreadPoolExecutor(64) as pool:
            results = list(pool.map(lambda _: mediator.send(Crowd(), timeout=30), range(64)))
        assert [result for result in results if not result] == []
        assert ways.seen.count("stream") > 0
        # On a busy machine some streams are not opened in time: those calls have gunicorn's eight threads.
        assert max(int(result.unwrap().text) for result in results) <= WITHOUT_A_LIMIT + 8


@pytest.mark.slow
def test_without_hooks_as_many_calls_as_the_bound_may_come_back_to_the_node_whose_calls_wait_for_them(
    cluster_name: str, tmp_path: Path
) -> None:
    discovery = f"sqlite:///{tmp_path / 'nodes.sqlite3'}"

    # Where a stream is not opened in time there are threads enough for POST.
    def returning(role: str) -> contextlib.AbstractContextManager[Process]:
        options = ("--threads", "128")
        return node(role, cluster_name, *options, app="tests.process.returning:app", ROLE=role, DISCOVERY=discovery)

    with (
        returning("near"),
        returning("far"),
        create_cluster(
            Mediator(), node_id="caller", cluster_name=cluster_name, discovery=discovery, environ={}
        ) as mediator,
    ):
        wait_for(mediator, "near", "far")
        until(lambda: all(STREAM in each.features for each in mediator.nodes()), "both offer streams")
        with ThreadPoolExecutor(WITHOUT_A_LIMIT) as pool:
            results = list(pool.map(lambda _: mediator.send(Out(), timeout=60), range(WITHOUT_A_LIMIT)))
    # Nothing was tried once more, so none has waited until it was refused.
    assert [result for result in results if not result or len(result.attempts) != 1] == []


def test_a_handler_that_forks_leaves_the_stream_alone(cluster_name: str) -> None:
    with node("n1", cluster_name) as server, caller(server, cluster_name) as (mediator, ways):
        for _ in range(3):
            assert mediator.send(Do("fork"))
        assert set(ways.seen) == {"stream"}


@pytest.mark.slow
def test_explain_says_how_a_call_would_travel(client: ClusterMediator, cluster_name: str) -> None:
    with node("n1", cluster_name):
        wait_for(client, "n1")
        assert "over a stream" in str(client.explain(Do("x")))

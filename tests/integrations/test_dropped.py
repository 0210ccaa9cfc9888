"""An app that is dropped takes its mediator along: thread, files, locks, sockets and its place in the cluster."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from catga_sync import ClusterMediator, Mediator, Query, create_cluster
from catga_sync._runtime_dir import meeting_folder
from catga_sync.cluster.worker_group import any_process_of, group_key
from catga_sync.integrations.flask import CatgaCluster, cluster_blueprint
from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.processes import until

ENDPOINT = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Ask(Query[str]):
    """Asks anything."""

    text: str


def an_app(folder: Path, number: int = 0, **options: Any) -> Flask:
    """Make an app as a factory does: its handlers and its views know the mediator, which knows them."""
    local = Mediator()
    app = Flask(__name__)
    mediator = CatgaCluster(
        local,
        node_id=f"app-{number}",
        endpoint=ENDPOINT,
        discovery=f"sqlite:///{folder}/nodes.sqlite3",
        **options,
    ).init_app(app)

    @local.handler
    def ask(request: Ask) -> str:
        return f"{request.text} {len(mediator.nodes())}"

    @app.get("/")
    def index() -> str:
        return str(mediator.send(Ask("x")).value)

    return app


def a_blueprint(folder: Path) -> Flask:
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(create_cluster(Mediator(), node_id="a", endpoint=ENDPOINT)))
    return app


def a_middleware(folder: Path) -> ClusterMiddleware:
    return ClusterMiddleware(Flask(__name__), create_cluster(Mediator(), node_id="a", endpoint=ENDPOINT))


def an_app_in_memory(folder: Path) -> Flask:
    app = Flask(__name__)
    CatgaCluster(node_id="a", endpoint=ENDPOINT, discovery="memory://dropped").init_app(app)
    return app


def an_app_with_stores(folder: Path) -> Flask:
    return an_app(folder, secret="s" * 32, idempotency=f"sqlite:///{folder}/claims.sqlite3")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CATGA_RUNTIME_DIR", str(tmp_path / "run"))
    yield
    gc.collect()


def our_threads() -> list[str]:
    """Return the names of the mediators' threads, without those of the apps that other test modules import."""
    names = {f"catga-cluster-{name}" for name in ("a", "script", *(f"app-{number}" for number in range(50)))}
    return [each.name for each in threading.enumerate() if each.name in names]


def descriptors() -> list[str]:
    """Return what is open in this process."""
    found = []
    for each in Path("/dev/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(each.readlink()))
    # Less what lists them, and the anonymous ones: no code of ours makes any, and gRPC of other tests does at any time.
    return [each for each in found if not each.startswith(("/proc/", "anon_inode:"))]


def dropped() -> bool:
    gc.collect()
    return not our_threads()


@pytest.mark.parametrize(
    "make",
    [
        an_app,
        a_blueprint,
        a_middleware,
        pytest.param(an_app_in_memory, marks=pytest.mark.slow),
        pytest.param(an_app_with_stores, marks=pytest.mark.slow),
    ],
)
def test_what_serves_a_mediator_ends_its_thread_when_it_is_dropped(make: Callable[[Path], Any], tmp_path: Path) -> None:
    made = make(tmp_path)
    assert len(our_threads()) == 1
    gone = weakref.ref(made)
    del made
    until(dropped, "the thread ends with its mediator")
    assert gone() is None


@pytest.mark.slow
def test_50_apps_leave_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    def use(number: int) -> None:
        app = an_app(tmp_path, number, secret="s" * 32)
        assert app.test_client().get("/").text == "x 0"

    use(0)
    until(dropped, "the first is gone")
    before = descriptors()
    for number in range(50):
        use(number)
    until(dropped, "all threads end", 60.0)
    with contextlib.suppress(AssertionError):
        until(lambda: len(descriptors()) <= len(before), "no descriptor is left")
    now = descriptors()
    assert len(now) <= len(before), Counter(now) - Counter(before)


def test_a_thread_does_not_wait_for_its_next_step_to_notice(tmp_path: Path) -> None:
    app = an_app(tmp_path, heartbeat_interval=3600.0, heartbeat_timeout=7200.0)
    (thread,) = [each for each in threading.enumerate() if each.name == "catga-cluster-app-0"]
    del app
    until(dropped, "it ends")
    thread.join(20)
    assert not thread.is_alive()


def test_a_node_that_is_dropped_leaves_the_cluster(tmp_path: Path) -> None:
    from werkzeug.serving import make_server

    app = Flask(__name__)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    endpoint = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever)
    mediator = create_cluster(Mediator(), node_id="a", endpoint=endpoint)
    app.register_blueprint(cluster_blueprint(mediator))
    thread.start()
    with create_cluster(Mediator(), node_id="client") as client:
        until(lambda: [each.node_id for each in client.nodes()] == ["a"], "the node is visible")
        key = group_key("default", "a", endpoint)
        assert any_process_of(meeting_folder(), key) is True
        server.shutdown()
        thread.join(10)
        server.server_close()
        del mediator, app, server, thread
        until(lambda: gc.collect() is not None and not client.nodes(), "its record is gone")
        assert any_process_of(meeting_folder(), key) is False


def test_a_mediator_of_no_app_that_was_started_and_not_closed_is_told_of() -> None:
    def start_and_drop() -> None:
        mediator = create_cluster(Mediator(), node_id="script", discovery="memory://script")
        assert mediator.nodes() == ()
        del mediator
        gc.collect()

    # The warning has its source, so the mediator goes with what pytest keeps of it.
    with pytest.warns(ResourceWarning, match="^cluster mediator 'script' was not closed: call close()"):
        start_and_drop()
    until(dropped, "the thread ends all the same")


def closed(mediator: ClusterMediator) -> None:
    assert mediator.nodes() == ()
    mediator.close()


@pytest.mark.parametrize("use", [lambda mediator: None, pytest.param(closed, marks=pytest.mark.slow)])
def test_a_mediator_that_runs_nothing_goes_without_a_word(use: Callable[[ClusterMediator], object]) -> None:
    mediator = create_cluster(Mediator(), node_id="script", discovery="memory://script")
    use(mediator)
    gone = weakref.ref(mediator)
    del mediator
    gc.collect()
    assert gone() is None

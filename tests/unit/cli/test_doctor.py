"""``catga-sync doctor``: each fault of a real node is found, and what to do about it is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import time
from typing import Any

import pytest
from flask import Flask

from catga_sync.cli.main import main
from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.discovery import MemoryDiscovery, create_discovery
from catga_sync.integrations.flask import CatgaCluster, cluster_blueprint
from catga_sync.integrations.wsgi import ClusterMiddleware
from catga_sync.mediator import Mediator
from catga_sync.nodes import ClusterNode, NodeRecord
from tests.conftest import require_module
from tests.processes import free_port, running, until
from tests.unit.cluster.real import Foreign, Quiet, served

ROOT = Path(__file__).parents[3]
SECRET = "s" * 32


class Place:
    """A cluster ``ops`` with a store of its own, its nodes, and the doctor of its node ``a``."""

    def __init__(self, folder: Path, stack: ExitStack, environ: pytest.MonkeyPatch, capture: Any) -> None:
        self.enter = stack.enter_context
        self._environ = environ
        self._capture = capture
        self.environment: dict[str, str] = {}
        self.file = folder / "nodes.sqlite3"
        self.options: dict[str, Any] = {"discovery": f"sqlite:///{self.file}", "cluster_name": "ops", "environ": {}}
        self.store = create_discovery(self.options["discovery"], cluster_name="ops")
        self.configure(discovery=self.options["discovery"], cluster_name="ops", node_id="a", secret=SECRET)

    def configure(self, **options: str) -> None:
        """Set options of the node that the doctor looks at."""
        given = {f"CATGA_{name.upper()}": value for name, value in options.items()}
        self.environment.update(given)
        for name, value in given.items():
            self._environ.setenv(name, value)

    def serve(
        self, node_id: str, server: type[Quiet] = Quiet, *, listed: bool = True, **options: Any
    ) -> ClusterMediator:
        """Serve a node; ``listed`` says whether it is to be in the store."""
        url = f"http://127.0.0.1:{free_port()}"
        given = {"secret": SECRET, "endpoint": url, **self.options, **options}
        node = create_cluster(Mediator(), node_id=node_id, **given)
        self.enter(served(ClusterMiddleware(Foreign(), node), int(url.rpartition(":")[2]), server))
        self.enter(node)
        if node_id == "a":
            self.configure(endpoint=given["endpoint"])
        # It may have looked at its endpoint before the server was there.
        until(lambda: "nothing listens" not in str(node.trouble), f"{node_id} has found its own endpoint")
        if listed:
            until(lambda: node_id in [each.node.node_id for each in self.store.nodes()], f"{node_id} is there")
        return node

    def doctor(self, *arguments: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
        """Return the exit code, and of each subject what was found."""
        code = main(["doctor", "--json", *arguments])
        found: dict[str, list[tuple[str, str]]] = {}
        for each in json.loads(self._capture.readouterr().out)["findings"]:
            found.setdefault(each["subject"], []).append((each["level"], each["text"]))
        return code, found

    def finds(self, level: str, subject: str, *texts: str) -> None:
        """Check that the doctor finds this of the subject, and that the exit code is that of the whole."""
        code, found = self.doctor()
        levels = {each for findings in found.values() for each, _ in findings}
        assert code == (1 if "fail" in levels else 0)
        assert [
            text for each, text in found.get(subject, []) if each == level and all(part in text for part in texts)
        ], found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack, monkeypatch, capsys)


def test_where_all_is_well_each_line_says_so(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.serve("a")
    place.serve("b")
    code, found = place.doctor()
    assert (code, {level for each in found.values() for level, _ in each}) == (0, {"ok"}), found
    assert list(found) == ["options", "secret", "store", "endpoint", "visible", "node b"]
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("ok    options   node a of cluster ops; at http://127.0.0.1:")
    assert SECRET not in "".join(lines)


def test_a_wrong_option_is_found(place: Place) -> None:
    place.configure(endpoint="localhost")
    place.finds("fail", "options", "CATGA_ENDPOINT: give http://host:port")


def test_a_store_that_is_none_is_found(place: Place) -> None:
    place.configure(discovery="shared://")
    place.finds("fail", "options", "discovery: 'shared://' is none of")


def test_a_store_that_cannot_be_read_is_found(place: Place) -> None:
    place.file.write_text("shopping list " * 100)
    place.finds("fail", "store", "cannot be read: file is not a database")


@pytest.mark.parametrize("discovery", ["memory://", "memory://shop"])
def test_a_store_that_nobody_shares_is_found_once(place: Place, discovery: str) -> None:
    place.serve("a", discovery=discovery, listed=False)
    place.configure(discovery=discovery)
    code, found = place.doctor()
    assert (code, found["store"][0][0]) == (0, "warn"), found
    assert "give a store that nodes share" in found["store"][0][1]
    assert "visible" not in found  # nobody can look into it from here


def test_a_store_object_that_nobody_shares_is_found(place: Place) -> None:
    _, found = place.doctor("tests.unit.cli.test_doctor:alone")
    assert [level for level, _ in found["store"]] == ["warn"], found
    assert "give a store that nodes share" in found["store"][0][1]


def test_an_endpoint_at_which_nothing_listens_is_found(place: Place) -> None:
    place.configure(endpoint=f"http://127.0.0.1:{free_port()}")
    place.finds("fail", "endpoint", "nothing listens there", "give the endpoint at which this app is served")
    place.finds("fail", "visible", "is not in the store")


def test_an_endpoint_of_another_node_is_found(place: Place) -> None:
    other = place.serve("b")
    place.configure(endpoint=other.node.endpoint or "")
    place.finds("fail", "endpoint", "give this one")


def test_a_host_that_the_app_does_not_allow_is_found(place: Place) -> None:
    app = Flask("shop")
    app.config["TRUSTED_HOSTS"] = ["shop.example"]
    url = f"http://127.0.0.1:{free_port()}"
    place.configure(endpoint=url)
    mediator = place.enter(create_cluster(Mediator()))
    app.register_blueprint(cluster_blueprint(mediator))
    place.enter(served(app, int(url.rpartition(":")[2])))
    place.finds("fail", "endpoint", "HTTP status 400", "TRUSTED_HOSTS, ALLOWED_HOSTS")


def test_another_node_of_the_same_id_is_found(place: Place) -> None:
    place.serve("a")
    place.configure(endpoint=f"http://127.0.0.1:{free_port()}")
    place.finds("fail", "visible", "give each node a node_id of its own")


@pytest.mark.slow
def test_a_node_that_goes_offline_is_found(place: Place) -> None:
    node = place.serve("a")
    assert node.drain()
    place.finds("warn", "visible", "restart it")


def test_a_node_that_cannot_write_its_heartbeat_is_found_by_its_own_word(place: Place, tmp_path: Path) -> None:
    broken = tmp_path / "broken.sqlite3"
    broken.write_text("shopping list " * 100)
    node = place.serve("a", listed=False, discovery=f"sqlite:///{broken}")
    until(lambda: "not a database" in str(node.trouble), "it has noticed")
    place.finds("fail", "endpoint", "is not visible to other nodes", "file is not a database")


def test_an_endpoint_of_this_machine_alone_is_found_where_other_nodes_are_elsewhere(place: Place) -> None:
    place.serve("a")
    away = ClusterNode("away", "http://192.0.2.1:80", handles=frozenset(), incarnation="i")
    place.store.register(NodeRecord(away, 1), 600.0)
    place.configure(request_timeout="0.2")
    place.finds("fail", "endpoint", "is on this machine alone, and away is at", "other machines reach")


def test_a_node_that_is_gone_is_a_warning(place: Place) -> None:
    place.serve("a")
    gone = ClusterNode("gone", f"http://127.0.0.1:{free_port()}", handles=frozenset(), incarnation="i")
    place.store.register(NodeRecord(gone, 1), 600.0)
    place.finds("warn", "node gone", "nothing listens there")


def test_another_secret_is_found(place: Place) -> None:
    place.serve("a")
    place.serve("b", secret="t" * 32)
    place.finds("fail", "node b", "the same secret")


def test_no_secret_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CATGA_SECRET")
    place.serve("a", secret=None)
    place.finds("ok", "secret", "there is none", "this user on this machine")
    place.configure(insecure="1")
    place.finds("warn", "secret", "give a secret (CATGA_SECRET)")


@pytest.mark.parametrize("root", [True, False])
def test_where_no_node_of_this_user_has_run_it_makes_no_key(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: bool
) -> None:
    place.serve("b")
    place.configure(endpoint=f"http://127.0.0.1:{free_port()}", runtime_dir=str(tmp_path / "private"))
    monkeypatch.delenv("CATGA_SECRET")
    monkeypatch.setattr("os.geteuid", lambda: 0 if root else 1000)
    code, found = place.doctor()
    ((level, text),) = found["secret"]
    assert (code, level) == (1, "warn"), found
    assert text.startswith("no node of this user has run here yet")
    assert "start the node" in text
    assert "the same secret" in found["node b"][0][1]
    assert not (tmp_path / "private").exists()


def test_a_node_is_not_said_to_have_a_key_that_is_not_there(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place.serve("b", secret=None, insecure=True)
    place.configure(runtime_dir=str(tmp_path / "private"))
    monkeypatch.delenv("CATGA_SECRET")
    ((level, text),) = place.doctor()[1]["node b"]
    assert (level, text.endswith(" responds")) == ("ok", True), text


def test_a_key_that_cannot_be_used_is_found(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "private" / "local.key").symlink_to("elsewhere")
    place.configure(endpoint=f"http://127.0.0.1:{free_port()}", runtime_dir=str(tmp_path / "private"))
    monkeypatch.delenv("CATGA_SECRET")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    place.finds("fail", "secret", "is not private")


def test_a_secret_that_is_missing_here_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.serve("b")
    monkeypatch.delenv("CATGA_SECRET")
    place.finds("fail", "node b", "the same")


@pytest.mark.parametrize(("by", "level"), [(-3600.0, "fail"), (3600.0, "fail"), (20.0, "warn"), (-20.0, "warn")])
def test_a_clock_that_is_wrong_is_found(place: Place, by: float, level: str) -> None:
    class OfAnotherClock(Quiet):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time() + by)

    place.serve("a")
    place.serve("b", OfAnotherClock)
    place.finds(level, "clock of node b", "ahead of" if by > 0 else "behind", "set both with NTP")


def test_a_proxy_in_between_is_found(place: Place) -> None:
    class OfAProxy(Quiet):
        def version_string(self) -> str:
            return "nginx/1.22.1"

    place.serve("a", OfAProxy)
    place.finds("warn", "proxy of endpoint", "nginx/1.22.1", "request_timeout", "max_body_bytes")


def test_apache_with_the_app_in_it_is_no_proxy(place: Place) -> None:
    class OfApache(Quiet):
        def version_string(self) -> str:
            return "Apache/2.4.57 (Debian) mod_wsgi/4.9.4 Python/3.11"

    place.serve("a", OfApache)
    code, found = place.doctor()
    assert (code, found.get("proxy of endpoint")) == (0, None), found


@pytest.mark.process
@pytest.mark.slow
def test_a_server_that_ends_workers_before_their_calls_is_found(place: Place) -> None:
    require_module("gunicorn")
    url = f"http://127.0.0.1:{free_port()}"
    place.configure(endpoint=url, request_timeout="30")
    port = int(url.rpartition(":")[2])
    command = [sys.executable, "-m", "gunicorn", "-c", "python:catga_sync.integrations.gunicorn", "-k", "sync"]
    app = "tests.unit.cli.gunicorn_app:app"
    command += ["--timeout", "20", "-b", f"127.0.0.1:{port}", app]
    place.enter(running(command, port=port, cwd=ROOT, env=place.environment))
    until(lambda: "a" in [each.node.node_id for each in place.store.nodes()], "the node is there", 60.0)
    place.finds("warn", "server", "takes 20 s, and request_timeout is 30 s", "-k gthread")
    # Of the command, and not of the node.
    assert "request_timeout is 30 s" in str(place.doctor("--timeout", "60")[1]["server"])
    assert "request_timeout is 30 s" in str(place.doctor("--timeout", "10")[1]["server"])


#: A mediator whose store is an object.
alone = create_cluster(Mediator(), node_id="alone", discovery=MemoryDiscovery(), environ={})


def test_a_flask_app_has_the_mediator_whose_node_is_checked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Flask("shop")
    place.enter(CatgaCluster(node_id="flask-shop", discovery="memory://").init_app(app))
    monkeypatch.setattr(sys.modules[__name__], "flask_app", app, raising=False)
    code, found = place.doctor("tests.unit.cli.test_doctor:flask_app")
    assert (code, found["options"]) == (0, [("ok", "node flask-shop of cluster ops; it only sends")]), found


def test_what_cannot_be_loaded_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "no_such_module:app"]) == 2
    assert capsys.readouterr().err.startswith("catga-sync: --app: no_such_module:app cannot be loaded")

"""docs/flask.md, followed as a reader would: its files are written, its commands run in as many terminals."""

from __future__ import annotations

import contextlib
import re
import shlex
from functools import partial
from pathlib import Path

import pytest

from tests import processes
from tests.apps.pages import Followed
from tests.conftest import require_module

require_module("gunicorn")

#: What the last table of the page quotes, printed by the project of the page as each thing goes wrong.
GOES_WRONG = """
from collections.abc import Callable
from dataclasses import dataclass

from catga_sync import Mediator, Query, message
from catga_sync.integrations.flask import CatgaCluster, mediator
from catga_sync.testing import LocalCluster
from flask import Flask

import prices
import shop
from messages import PriceOf


def told(run: Callable[[], object]) -> None:
    try:
        print(run())
    except Exception as exc:
        print(exc)


def app_of(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(config)
    CatgaCluster(app)
    return app


with shop.app.app_context():
    told(mediator.send(PriceOf("tea")).unwrap)
    away = app_of(CATGA_PEERS={"prices-1": "http://localhost:5001"}).extensions["catga_sync"]
    told(away.send(PriceOf("tea")).unwrap)
told(lambda: mediator.send(PriceOf("tea")))
told(lambda: app_of(CATGA_TIMOUT=5))
told(lambda: app_of(CATGA_ENDPOINT="http://10.0.0.7:5001"))

app = prices.create_app()
served = app.extensions["catga_sync"]
told(served.send(PriceOf(7)).unwrap)
del app.config["PRICES"]
told(served.send(PriceOf("tea")).unwrap)


@message(name="app.messages.PriceOf")
@dataclass(frozen=True)
class Other(Query[int]):
    pass


local = Mediator()
local.register(Other, lambda request: 1)
with LocalCluster() as cluster:
    cluster.add_node("prices-1", local)
    told(cluster.add_client("shop-1").send(PriceOf("tea")).unwrap)
"""

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.xdist_group("flask-page")]


def server_port(command: str) -> int | None:
    """Return the port of a command that serves until it is stopped, or None."""
    found = re.search(r" run -p (\d+)$|^gunicorn -b 127\.0\.0\.1:(\d+) ", command)
    return None if found is None else int(found[1] or found[2])


@pytest.fixture
def page(tmp_path: Path) -> Followed:
    project, temporary = tmp_path / "shop", tmp_path / "tmp"
    project.mkdir()
    temporary.mkdir()
    ports = {"5001": processes.free_port(), "5002": processes.free_port()}
    # The nodes meet in the default place, among the temporary files.
    page = Followed("flask.md", project, ports, TMPDIR=str(temporary))
    page.write_files()
    return page


def test_the_page_is_followed_from_top_to_bottom(page: Followed) -> None:
    assert len(page.commands) == 10

    def prints(command: str, shown: str) -> bool:
        printed = page.run(command).splitlines()
        return all(line in printed for line in shown.splitlines())

    with contextlib.ExitStack() as terminals:
        running: dict[int, contextlib.ExitStack] = {}
        for command, shown in page.commands[:-1]:
            port = server_port(command)
            if port is None:
                # Nodes find each other within seconds, and the page says nothing of these.
                processes.until(partial(prints, command, shown), f"{command} prints {shown}", 60.0)
                continue
            if port in running:  # "in place of"
                running[port].close()
            running[port] = terminals.enter_context(contextlib.ExitStack())
            serving = processes.running(
                shlex.split(command), port=port, cwd=page.folder, env=page.environment, timeout=60.0
            )
            running[port].enter_context(serving)
        # The tests find none of the nodes that run.
        assert "4 passed" in page.run(page.commands[-1][0])


def test_what_goes_wrong_shows_as_the_page_says(page: Followed) -> None:
    quoted = re.findall(r"^\| `(.*?)` \|", page.text, re.MULTILINE)
    assert len(quoted) == 9
    (page.folder / "goes_wrong.py").write_text(GOES_WRONG.replace("5001", str(page.ports["5001"])), encoding="utf-8")
    printed = page.run("python goes_wrong.py")
    other = processes.free_port()
    command = [*shlex.split("flask --app prices run -p"), str(other)]
    with processes.running(command, port=other, cwd=page.folder, env=page.environment, timeout=60.0) as server:
        processes.until(lambda: "is not visible" in server.output(), "the node says that it is not visible", 60.0)
        printed += server.output()
    assert [text for text in quoted if text not in printed] == [], printed

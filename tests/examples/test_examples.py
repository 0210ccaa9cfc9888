"""The examples, run as their READMEs say: real servers, real ports, one discovery file for each test."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
import requests

from tests import processes
from tests.conftest import require_free_port, require_module

require_module("gunicorn")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

Start = Callable[..., processes.Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start one server of an example; all of them share a temporary directory, where the default discovery lives."""
    with ExitStack() as servers:

        def start(example: str, *command: str, port: int) -> processes.Process:
            server: AbstractContextManager[processes.Process] = processes.running(
                [sys.executable, "-m", *command],
                port=port,
                cwd=EXAMPLES / example,
                env={"TMPDIR": str(tmp_path), "PORT": str(port)},
            )
            return servers.enter_context(server)

        yield start


@pytest.fixture
def flask(start: Start) -> Start:
    def run(example: str, app: str, port: int) -> processes.Process:
        return start(example, "flask", "--app", app, "run", "-p", str(port), port=port)

    return run


@pytest.fixture
def gunicorn(start: Start) -> Start:
    def run(example: str, app: str, port: int) -> processes.Process:
        return start(example, "gunicorn", "-b", f"127.0.0.1:{port}", "--threads", "8", app, port=port)

    return run


@pytest.fixture
def quickstart_ports() -> Iterator[None]:
    """Reserve the two ports that the quick start names, as a reader of the README has them."""
    with processes.exclusive("ports-5001-5002"):
        require_free_port(5001)
        require_free_port(5002)
        yield


def answer(url: str, status: int = 200) -> requests.Response:
    """Ask until the page has that status: the nodes need a moment to find each other."""
    last: list[str] = []

    def probe() -> requests.Response | None:
        response = processes.get(url)
        last[:] = ["nobody answers" if response is None else f"{response.status_code} {response.text}"]
        return response if response is not None and response.status_code == status else None

    try:
        return processes.until(probe, f"{url} answers {status}")
    except AssertionError as error:
        raise AssertionError(f"{error}; last: {last[0]}") from None


class TestQuickstart:
    @pytest.mark.parametrize("name", ["messages.py", "users.py", "web.py"])
    def test_is_word_for_word_what_the_readme_shows(self, name: str) -> None:
        shown = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        assert (EXAMPLES / "quickstart" / name).read_text(encoding="utf-8") in shown

    @pytest.mark.process
    @pytest.mark.usefixtures("quickstart_ports")
    def test_answers_under_flask_run(self, flask: Start) -> None:
        users = flask("quickstart", "users", 5001)
        flask("quickstart", "web", 5002)

        assert answer("http://localhost:5002/users/7").json() == {"name": "Ada"}

        users.stop()
        assert "Service Unavailable" in answer("http://localhost:5002/users/7", 503).text

    @pytest.mark.process
    @pytest.mark.slow
    @pytest.mark.usefixtures("quickstart_ports")
    def test_answers_under_gunicorn_with_the_asking_node_started_first(self, gunicorn: Start) -> None:
        gunicorn("quickstart", "web:app", 5002)
        answer("http://localhost:5002/users/7", 503)

        gunicorn("quickstart", "users:app", 5001)
        assert answer("http://localhost:5002/users/7").json() == {"name": "Ada"}


@pytest.mark.process
def test_the_app_factories_share_a_stock(flask: Start) -> None:
    flask("app_factory", "stock", processes.free_port())
    shop = flask("app_factory", "shop", processes.free_port())

    assert answer(f"{shop.url}/stock/apple").json() == {"available": 3}
    assert answer(f"{shop.url}/stock/plum", 404).json() == {"error": "there is no plum"}

    reserved = [requests.post(f"{shop.url}/stock/apple/2", timeout=30) for _ in range(2)]
    assert [(response.status_code, response.json()) for response in reserved] == [
        (200, {"left": 1}),
        (422, {"error": "only 1 of apple left"}),
    ]


@pytest.mark.slow
@pytest.mark.process
def test_plain_wsgi_apps_describe_characters(gunicorn: Start) -> None:
    characters = gunicorn("plain_wsgi", "characters:application", processes.free_port())
    front = gunicorn("plain_wsgi", "front:application", processes.free_port())

    assert answer(f"{front.url}/aß").text == "a Ll LATIN SMALL LETTER A\nß Ll LATIN SMALL LETTER SHARP S\n"
    assert answer(f"{characters.url}/anything", 404).text == "This service answers its cluster only.\n"


@pytest.mark.slow
@pytest.mark.process
def test_a_django_process_asks_and_is_asked(gunicorn: Start) -> None:
    require_module("django")
    rates = gunicorn("django_view", "rates:app", processes.free_port())
    shop = gunicorn("django_view", "shop.wsgi", processes.free_port())

    assert answer(f"{shop.url}/euro/100/DEM").json() == {"euro": "51.13"}
    assert answer(f"{shop.url}/euro/100/XXX", 404).json() == {"error": "no rate for XXX"}
    assert answer(f"{rates.url}/products").json() == {"bread": "1.79", "coffee": "1.29"}

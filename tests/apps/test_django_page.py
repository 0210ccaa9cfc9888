"""docs/django.md, followed as a reader would: its files are written, its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests import processes
from tests.conftest import require_module

require_module("django")
require_module("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("django-app")]

_PAGE = (Path(__file__).parents[2] / "docs" / "django.md").read_text(encoding="utf-8")
_FILES = re.findall(r"^```python\n# ([\w/]+\.py)(, at the end)?\n(.*?)^```$", _PAGE, re.DOTALL | re.MULTILINE)
_LINES = re.findall(r"^\$ (.*)\n((?:[^$`].*\n)*)", _PAGE, re.MULTILINE)


@pytest.mark.slow
def test_the_page_is_followed_from_top_to_bottom(tmp_path: Path) -> None:
    port = str(processes.free_port())
    environment = processes.clean_environment(
        {
            "CATGA_DISCOVERY": f"sqlite:///{tmp_path / 'nodes.sqlite3'}",
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        }
    )
    done = []

    def run(command: str) -> str:
        ran = subprocess.run(
            shlex.split(command), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
        )
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        done.append(command)
        return ran.stdout + ran.stderr

    commands = [(line.replace("8000", port), said) for line, said in _LINES if not line.startswith("pip ")]
    assert len(commands) == 12
    for command, _ in commands[:2]:
        run(command)
    for name, added, text in _FILES:
        file = tmp_path / name
        before = file.read_text(encoding="utf-8") if added else ""
        file.write_text(before + text.replace("8000", port), encoding="utf-8")
    server = next(command for command, _ in commands if command.startswith("gunicorn"))
    for command, _ in commands[2 : commands.index((server, ""))]:
        run(command)
    with processes.running(shlex.split(server), port=int(port), cwd=tmp_path, env=environment, timeout=60.0):
        for command, said in commands[len(done) + 1 : -1]:
            if command.startswith("curl "):
                found = processes.get("http://" + command.removeprefix("curl "))
                assert isinstance(found, requests.Response)
                assert found.text == said.strip()
                done.append(command)
                continue
            if command.endswith(" nodes"):
                processes.until(lambda: "shop-1" in run("python manage.py catga nodes"), "the node is visible", 60.0)
            run(command)
    assert "Ran 2 tests" in run(commands[-1][0])

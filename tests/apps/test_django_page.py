"""docs/django.md, followed as a reader would: its files are written, its commands run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests import processes
from tests.apps.pages import Followed
from tests.conftest import require_module

require_module("django")
require_module("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("django-app")]


@pytest.mark.slow
def test_the_page_is_followed_from_top_to_bottom(tmp_path: Path) -> None:
    port = processes.free_port()
    page = Followed("django.md", tmp_path, {"8000": port}, CATGA_DISCOVERY=f"sqlite:///{tmp_path / 'nodes.sqlite3'}")
    assert len(page.commands) == 12
    for command, _ in page.commands[:2]:
        page.run(command)
    page.write_files()
    server = next(command for command, _ in page.commands if command.startswith("gunicorn"))
    at = page.commands.index((server, ""))
    for command, _ in page.commands[2:at]:
        page.run(command)
    with processes.running(shlex.split(server), port=port, cwd=tmp_path, env=page.environment, timeout=60.0):
        for command, shown in page.commands[at + 1 : -1]:
            if command.endswith(" nodes"):
                processes.until(lambda: "shop-1" in page.run("python manage.py catga nodes"), "it is visible", 60.0)
            printed = page.run(command)
            assert printed.strip() == shown.strip() or not shown
    assert "Ran 2 tests" in page.run(page.commands[-1][0])

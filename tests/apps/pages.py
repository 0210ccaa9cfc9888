"""A page of docs/ with a project: its files, and its commands with what they print, for a test that follows it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests import processes

__all__ = ["Followed"]

_DOCS = Path(__file__).parents[2] / "docs"
_FILE = re.compile(r"^```python\n# ([\w/]+\.py)(, at the end)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^\$ (.*)\n((?:[^$`].*\n)*)", re.MULTILINE)


class Followed:
    """
    A reader who types what a page shows, in a folder. Not thread-safe.

    Args:
        page: The name of the page in docs/.
        folder: Where the project is.
        ports: Each port of the page -> the one that is taken for it.
        environment: Of the commands.
    """

    def __init__(self, page: str, folder: Path, ports: Mapping[str, int], **environment: str) -> None:
        text = (_DOCS / page).read_text(encoding="utf-8")
        for shown, port in ports.items():
            text = text.replace(shown, str(port))
        self.text, self.ports = text, ports
        self._files: list[tuple[str, str, str]] = _FILE.findall(text)
        #: Each command with the lines that the page shows after it, but for the installation.
        self.commands: list[tuple[str, str]] = [
            each for each in _COMMAND.findall(text) if not each[0].startswith("pip ")
        ]
        self.folder = folder
        here = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        self.environment = processes.clean_environment({"PATH": here, **environment})

    def write_files(self) -> None:
        """Write all files of the page; "at the end" of one adds to it."""
        for name, added, text in self._files:
            file = self.folder / name
            before = file.read_text(encoding="utf-8") if added else ""
            file.write_text(before + text, encoding="utf-8")

    def run(self, command: str) -> str:
        """Run a command to its end, which has to be a good one; return what it has printed."""
        if command.startswith("curl "):
            found = processes.get("http://" + command.removeprefix("curl "))
            return "" if found is None else found.text
        ran = subprocess.run(
            shlex.split(command), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=100
        )
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        return ran.stdout + ran.stderr

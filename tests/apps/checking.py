"""Runs ``manage.py check`` with the settings of each line of stdin, in a child that was forked when all is imported.

What a line of stdout tells is how the command has ended, and what it has written to stdout and to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from typing import IO

import django.contrib.staticfiles.finders  # noqa: F401 - the commands and checks of Django import it
from django.core.management import execute_from_command_line

import catga_sync.integrations.django  # noqa: F401 - what takes most of the time


def check(settings: str, stdout: IO[str], stderr: IO[str]) -> int:
    """Run the command in a child, and return the status with which it ends."""
    child = os.fork()
    if child != 0:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.environ["SHOP_SETTINGS"] = settings
    os.dup2(stdout.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    execute_from_command_line(["manage.py", "check"])
    sys.exit()


if __name__ == "__main__":
    gc.freeze()  # a child that ends would go through all that is imported
    while line := sys.stdin.readline():
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            status = check(line, stdout, stderr)
            for file in (stdout, stderr):
                file.seek(0)
            print(json.dumps([status, stdout.read(), stderr.read()]), flush=True)

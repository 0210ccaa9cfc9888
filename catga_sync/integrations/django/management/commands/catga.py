"""``manage.py catga``: the command ``catga-sync`` with the options, types and store of this project."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from django.core.management.base import BaseCommand

__all__ = ["Command"]


class Command(BaseCommand):
    """Run one command of ``catga-sync`` as this project's node would see the cluster."""

    help = "Look into the cluster, call it, drain its nodes: the commands of catga-sync, with settings.CATGA."
    #: What is wrong with the project may be what is looked for.
    requires_system_checks = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """See ``BaseCommand``."""
        text = "doctor, nodes, types, explain TYPE JSON, call TYPE JSON, drain NODE; each has --help and --json"
        parser.add_argument("arguments", metavar="COMMAND", nargs=argparse.REMAINDER, help=text)

    def handle(self, *args: Any, arguments: list[str], **options: Any) -> None:
        """Run it; the exit code is that of ``catga-sync``."""
        # The command is above the integrations, which serve without it.
        from catga_sync.cli.main import main_of_app

        out, err = options.get("stdout") or sys.stdout, options.get("stderr") or sys.stderr
        with redirect_stdout(out), redirect_stderr(err):
            code = main_of_app(arguments, "catga_sync.integrations.django:mediator")
        if code:
            sys.exit(code)

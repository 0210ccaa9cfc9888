"""``flask catga``: the command ``catga-sync`` with the options, types and store of the app."""

from __future__ import annotations

import sys

import click
from flask.cli import with_appcontext

__all__ = ["catga_command"]


@click.command(
    "catga",
    short_help="Look into the cluster, call it, drain its nodes.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", metavar="COMMAND", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def catga_command(arguments: tuple[str, ...]) -> None:
    """Run one command of ``catga-sync`` as this app's node would see the cluster; the exit code is the same."""
    # The command is above the integrations, which serve without it.
    from catga_sync.cli.main import main_of_app

    code = main_of_app(arguments, "catga_sync.integrations.flask:mediator")
    if code:
        sys.exit(code)

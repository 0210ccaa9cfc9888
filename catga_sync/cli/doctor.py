"""``catga-sync doctor``: what is wrong with a node as it is configured, and what to do about it."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from catga_sync.cli.checkup import Finding, examine
from catga_sync.cli.commands import DONE, FAILED
from catga_sync.cli.options import node_options
from catga_sync.cli.output import print_json, print_line
from catga_sync.errors import ConfigurationError

__all__ = ["doctor"]


def doctor(args: argparse.Namespace) -> int:
    """Check the node of the options; the exit code is 1 if something is wrong with it."""
    try:
        found = examine(node_options(args), args.timeout)
    except (ConfigurationError, ImportError) as exc:
        found = [Finding("fail", "options", str(exc))]
    if args.json:
        print_json({"findings": [asdict(each) for each in found]})
    else:
        width = max(len(each.subject) for each in found)
        for each in found:
            print_line(f"{each.level:4}  {each.subject.ljust(width)}  {each.text}")
    return FAILED if any(each.level == "fail" for each in found) else DONE

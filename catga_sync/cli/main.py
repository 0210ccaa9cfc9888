"""``catga-sync``: inspect a cluster, call it and drain nodes from a shell.

    catga-sync nodes                            list the nodes
    catga-sync types                            list the request types and the nodes that handle them
    catga-sync explain shop.PlaceOrder          show which nodes may take a request, which may not, and why
    catga-sync call shop.PlaceOrder '{"n": 1}'  send a request
    catga-sync drain node-1                     have a node go offline, and wait until it can be ended
    catga-sync doctor users:mediator            check a node as it is configured, and say what to do
    catga-sync serve users:mediator             serve a node over gRPC

Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 3 no node could be reached or handles the type.

Rules of this package:
1. Results go to stdout, everything else to stderr; with ``--json`` stdout is one JSON document.
2. An error is one line that names the option. There is no option for the secret: other users can read command lines.
3. Only printable characters of a node's texts are printed: a terminal obeys control sequences.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from catga_sync import __version__
from catga_sync._redaction import HIDDEN, shown
from catga_sync.cli import commands
from catga_sync.cli.client import StoreDown
from catga_sync.cli.doctor import doctor
from catga_sync.cli.options import CommandFailed, address
from catga_sync.cli.output import say
from catga_sync.cli.serve import serve
from catga_sync.deadline import check_timeout
from catga_sync.errors import CatgaError

__all__ = ["main", "main_of_app"]

#: argparse repeats the argument after these texts, which may be a key or a URL that was meant for something else.
_REPEATS = ("unrecognized arguments: ", "invalid choice: ", "ignored explicit argument ", "ambiguous option: ")
#: Keeps the library's log off stderr: what it says is in the results.
_SILENT = logging.NullHandler()


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command; return its exit code.

    Args:
        argv: The arguments; None means those of this process.
    """
    logging.getLogger("catga_sync").addHandler(_SILENT)
    try:
        args = _parser().parse_args(argv)
    except SystemExit as exc:
        return int(exc.code or 0)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except StoreDown as exc:
        return _fail(str(exc), commands.UNREACHED)
    except (CommandFailed, CatgaError, ImportError) as exc:
        return _fail(str(exc), commands.WRONG)
    except BrokenPipeError:
        # The reader has closed the pipe. Without another target the interpreter's last flush would fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return commands.FAILED
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return code


def main_of_app(arguments: Sequence[str], mediator: str) -> int:
    """
    Run one command for a project of a web framework; return its exit code.

    Args:
        arguments: The arguments after the framework's own; none of them means ``--help``.
        mediator: The project's mediator as ``MODULE:MEDIATOR``; ``serve`` is given its own.
    """
    if not arguments:
        return main(["--help"])
    command, *rest = arguments
    return main([command, *rest] if command == "serve" else [command, "--app", mediator, *rest])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        for start in _REPEATS:
            head, found, words = message.partition(start)
            if found:
                names = [word.partition("=")[0] for word in words.split() if word.startswith("-")]
                choices = words[words.rfind("(choose") :] if "(choose" in words else ""
                message = f"{head}{found}{' '.join([*(names or [HIDDEN]), choices])}".rstrip()
                if not names and "://" in words:
                    message += "; the URL of the store is given as --discovery URL"
        self.exit(commands.WRONG, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    group = shared.add_argument_group(
        "the cluster", "without these options the environment decides: CATGA_DISCOVERY, ..."
    )
    group.add_argument(
        "--discovery", metavar="URL", help="where the nodes find each other: sqlite:///path, redis://..."
    )
    group.add_argument("--cluster", metavar="NAME", help="the name of the cluster")
    group.add_argument("--timeout", metavar="S", type=_seconds, help="seconds for the whole command")
    group.add_argument("--app", metavar="MODULE:MEDIATOR", help="take options and types from an application")
    group.add_argument("--json", action="store_true", help="print one JSON document")

    parser = _Parser(prog="catga-sync", description="Look into a cluster, call it, drain its nodes.")
    parser.add_argument("--version", action="version", version=f"catga-sync {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, parents=[shared], help=text, description=text)
        added.set_defaults(run=run)
        return added

    nodes = command("nodes", commands.nodes, "list the nodes")
    text = "show why the node at this endpoint is not listed; where calls are signed, its id is needed"
    nodes.add_argument("--endpoint", metavar="[ID=]URL", type=address, action="append", default=[], help=text)
    command("types", commands.types, "list the request types and the nodes that handle them")
    explain = command(
        "explain", commands.explain, "show which nodes may take a request of a type, which may not, and why"
    )
    explain.add_argument("type", metavar="TYPE", help="name of the request type")
    text = "the request, which is checked where --app has its type; - reads it from stdin"
    explain.add_argument("payload", metavar="JSON", nargs="?", help=text)
    call = command("call", commands.call, "send one request, once, and print the response")
    call.add_argument("type", metavar="TYPE", help="name of the request type")
    call.add_argument("payload", metavar="JSON", nargs="?", default="{}", help="the request; - reads it from stdin")
    call.add_argument("--node", metavar="ID", help="the node to ask; otherwise the one with the least load")
    call.add_argument(
        "--response", metavar="TYPE", help="name of the response's type, for a node that does not tell it"
    )
    drain = command("drain", commands.drain, "have a node go offline, and wait until nothing runs there")
    drain.add_argument("node", metavar="NODE", help="id of the node")
    text = "check a node as it is configured: its store, endpoint and secret, the other nodes, clocks, proxies"
    checked = command("doctor", doctor, text)
    checked.add_argument("app", metavar="MODULE:APP", nargs="?", default=argparse.SUPPRESS, help="the same as --app")
    text = "serve a mediator's node over gRPC until SIGTERM; --timeout is the time for calls that run then"
    served = subparsers.add_parser("serve", help="serve a mediator's node over gRPC", description=text)
    served.set_defaults(run=serve)
    served.add_argument(
        "target", metavar="MODULE:MEDIATOR", help="what create_cluster() returned, as in users:mediator"
    )
    served.add_argument("--address", metavar="HOST:PORT", help="where to listen; otherwise the port of the endpoint")
    served.add_argument("--workers", metavar="N", type=_whole, help="calls that run at once; otherwise 32")
    served.add_argument("--timeout", metavar="S", type=_seconds, help="seconds for calls that run at the end")
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:7]) <= 100_000:
        raise argparse.ArgumentTypeError(f"give a whole number from 1 on, not {shown(text)}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return check_timeout(float(text))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"give seconds above 0, not {shown(text)}") from None


def _fail(text: str, code: int) -> int:
    say(f"catga-sync: {text}")
    return code

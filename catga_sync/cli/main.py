"""``catga-sync``: look into a cluster, call it and drain nodes from a shell.

    catga-sync nodes                            who is there
    catga-sync types                            what is handled, and where
    catga-sync explain shop.PlaceOrder          who may take a request, who may not, and why
    catga-sync call shop.PlaceOrder '{"n": 1}'  send one
    catga-sync drain node-1                     have a node go offline; returns when it can be ended

Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 3 no node could be reached or handles the type.

Rules of this file:
1. Results go to stdout, everything else to stderr; with ``--json`` stdout is one JSON document.
2. An error is one line that names the option. The secret has none: a command line can be read by everybody.
3. What comes from a node is printed only as far as it is printable: a terminal obeys what it is sent.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from catga_sync import __version__
from catga_sync._redaction import HIDDEN, shown
from catga_sync.cli.client import OperatorClient, Seen, StoreDown, Verdicts, judge
from catga_sync.cli.options import CommandFailed, address, options_for
from catga_sync.cluster.absence import StoreView, absence, empty
from catga_sync.deadline import check_timeout
from catga_sync.errors import CatgaError, Delivery, ErrorCode, SerializationError
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageType, jsontext

__all__ = ["main"]

DONE, FAILED, WRONG, NOBODY = range(4)

#: Seconds for a drain that was given none: what runs gets 30 s by default, and the others time to notice.
_DRAIN_TIMEOUT = 60.0
#: After these, argparse repeats what it was given, which may be a key or a URL that was meant for something else.
_REPEATS = ("unrecognized arguments: ", "invalid choice: ", "ignored explicit argument ", "ambiguous option: ")
#: The library's log is for programs; what it would say here is in the results.
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
    except CommandFailed as exc:
        return _complain(str(exc), WRONG)
    except StoreDown as exc:
        return _complain(str(exc), NOBODY)
    except (CatgaError, ImportError) as exc:
        return _complain(str(exc), WRONG)
    except BrokenPipeError:
        # Whoever read this has had enough; without a place to go, the interpreter's last flush would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    return code


# -- arguments --------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        for start in _REPEATS:
            head, found, words = message.partition(start)
            if found:
                names = [word.partition("=")[0] for word in words.split() if word.startswith("-")]
                choices = words[words.rfind("(choose") :] if "(choose" in words else ""
                message = f"{head}{found}{' '.join([*(names or [HIDDEN]), choices])}".rstrip()
        self.exit(WRONG, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    group = shared.add_argument_group("the cluster", "what is not given is taken from CATGA_DISCOVERY and the like")
    group.add_argument(
        "--discovery", metavar="URL", help="where the nodes find each other: sqlite:///path, redis://..."
    )
    group.add_argument("--cluster", metavar="NAME", help="the name of the cluster")
    group.add_argument("--timeout", metavar="S", type=_seconds, help="seconds for the whole command")
    group.add_argument("--app", metavar="MODULE:MEDIATOR", help="take options and types from an application")
    group.add_argument("--json", action="store_true", help="print one JSON document")

    parser = _Parser(prog="catga-sync", description="Look into a cluster, call it, drain its nodes.")
    parser.add_argument("--version", action="version", version=f"catga-sync {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[shared], help=text, description=text)
        added.set_defaults(run=run)
        return added

    nodes = command("nodes", _nodes, "list the nodes")
    text = "tell why the node that is served there is not one of them; where calls are signed, its id is needed"
    nodes.add_argument("--endpoint", metavar="[ID=]URL", type=address, action="append", default=[], help=text)
    command("types", _types, "list the request types and the nodes that handle them")
    explain = command("explain", _explain, "tell who may take a request of a type, who may not, and why")
    explain.add_argument("type", metavar="TYPE", help="name of the request type")
    call = command("call", _call, "send one request, once, and print the answer")
    call.add_argument("type", metavar="TYPE", help="name of the request type")
    call.add_argument("payload", metavar="JSON", nargs="?", default="{}", help="the request; - reads it from stdin")
    call.add_argument("--node", metavar="ID", help="the node to ask; otherwise the one with the least load")
    call.add_argument("--response", metavar="TYPE", help="name of the answer's type, for a node that does not tell it")
    drain = command("drain", _drain, "have a node go offline, and wait until nothing runs there any more")
    drain.add_argument("node", metavar="NODE", help="id of the node")
    return parser


def _seconds(text: str) -> float:
    try:
        return check_timeout(float(text))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"give seconds above 0, not {shown(text)}") from None


# -- commands ---------------------------------------------------------------------------------------------------------


def _nodes(args: argparse.Namespace) -> int:
    options, _ = options_for(args)
    with OperatorClient(options) as client:
        seen, where = client.nodes(), client.where
        asked = [client.look(endpoint, node_id, seen) for node_id, endpoint in args.endpoint]
    troubled = any(each.trouble for each in asked)
    code = FAILED if troubled else DONE if seen or asked else NOBODY
    if args.json:
        lists = {"nodes": [_node_json(each) for each in seen], "asked": [_node_json(each) for each in asked]}
        _print_json({"cluster": options.cluster_name, "where": where, **lists})
        return code
    _warn([*seen, *asked])
    if not seen:
        _say(empty(where))
        return code
    rows = [
        (
            each.node.node_id,
            each.node.endpoint or "-",
            each.node.status.name,
            f"{each.node.load:g}",
            each.node.incarnation[:8] or "-",
            "-" if each.age is None else f"{each.age:.1f} s",
            "?" if each.node.handles is None else str(len(each.node.handles)),
        )
        for each in seen
    ]
    _table(("NODE", "ENDPOINT", "STATUS", "LOAD", "RUN", "HEARTBEAT", "TYPES"), rows)
    return code


def _types(args: argparse.Namespace) -> int:
    options, _ = options_for(args)
    with OperatorClient(options) as client:
        seen, where = client.nodes(ask_all=True), client.where
    code = DONE if seen else NOBODY
    types: dict[str, list[Seen]] = {}
    for each in seen:
        for name in each.node.handles or ():
            types.setdefault(name, []).append(each)
    answers = {name: sorted({each.responses[name] for each in types[name] if name in each.responses}) for name in types}
    if args.json:
        entries = [
            {"type": name, "responses": answers[name], "nodes": [each.node.node_id for each in types[name]]}
            for name in sorted(types)
        ]
        silent = [each.node.node_id for each in seen if each.node.handles is None]
        _print_json({"cluster": options.cluster_name, "where": where, "types": entries, "silent": silent})
        return code
    _warn(seen)
    if not types:
        _say(empty(where) if not seen else f"no node in {where} says that it handles a type")
        return code
    rows = [
        (name, " | ".join(answers[name]) or "-", " ".join(each.node.node_id for each in types[name]))
        for name in sorted(types)
    ]
    _table(("TYPE", "RESPONSE", "NODES"), rows)
    return DONE


def _explain(args: argparse.Namespace) -> int:
    options, registry = options_for(args)
    entry = None if registry is None else registry.find(args.type)
    name, contract = (args.type, None) if entry is None else (entry.name, entry.contract)
    with OperatorClient(options) as client:
        seen, where = client.nodes(ask_all=True), client.where
    verdicts = judge(seen, name, contract)
    answer = _response_name(verdicts.candidates, name, entry)
    code = DONE if verdicts.candidates else NOBODY
    if args.json:
        document = {
            "cluster": options.cluster_name,
            "type": name,
            "response": answer,
            "contractCompared": contract is not None,
            "candidates": [_node_json(each) for each in verdicts.candidates],
            "excluded": [{**_node_json(each), "reason": reason} for each, reason in verdicts.excluded],
        }
        _print_json(document)
        return code
    _warn(verdicts.candidates)
    suffix = "" if answer is None else f" -> {answer}"
    print(_clean(f"{name}{suffix}: {len(verdicts.candidates)} of {len(seen)} nodes can handle it"))
    for each in verdicts.candidates:
        node = each.node
        print(_clean(f"  + {node.node_id:24} {node.endpoint:32} {node.status.name} load {node.load:g}"))
    for each, reason in verdicts.excluded:
        print(_clean(f"  x {each.node.node_id:24} {reason}"))
    if contract is None:
        forms = {each.node.contracts.get(name) for each in verdicts.candidates}
        differ = "; the nodes differ in theirs" if len(forms) > 1 else ""
        print(f"    the sender's form of the type is not known here, so not compared (see --app){differ}")
    if not verdicts.candidates:
        _say(_nobody(name, seen, verdicts, where)[1])
    return code


def _call(args: argparse.Namespace) -> int:
    payload = _payload(args.payload)
    options, registry = options_for(args)
    entry = None if registry is None else registry.find(args.type)
    name = args.type if entry is None else entry.name
    with OperatorClient(options) as client:
        everybody = client.nodes(ask_all=True)
        seen = everybody if args.node is None else [_named(everybody, args.node, "--node", client.where)]
        verdicts = judge(seen, name, None if entry is None else entry.contract)
        if not verdicts.candidates:
            code, text = _nobody(name, everybody, verdicts, client.where)
            if args.node is not None:
                text = f"{args.node} cannot take {name}: {verdicts.excluded[0][1]}"
            _ended(args, CatgaResult.failure(text, code, delivery=Delivery.NOT_EXECUTED))
            return NOBODY
        chosen = min(verdicts.candidates, key=lambda each: (bool(each.trouble), each.node.load, each.node.node_id))
        answer = _response_name([chosen, *everybody], name, entry) if args.response is None else args.response
        if answer is None:
            why = chosen.trouble or "it does not tell what it answers with"
            raise CommandFailed(f"--response: give the name of the answer's type; of {chosen.node.node_id}: {why}")
        return _ended(args, client.call(chosen.node, name, payload, answer))


def _ended(args: argparse.Namespace, result: CatgaResult[bytes]) -> int:
    """Print what came of a call; return the exit code."""
    nobody = result.code is ErrorCode.UNIMPLEMENTED and result.delivery is Delivery.NOT_EXECUTED
    code = DONE if result.is_success else NOBODY if nobody else FAILED
    value = "null" if result.value is None else result.value.decode("utf-8")
    reason = result.code.name if isinstance(result.code, ErrorCode) else result.code
    if args.json:
        document = {
            "isSuccess": result.is_success,
            "error": result.error,
            "code": reason,
            "delivery": result.delivery.name,
            "nodeId": result.node_id,
            "requestId": result.request_id,
            "processingTimeMs": result.processing_time_ms,
        }
        # The answer as it came: read and written again, a number could lose digits.
        print(f'{json.dumps(document)[:-1]}, "value": {value}}}')
    elif result.is_success:
        print(value)
    else:
        _say(f"{result.error} (code {reason or '-'}, delivery {result.delivery.name})")
    return code


def _drain(args: argparse.Namespace) -> int:
    options, _ = options_for(args, _DRAIN_TIMEOUT)
    started = time.monotonic()
    with OperatorClient(options) as client:
        node = _named(client.nodes(), args.node, "NODE", client.where).node
        _say(f"{node.node_id}: asking {node.endpoint} to go offline")
        outcome = client.drain(node, lambda text: _say(f"{node.node_id}: {text}"))
    took = f"after {time.monotonic() - started:.1f} s"
    texts = {
        "idle": f"drained {took}; it can be ended",
        "restarted": f"it was restarted meanwhile, {took}; what ran before is over",
        "gone": f"it is gone, {took}",
        None: f"not drained {took}; calls still run there, or it does not answer (--timeout gives it longer)",
    }
    _say(f"{node.node_id}: {texts[outcome]}")
    if args.json:
        drained = outcome is not None
        _print_json({"cluster": options.cluster_name, "id": node.node_id, "drained": drained, "end": outcome})
    return FAILED if outcome is None else DONE


# -- parts ------------------------------------------------------------------------------------------------------------


def _payload(text: str) -> bytes:
    raw = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    try:
        jsontext.loads(raw)
    except SerializationError as exc:
        raise CommandFailed(str(exc)) from exc
    return raw


def _named(seen: Sequence[Seen], node_id: str, option: str, where: str) -> Seen:
    for each in seen:
        if each.node.node_id == node_id:
            return each
    there = ", ".join(each.node.node_id for each in seen[:5]) + (", ..." if len(seen) > 5 else "")
    known = f"there are {there}" if there else "there is none"
    raise CommandFailed(f"{option}: no node {shown(node_id)} in {where}; {known}")


def _response_name(seen: Sequence[Seen], name: str, entry: MessageType | None) -> str | None:
    if entry is not None:
        return entry.response_name
    return next((each.responses[name] for each in seen if name in each.responses), None)


def _nobody(name: str, seen: Sequence[Seen], verdicts: Verdicts, where: str) -> tuple[ErrorCode, str]:
    reasons = {each.node.node_id: reason for each, reason in verdicts.excluded if each.node.may_handle(name)}
    return absence(name, [each.node for each in seen], reasons, StoreView(where), None)


def _node_json(seen: Seen) -> dict[str, Any]:
    node = seen.node
    return {
        "id": node.node_id,
        "endpoint": node.endpoint,
        "status": node.status.name,
        "load": node.load,
        "incarnation": node.incarnation,
        "heartbeatAge": None if seen.age is None else round(seen.age, 3),
        "types": None if node.handles is None else sorted(node.handles),
        "trouble": seen.trouble,
    }


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print(_clean("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))


def _warn(seen: Sequence[Seen]) -> None:
    for each in seen:
        if each.trouble is not None:
            _say(f"{each.node.node_id}: {each.trouble}")


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(_clean(text), file=sys.stderr, flush=True)


def _complain(text: str, code: int) -> int:
    _say(f"catga-sync: {text}")
    return code

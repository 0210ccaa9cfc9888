"""The commands of ``catga-sync``: each prints its findings and returns its exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

from catga_sync._redaction import shown
from catga_sync.cli.client import OperatorClient, Seen, Verdicts, judge
from catga_sync.cli.options import CommandFailed, options_for
from catga_sync.cli.output import node_json, print_json, print_line, print_table, say, warn
from catga_sync.cluster.absence import StoreView, absence, empty
from catga_sync.errors import Delivery, ErrorCode, SerializationError
from catga_sync.results import CatgaResult
from catga_sync.serialization import MessageType, jsontext

__all__ = ["DONE", "FAILED", "UNREACHED", "WRONG", "call", "drain", "explain", "nodes", "types"]

#: Exit codes.
DONE, FAILED, WRONG, UNREACHED = range(4)

#: Seconds for a drain without ``--timeout``: running calls get 30 s by default, and other nodes need time to notice.
_DRAIN_TIMEOUT = 60.0


def nodes(args: argparse.Namespace) -> int:
    """List the nodes."""
    options, _ = options_for(args)
    with OperatorClient(options) as client:
        seen, where = client.nodes(), client.where
        asked = [client.look(endpoint, node_id, seen) for node_id, endpoint in args.endpoint]
    troubled = any(each.trouble for each in asked)
    code = FAILED if troubled else DONE if seen or asked else UNREACHED
    if args.json:
        lists = {"nodes": [node_json(each) for each in seen], "asked": [node_json(each) for each in asked]}
        print_json({"cluster": options.cluster_name, "where": where, **lists})
        return code
    warn([*seen, *asked])
    if not seen:
        say(empty(where))
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
    print_table(("NODE", "ENDPOINT", "STATUS", "LOAD", "RUN", "HEARTBEAT", "TYPES"), rows)
    return code


def types(args: argparse.Namespace) -> int:
    """List the request types and the nodes that handle them."""
    options, _ = options_for(args)
    with OperatorClient(options) as client:
        seen, where = client.nodes(ask_all=True), client.where
    code = DONE if seen else UNREACHED
    nodes_of: dict[str, list[Seen]] = {}
    for each in seen:
        for name in each.node.handles or ():
            nodes_of.setdefault(name, []).append(each)
    responses = {
        name: sorted({each.responses[name] for each in nodes_of[name] if name in each.responses}) for name in nodes_of
    }
    if args.json:
        entries = [
            {"type": name, "responses": responses[name], "nodes": [each.node.node_id for each in nodes_of[name]]}
            for name in sorted(nodes_of)
        ]
        silent = [each.node.node_id for each in seen if each.node.handles is None]
        print_json({"cluster": options.cluster_name, "where": where, "types": entries, "silent": silent})
        return code
    warn(seen)
    if not nodes_of:
        say(empty(where) if not seen else f"no node in {where} declares that it handles a type")
        return code
    rows = [
        (name, " | ".join(responses[name]) or "-", " ".join(each.node.node_id for each in nodes_of[name]))
        for name in sorted(nodes_of)
    ]
    print_table(("TYPE", "RESPONSE", "NODES"), rows)
    return DONE


def explain(args: argparse.Namespace) -> int:
    """Show which nodes may take a request of a type, and whether the request fits it."""
    payload = None if args.payload is None else _payload(args.payload)
    options, registry = options_for(args)
    entry = None if registry is None else registry.find(args.type)
    misfit = None if payload is None or entry is None else _misfit(payload, entry)
    name, contract = (args.type, None) if entry is None else (entry.name, entry.contract)
    with OperatorClient(options) as client:
        seen, where = client.nodes(ask_all=True), client.where
    verdicts = judge(seen, name, contract)
    response = _response_name(verdicts.candidates, name, entry)
    code = UNREACHED if not verdicts.candidates else DONE if misfit is None else FAILED
    if args.json:
        document = {
            "cluster": options.cluster_name,
            "type": name,
            "response": response,
            "contractCompared": contract is not None,
            "misfit": misfit,
            "candidates": [node_json(each) for each in verdicts.candidates],
            "excluded": [{**node_json(each), "reason": reason} for each, reason in verdicts.excluded],
        }
        print_json(document)
        return code
    warn(verdicts.candidates)
    suffix = "" if response is None else f" -> {response}"
    print_line(f"{name}{suffix}: {len(verdicts.candidates)} of {len(seen)} nodes can handle it")
    for each in verdicts.candidates:
        node = each.node
        print_line(f"  + {node.node_id:24} {node.endpoint:32} {node.status.name} load {node.load:g}")
    for each, reason in verdicts.excluded:
        print_line(f"  x {each.node.node_id:24} {reason}")
    if misfit is not None:
        print_line(f"  x the request does not fit: {misfit}")
    if contract is None:
        forms = {each.node.contracts.get(name) for each in verdicts.candidates}
        differ = "; the nodes differ in theirs" if len(forms) > 1 else ""
        print(f"    the sender's form of the type is not known here and not compared (see --app){differ}")
    if not verdicts.candidates:
        say(_why_none(name, seen, verdicts, where)[1])
    return code


def call(args: argparse.Namespace) -> int:
    """Send one request, once."""
    payload = _payload(args.payload)
    options, registry = options_for(args)
    entry = None if registry is None else registry.find(args.type)
    name = args.type if entry is None else entry.name
    with OperatorClient(options) as client:
        every_node = client.nodes(ask_all=True)
        seen = every_node if args.node is None else [_named(every_node, args.node, "--node", client.where)]
        verdicts = judge(seen, name, None if entry is None else entry.contract)
        if not verdicts.candidates:
            code, text = _why_none(name, every_node, verdicts, client.where)
            if args.node is not None:
                text = f"{args.node} cannot take {name}: {verdicts.excluded[0][1]}"
            _ended(args, CatgaResult.failure(text, code, delivery=Delivery.NOT_EXECUTED))
            return UNREACHED
        chosen = min(verdicts.candidates, key=lambda each: (bool(each.trouble), each.node.load, each.node.node_id))
        response = _response_name([chosen, *every_node], name, entry) if args.response is None else args.response
        if response is None:
            why = chosen.trouble or "it does not describe the type of its response"
            raise CommandFailed(f"--response: give the name of the response's type; of {chosen.node.node_id}: {why}")
        return _ended(args, client.call(chosen.node, name, payload, response))


def _ended(args: argparse.Namespace, result: CatgaResult[bytes]) -> int:
    """Print what came of a call; return the exit code."""
    unreached = result.code is ErrorCode.UNIMPLEMENTED and result.delivery is Delivery.NOT_EXECUTED
    code = DONE if result.is_success else UNREACHED if unreached else FAILED
    value = "null" if result.value is None else result.value.decode("utf-8")
    if args.json:
        document = {
            "isSuccess": result.is_success,
            "error": result.error,
            "code": result.code,
            "delivery": result.delivery,
            "nodeId": result.node_id,
            "requestId": result.request_id,
            "processingTimeMs": result.processing_time_ms,
        }
        # Printed as it came: a number that is read and written again could lose digits.
        print(f'{json.dumps(document)[:-1]}, "value": {value}}}')
    elif result.is_success:
        print(value)
    else:
        say(f"{result.error} (code {result.code or '-'}, delivery {result.delivery})")
    return code


def drain(args: argparse.Namespace) -> int:
    """Have a node go offline, and wait until nothing runs there."""
    options, _ = options_for(args, _DRAIN_TIMEOUT)
    started = time.monotonic()
    with OperatorClient(options) as client:
        node = _named(client.nodes(), args.node, "NODE", client.where).node
        say(f"{node.node_id}: asking {node.endpoint} to go offline")
        outcome = client.drain(node, lambda text: say(f"{node.node_id}: {text}"))
    took = f"after {time.monotonic() - started:.1f} s"
    texts = {
        "idle": f"drained {took}; it can be ended",
        "restarted": f"it was restarted meanwhile, {took}; what ran before is over",
        "gone": f"it is gone, {took}",
        None: f"not drained {took}; calls still run there, or it does not respond (--timeout gives it longer)",
    }
    say(f"{node.node_id}: {texts[outcome]}")
    if args.json:
        drained = outcome is not None
        print_json({"cluster": options.cluster_name, "id": node.node_id, "drained": drained, "end": outcome})
    return FAILED if outcome is None else DONE


def _payload(text: str) -> bytes:
    raw = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    try:
        jsontext.loads(raw)
    except SerializationError as exc:
        raise CommandFailed(str(exc)) from exc
    return raw


def _misfit(payload: bytes, entry: MessageType) -> str | None:
    """Return why a request does not fit its type; None if it does."""
    try:
        entry.codec.decode(payload)
    except SerializationError as exc:
        return str(exc)
    return None


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


def _why_none(name: str, seen: Sequence[Seen], verdicts: Verdicts, where: str) -> tuple[ErrorCode, str]:
    reasons = {each.node.node_id: reason for each, reason in verdicts.excluded if each.node.may_handle(name)}
    return absence(name, [each.node for each in seen], reasons, StoreView(where), None)

"""``catga-sync serve``: serve a mediator's node over gRPC until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import queue
import signal
from types import FrameType

from catga_sync.cli.options import CommandFailed, load
from catga_sync.cli.output import say
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.mediator import Mediator

__all__ = ["serve"]

#: Seconds for calls that run, without ``--timeout``.
_GRACE = 30.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(args: argparse.Namespace) -> int:
    """Serve until a signal; then go offline, and let the calls that run end. Return the exit code."""
    # Its put may interrupt itself, as a signal handler does; that of an Event may not.
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()

    def ask(number: int, frame: FrameType | None) -> None:
        # A second signal ends the process as if there were no handler.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        asked.put(number)

    before = [(each, signal.signal(each, ask)) for each in _SIGNALS]
    try:
        _serve(args, asked)
    finally:
        for each, handler in before:
            signal.signal(each, handler)
    return 0


def _serve(args: argparse.Namespace, asked: queue.SimpleQueue[int]) -> None:
    found = load(args.target, "MODULE:MEDIATOR")
    mediator = _mediator(found, args.target)
    from catga_sync.integrations.grpc import serve_grpc

    try:
        if asked.empty():
            server = serve_grpc(mediator, address=args.address, max_workers=args.workers)
            say(f"node {mediator.node.node_id} is served over gRPC on port {server.port}")
            asked.get()
            server.stop(_GRACE if args.timeout is None else args.timeout)
    finally:
        mediator.close()


def _mediator(found: object, name: str) -> ClusterMediator:
    if isinstance(found, ClusterMediator):
        if found.node.grpc_address is None:
            raise CommandFailed(
                f"{name} has no endpoint for gRPC: give it endpoint='grpc://host:port'; a node with an http:// "
                f"endpoint is served by the WSGI server of its app, such as gunicorn"
            )
        return found
    if isinstance(found, Mediator):
        raise CommandFailed(f"{name} is a local mediator: give what create_cluster() returns")
    module = name.partition(":")[0]
    if callable(found):
        raise CommandFailed(
            f"{name} is no mediator; a WSGI app is served by a WSGI server: gunicorn {name} "
            f"(or flask --app {module} run)"
        )
    raise CommandFailed(f"{name} is no mediator but {type(found).__name__}")

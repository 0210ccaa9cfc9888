"""The node of ``tests/process/app.py`` over gRPC: ``python -m tests.channels.grpc_app``. SIGTERM ends it gracefully."""

from __future__ import annotations

import signal

from catga_sync.integrations.grpc import serve_grpc
from tests.process.app import mediator

__all__ = ["main"]


def main() -> None:
    """Serve until SIGTERM comes."""
    server = serve_grpc(mediator, max_workers=8)
    signal.signal(signal.SIGTERM, lambda number, frame: server.stop(10))
    server.wait()


if __name__ == "__main__":
    main()

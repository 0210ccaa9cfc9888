"""The peers, each in a file of its own that both serves and calls.

Every module has two functions:

``command(port)``
    What Python runs as the server.
``connect(port, callers)``
    A context manager with one function for each thread that will call: text in, ``Told`` out. It is the same function
    again where threads may share a connection, as the peer's documentation has it.

Every peer makes an ``Ask`` of what arrives and a ``Told`` of what comes back. What a peer needs is imported in its
functions: a peer that is not installed fails by itself, and is told.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench.messages import Told

#: What a thread calls.
Asking = Callable[[str], Told]

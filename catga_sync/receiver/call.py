"""The metadata of a received call, and the state of its request while it is served."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catga_sync.context import Hop
from catga_sync.deadline import Deadline
from catga_sync.wire.frames import PROTOCOL
from catga_sync.wire.headers import STREAM_NONCE
from catga_sync.wire.stream_keys import StreamKeys

__all__ = ["UNKNOWN", "CallMeta", "Progress", "StreamOpening"]

#: The id of a request that has none yet.
UNKNOWN = "unknown"


@dataclass(slots=True)  # to make it frozen would take each call a microsecond
class CallMeta:
    """What comes with a request beside its envelope, such as HTTP headers. Nothing changes it."""

    request_id: str
    deadline: Deadline
    #: The nodes through which the call has come.
    chain: tuple[Hop, ...] = ()
    #: The node that sent the call, self-reported.
    source_node_id: str | None = None
    # W3C trace context as it came.
    traceparent: str | None = None
    tracestate: str | None = None
    #: The identity of the idempotency store on which the caller relies for sending the request again; None: no such
    #: store.
    store: str | None = None
    #: Returns whether the caller has closed its side of the connection; None where that cannot be determined.
    hung_up: Callable[[], bool] | None = None
    #: When the caller has sent the call, as it came; see ``CallContext.sent``.
    sent: str | None = None
    #: W3C baggage as it came, as far as it is usable.
    baggage: str | None = None
    #: The context of the application, as it came; it can be read.
    context_text: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StreamOpening:
    """A stream that a verified caller may open. Immutable."""

    #: Its nonce, of this node.
    nonce: str
    #: None where it is not signed.
    keys: StreamKeys | None

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the response, beside those of every response."""
        return {"Connection": "Upgrade", "Upgrade": PROTOCOL, STREAM_NONCE: self.nonce}


@dataclass(slots=True)
class Progress:
    """The state of one request while it is served. Not thread-safe; one request has one thread."""

    #: ``UNKNOWN`` until it is read.
    request_id: str = UNKNOWN
    #: Seconds that the caller gives the call; None where the header is missing or unreadable.
    timeout: float | None = None
    #: When it came, on the clock of ``time.monotonic``.
    arrived: float = field(default_factory=time.monotonic)
    #: The authenticated caller; see ``authentication.Verified``.
    caller: Any = None
    #: Whether the handler was started.
    executed: bool = False
    #: Whether the response is a stored one.
    replayed: bool = False
    #: How many stored responses a batch has.
    replayed_items: int = 0
    #: Names of the reasons of all refusals, the items of a batch included.
    refusals: tuple[str, ...] = ()
    #: Bytes of the body, once it is read.
    body_bytes: int = 0
    #: What begins after the response, where a stream is opened.
    stream: StreamOpening | None = None
    #: Whether the same request, received before, may have started its handler; it cannot be determined.
    uncertain: bool = False

    @property
    def executed_header(self) -> str:
        """The value of ``Catga-Executed``."""
        return "1" if self.executed else "unknown" if self.uncertain else "0"

    @property
    def elapsed(self) -> int:
        """Milliseconds since it came."""
        return int((time.monotonic() - self.arrived) * 1000.0)

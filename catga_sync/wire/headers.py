"""The names of the headers that travel with requests and responses.

The values are written by ``write_headers`` in ``transport/request_headers.py``, and for a call over a stream by
``CallHead`` in ``frames.py``.

Names are sent as they stand here. HTTP accepts them in any letter case: a ``RawRequest`` has them in lower case, so
they are looked up there by ``name.lower()``.
"""

from __future__ import annotations

__all__ = [
    "ACCEPT_ENCODING",
    "BAGGAGE",
    "CHAIN",
    "CONTEXT",
    "EXECUTED",
    "REPLAYED",
    "REQUEST_ID",
    "SENT",
    "SIGNATURE",
    "STORE",
    "STREAM_NONCE",
    "TIMEOUT",
    "TIMES",
    "TRACEPARENT",
    "TRACESTATE",
]

# Of a request.
REQUEST_ID = "Catga-Request-Id"
#: Milliseconds that the caller still has.
TIMEOUT = "Catga-Timeout-Ms"
#: The nodes through which the call has come; see ``call_path.py``.
CHAIN = "Catga-Chain"
#: The identity of the idempotency store on which the caller relies.
STORE = "Catga-Store"
#: Microseconds since the epoch when it was sent, by the clock of the receiver as far as the caller knows it. Not sent
#: where the caller does not know it.
SENT = "Catga-Sent"
#: The codings in which the caller takes the response, as in ``Accept-Encoding``; see ``compression.py``.
ACCEPT_ENCODING = "Catga-Accept-Encoding"
#: The context that the application gave to the call; see ``_context_text.py``.
CONTEXT = "Catga-Context"
# W3C trace context.
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
# W3C baggage.
BAGGAGE = "baggage"

# Of a response.
#: "1", "0" or "unknown": whether the handler was started.
EXECUTED = "Catga-Executed"
#: "1" for a stored response.
REPLAYED = "Catga-Replayed"
#: ``received,responded``: microseconds since the epoch by the clock of the node. Not signed.
TIMES = "Catga-Times"
#: The nonce of the node for a stream that begins; see ``stream_keys.py``.
STREAM_NONCE = "Catga-Stream-Nonce"

# Of both; see ``signatures.py``.
SIGNATURE = "Catga-Signature"

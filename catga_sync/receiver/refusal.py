"""Every way in which a node refuses a request, with the code and the HTTP status of each.

No other file of the receiver chooses a status.

Status 200 is for what could be read and cannot be run: a .NET caller reads no envelope that comes with another status.
"""

# ruff: noqa: PIE796 - reasons with one status and one code are members of their own, see Reason.__new__

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from catga_sync.errors import ErrorCode

__all__ = ["FAULT_TEXT", "OK", "Reason", "Refused"]

#: The HTTP status of a response that is no refusal.
OK = 200

#: The error text of a fault; the rest is in the log of the node.
FAULT_TEXT = "the node failed on this request; its log has the details"


class Reason(enum.Enum):
    """Why a request is refused."""

    # The request itself.
    UNREADABLE = 400, ErrorCode.INVALID_ARGUMENT
    NO_ROUTE = 404, ErrorCode.UNIMPLEMENTED
    WRONG_METHOD = 405, ErrorCode.UNIMPLEMENTED
    #: UNAVAILABLE, since it is the way to this node that is slow: another node may be tried.
    TOO_SLOW = 408, ErrorCode.UNAVAILABLE
    NO_LENGTH = 411, ErrorCode.INVALID_ARGUMENT
    TOO_LONG = 413, ErrorCode.RESOURCE_EXHAUSTED
    MEDIA_TYPE = 415, ErrorCode.INVALID_ARGUMENT
    #: The route of the stream was asked without an upgrade, or a proxy has dropped it.
    NO_UPGRADE = 426, ErrorCode.UNIMPLEMENTED

    # Its caller.
    UNAUTHENTICATED = 401, ErrorCode.UNAUTHENTICATED
    NOT_ALLOWED = 403, ErrorCode.PERMISSION_DENIED
    #: The caller relies on an idempotency store that the node does not have.
    OTHER_STORE = 412, ErrorCode.FAILED_PRECONDITION
    #: The request is signed for another run of the node.
    OTHER_RUN = 421, ErrorCode.UNAVAILABLE

    # Its time.
    EXPIRED = 504, ErrorCode.DEADLINE_EXCEEDED
    HUNG_UP = 504, ErrorCode.CANCELLED

    # This node.
    FAULT = 500, ErrorCode.INTERNAL
    DRAINING = 503, ErrorCode.UNAVAILABLE
    BUSY = 503, ErrorCode.RESOURCE_EXHAUSTED
    NO_MEMORY = 503, ErrorCode.RESOURCE_EXHAUSTED
    #: The keys or the nonces cannot be read.
    CANNOT_VERIFY = 503, ErrorCode.UNAVAILABLE
    #: The idempotency store cannot be asked.
    STORE_DOWN = 503, ErrorCode.UNAVAILABLE

    # What the envelope asks for.
    UNKNOWN_TYPE = 200, ErrorCode.UNIMPLEMENTED
    NO_HANDLER = 200, ErrorCode.UNIMPLEMENTED
    WRONG_RESPONSE_TYPE = 200, ErrorCode.INVALID_ARGUMENT
    WRONG_PAYLOAD = 200, ErrorCode.INVALID_ARGUMENT
    #: The responses of a batch are together too long.
    RESPONSE_TOO_LONG = 200, ErrorCode.RESOURCE_EXHAUSTED

    # A request id that was seen before.
    OTHER_PAYLOAD = 200, ErrorCode.INVALID_ARGUMENT
    STILL_RUNNING = 200, ErrorCode.ABORTED
    #: The process that ran it has died.
    LEFT_BEHIND = 200, ErrorCode.ABORTED
    RESPONSE_NOT_KEPT = 200, ErrorCode.DATA_LOSS
    RESPONSE_SPOILT = 200, ErrorCode.DATA_LOSS

    status: int
    code: ErrorCode

    def __new__(cls, status: int, code: ErrorCode) -> Reason:
        """Two reasons with one status and one code are two members: the value is a number of its own."""
        made = object.__new__(cls)
        made._value_ = len(cls.__members__)
        made.status = status
        made.code = code
        return made


class Refused(Exception):
    """
    The request is refused before its handler starts.

    Args:
        reason: Why.
        text: For the caller; it is logged, too, where there is no ``cause``.
        headers: Of the response, beside those of every response.
        caller: The authenticated caller, for a refusal that is to be signed; None leaves it unsigned.
        cause: Why, for the log of this node alone.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        headers: Mapping[str, str] | None = None,
        caller: Any = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.headers = {} if headers is None else headers
        self.caller = caller
        self.cause = cause

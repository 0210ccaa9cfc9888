"""The JSON of the API server: pages of a list, events of a watch, and the Status objects of its refusals.

Rules of this file:
1. Pure: no I/O, no clock, no state.
2. JSON that is not as documented is an error. An error text shows at most one printable line of it.
"""

from __future__ import annotations

import contextlib
from typing import Any

from catga_sync._checks import is_number
from catga_sync._redaction import escaped
from catga_sync.errors import CatgaError, SerializationError
from catga_sync.serialization import jsontext

__all__ = ["KubernetesApiError", "ListAgain", "read_event", "read_page", "refusal"]

#: The longest wait in seconds that a server may ask for.
_LONGEST_RETRY_AFTER = 300.0
_RULE = "a Role with apiGroups [discovery.k8s.io], resources [endpointslices], verbs [get, list, watch]"


class KubernetesApiError(CatgaError):
    """
    The API server did not list the nodes; the text says why and, where possible, what to do.

    Args:
        message: The text.
        status: The HTTP status; None without a response.
        retry_after: Seconds that the server asks to wait; None when it does not.

    .. versionadded:: 0.1
    """

    def __init__(self, message: str = "", *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ListAgain(KubernetesApiError):
    """A change may have been missed: the version is gone (410), or a response is cut off or not as documented."""


def read_page(body: bytes) -> tuple[str, list[Any], str]:
    """Return the version of a page of a list, its items, and the token of the next page; "" at the end."""
    page = _object(body)
    items, metadata = page.get("items"), page.get("metadata")
    if page.get("kind") != "EndpointSliceList" or not isinstance(metadata, dict):
        raise ListAgain("the API server did not respond with an EndpointSliceList")
    more = metadata.get("continue") or ""
    if not isinstance(items, (list, type(None))) or not isinstance(more, str):
        raise ListAgain("items: a list is expected; metadata.continue: a text is expected")
    return _version(metadata), items or [], more


def read_event(line: bytes) -> tuple[str, dict[str, Any], str]:
    """Return the kind of an event, its object and the object's version; raise the error of an ERROR event."""
    event = _object(line)
    kind, item = event.get("type"), event.get("object")
    if kind == "ERROR" and isinstance(item, dict):
        status = 410 if item.get("reason") in ("Expired", "Gone") else item.get("code")
        raise _failure("the watch ended with an error", status if isinstance(status, int) else None, None, item)
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(item, dict):
        raise ListAgain(f"the watch sent something that is not an event: {str(kind)[:40]!a}")
    return kind, item, _version(item.get("metadata"))


def refusal(status: int, body: bytes, retry_after: str | None, *, namespace: str, url: str) -> KubernetesApiError:
    """Return the error for a response that is not a 200; its body is usually a Status object."""
    details: Any = None
    with contextlib.suppress(ListAgain):
        details = _object(body)
    text = {
        401: "the API server does not accept the token in token_file (401)",
        403: f"the service account may not list and watch EndpointSlices in namespace {namespace!r} (403); it needs "
        f"{_RULE}, and a RoleBinding to it",
        404: f"{url} has no EndpointSlices (404): Kubernetes from 1.21 on has discovery.k8s.io/v1",
        410: "the API server no longer has that version",
    }.get(status, f"the API server responded with {status}")
    return _failure(text, status, retry_after, details)


def _failure(text: str, status: int | None, retry_after: str | None, details: Any) -> KubernetesApiError:
    """Return the error for a status; its text ends with the message of the Status object."""
    fields = details if isinstance(details, dict) else {}
    message = fields.get("message")
    if isinstance(message, str) and message:
        text = f"{text}: {escaped(message)}"
    inner = fields.get("details")
    seconds: Any = inner.get("retryAfterSeconds") if isinstance(inner, dict) else None
    # API servers never send a date here.
    if retry_after is not None and retry_after.isdecimal() and len(retry_after) < 10:
        seconds = int(retry_after)
    if not is_number(seconds) or seconds <= 0:
        seconds = None
    error = ListAgain if status == 410 else KubernetesApiError
    return error(text, status=status, retry_after=seconds and min(float(seconds), _LONGEST_RETRY_AFTER))


def _object(text: bytes) -> dict[str, Any]:
    try:
        parsed = jsontext.loads(text)
    except SerializationError as exc:
        raise ListAgain(f"the API server's response is not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise ListAgain("the API server's response is not a JSON object")
    return parsed


def _version(metadata: Any) -> str:
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not 0 < len(version) <= 128:
        raise ListAgain("metadata.resourceVersion: a text is expected")
    return version

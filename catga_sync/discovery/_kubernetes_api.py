"""The requests to the API server: one list, one watch, and what went wrong in words.

Rules of this file:
1. The token goes to the API server and nowhere else: no redirect, no proxy, no text. It is read for every request, so
   none is ever older than the request that carries it.
2. The server's certificate is always checked. Plain HTTP is for loopback, where ``kubectl proxy`` listens.
3. Nothing is read without a bound on its size and on the time that it may take.
4. A connection lives for one request, and whoever holds the ``Line`` can end it at any moment.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from catga_sync._clock import Clock
from catga_sync.discovery._kubernetes_line import Line
from catga_sync.errors import CatgaError, SerializationError
from catga_sync.redaction import cause_of
from catga_sync.serialization import jsontext

__all__ = ["ApiServer", "Gone", "KubernetesApiError", "Unreadable"]

#: Bytes of a page of a list, of one event, of the text that explains a refusal, of a token.
MAX_PAGE, MAX_EVENT, _MAX_STATUS, _MAX_TOKEN = 32 << 20, 8 << 20, 64 << 10, 64 << 10
#: Slices on a page: one of 1,000 endpoints, the most there can be, has about 400 KB. Pages: with the 100 endpoints that
#: the control plane puts into a slice, 100,000 nodes.
_PAGE, _MAX_PAGES = 50, 20
MAX_SLICES = _PAGE * _MAX_PAGES
#: Seconds for a connection; a lost first packet is sent again after one.
_CONNECT_TIMEOUT = 2.0
#: Seconds for a whole list.
_LIST_TIMEOUT = 30.0
#: Seconds that a server may ask us to stay away; more is taken for this much.
_LONGEST_RETRY_AFTER = 300.0

_RULE = "a Role with apiGroups [discovery.k8s.io], resources [endpointslices], verbs [get, list, watch]"


class KubernetesApiError(CatgaError):
    """
    The API server did not give what was asked for; the text says why and, where one can, what to do.

    Args:
        message: The text.
        status: The HTTP status; None when there was no answer.
        retry_after: Seconds for which the server asks to be left alone; None when it does not.

    .. versionadded:: 0.1
    """

    def __init__(self, message: str = "", *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Gone(KubernetesApiError):
    """The version to go on from is not kept any more: list anew."""


class Unreadable(KubernetesApiError):
    """What came is cut off or is not what it should be, so something may have been missed: list anew."""


class ApiServer:
    """
    Ask for the EndpointSlices of one service. Thread-safe; makes no use of anything until it is asked.

    Args:
        url: Scheme, host and port.
        token_file: None sends no token.
        ca_file: CA certificates that the server's must come from. None means the usual public ones.
        timeout: Seconds of silence after which an answer is given up.
        clock: Bounds the time of an answer.
    """

    def __init__(
        self, url: str, *, token_file: Path | None, ca_file: Path | None, timeout: float, clock: Clock
    ) -> None:
        self.url = url
        self._token_file = token_file
        self._ca_file = ca_file
        self._timeout = timeout
        self._clock = clock

    def list(self, namespace: str, service: str, line: Line) -> tuple[str, list[Any]]:
        """
        Return the version of the list and all its items.

        No version is asked for, which means the newest: an API server that lags behind the others must not take this
        process back in time.
        """
        deadline = self._clock.monotonic() + _LIST_TIMEOUT
        version, items, more = "", [], ""
        for _ in range(_MAX_PAGES):
            parameters = {**_selector(service), "limit": str(_PAGE), **({"continue": more} if more else {})}
            with self._get(namespace, parameters, line, deadline) as raw:
                page = _parse(b"".join(self._chunks(raw, MAX_PAGE, line)))
            found, metadata = page.get("items"), page.get("metadata")
            if page.get("kind") != "EndpointSliceList" or not isinstance(metadata, dict):
                raise Unreadable("the API server did not answer with an EndpointSliceList")
            if found is not None and not isinstance(found, list):
                raise Unreadable("items: a list is expected")
            # The first page's: should a later one be newer, the watch tells again what this list has already.
            version = version or _version(metadata)
            items += found or []
            more = metadata.get("continue") or ""
            if not isinstance(more, str):
                raise Unreadable("metadata.continue: a text is expected")
            if not more:
                return version, items
        raise Unreadable(f"the service has more than {MAX_SLICES} EndpointSlices")

    def watch(
        self, namespace: str, service: str, version: str, line: Line, *, seconds: int, idle: float
    ) -> Generator[tuple[str, dict[str, Any], str], None, None]:
        """
        Yield what happens after ``version``: kind of event, object, its version. It ends when the server ends it.

        The first item is ``("OPEN", {}, version)``: the server has accepted.

        Args:
            namespace: The one to look in.
            service: The service whose slices count.
            version: Where to go on.
            line: Holds the connection.
            seconds: When the server is to end it.
            idle: Seconds of silence after which the connection is taken for dead. A server sends a bookmark about
                once a minute.
        """
        deadline = self._clock.monotonic() + seconds + idle
        parameters = {
            **_selector(service),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        with self._get(namespace, parameters, line, deadline) as raw:
            yield "OPEN", {}, version
            line.be_patient(idle)
            rest = bytearray()
            for chunk in self._chunks(raw, None, line):
                seen = len(rest)
                rest += chunk
                end = rest.find(b"\n", seen)
                while end >= 0:
                    if text := bytes(rest[:end]).strip():
                        yield _event(_parse(text))
                    del rest[: end + 1]
                    end = rest.find(b"\n")
                if len(rest) > MAX_EVENT:
                    raise Unreadable(f"an event has more than {MAX_EVENT} bytes")
            if rest.strip():
                raise Unreadable("the watch ended in the middle of an event")

    @contextlib.contextmanager
    def _get(self, namespace: str, parameters: Mapping[str, str], line: Line, deadline: float) -> Iterator[Any]:
        """Send a request, and yield the body of the answer if it is a good one."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "catga-sync"}
        if self._token_file is not None:
            headers["Authorization"] = f"Bearer {self._token(self._token_file)}"
        if self._ca_file is not None and not self._ca_file.is_file():
            raise KubernetesApiError(f"ca_file: {self._ca_file} is not there; a pod finds its service account's there")
        url = f"{self.url}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        with contextlib.closing(line), contextlib.closing(_Adapter(line)) as adapter:
            line.expires = deadline
            try:
                # Not through a session: even with redirects off it reads all of a redirect's body, however long.
                answer = adapter.send(
                    requests.Request("GET", url, headers=headers, params=dict(parameters)).prepare(),
                    stream=True,
                    timeout=(min(_CONNECT_TIMEOUT, self._timeout), self._timeout),
                    verify=True if self._ca_file is None else str(self._ca_file),
                )
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as exc:
                raise KubernetesApiError(f"the API server at {self.url} cannot be reached: {_cause(exc)}") from exc
            with contextlib.closing(answer):
                if answer.status_code != 200:
                    raise self._refusal(answer, namespace, line)
                if answer.headers.get("Content-Encoding", "identity") != "identity":
                    raise Unreadable("the API server answered in a content coding that was not asked for")
                yield answer.raw

    def _chunks(self, raw: Any, limit: int | None, line: Line) -> Iterator[bytes]:
        """Yield the body as it comes; the end is a good end."""
        size = 0
        while True:
            try:
                chunk = raw.read1(1 << 16, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError as exc:
                raise KubernetesApiError("the API server has fallen silent") from exc
            except (urllib3.exceptions.HTTPError, OSError) as exc:
                raise Unreadable(f"the answer of the API server was cut off: {_cause(exc)}") from exc
            if not chunk:
                return
            size += len(chunk)
            if limit is not None and size > limit:
                raise Unreadable(f"the API server's answer has more than {limit} bytes")
            if self._clock.monotonic() > line.expires:
                raise KubernetesApiError("the API server's answer does not come to an end")
            yield chunk

    def _token(self, file: Path) -> str:
        try:
            with file.open("rb") as opened:
                token = opened.read(_MAX_TOKEN + 1).strip()
        except OSError as exc:
            raise KubernetesApiError(
                f"token_file: {file} cannot be read ({exc.strerror}); a pod finds its service account's there unless "
                f"automountServiceAccountToken is false"
            ) from exc
        # Never shown, whatever it is: a token with a line break in it would be a header of its own.
        if not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.decode("ascii").isprintable():
            raise KubernetesApiError(f"token_file: {file} has no token in it")
        return token.decode("ascii")

    def _refusal(self, answer: requests.Response, namespace: str, line: Line) -> KubernetesApiError:
        status = answer.status_code
        details: Any = None
        with contextlib.suppress(KubernetesApiError):
            details = _parse(b"".join(self._chunks(answer.raw, _MAX_STATUS, line)))
        said = _said(details)
        if status == 410:
            return Gone(f"the API server no longer has that version{said}", status=status)
        if status == 401:
            text = f"the API server does not accept the token in {self._token_file} (401){said}"
        elif status == 403:
            text = (
                f"the service account may not list and watch EndpointSlices in namespace {namespace!r} (403); it needs "
                f"{_RULE}, and a RoleBinding to it{said}"
            )
        elif status == 404:
            text = f"{self.url} has no EndpointSlices (404): Kubernetes from 1.21 on has discovery.k8s.io/v1{said}"
        else:
            text = f"the API server answered {status}{said}"
        return KubernetesApiError(
            text, status=status, retry_after=_retry_after(answer.headers.get("Retry-After"), details)
        )


class _Held:
    """What the plain and the TLS connection have in common: the line knows their socket."""

    line: Line
    sock: Any

    def _new_conn(self) -> Any:
        sock = super()._new_conn()  # type: ignore[misc]  # of the connection that this is mixed into
        self.line.hold(sock)
        return sock

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # likewise
        self.line.reader = self.sock


class _Connection(_Held, HTTPConnection):
    pass


class _TlsConnection(_Held, HTTPSConnection):
    pass


class _Adapter(HTTPAdapter):
    """Connections whose sockets a line holds."""

    def __init__(self, line: Line) -> None:
        self._line = line
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        pool: Any = super().get_connection_with_tls_context(request, verify, proxies, cert)
        if isinstance(pool, urllib3.HTTPSConnectionPool):
            pool.ConnectionCls = functools.partial(self._make, _TlsConnection)  # type: ignore[assignment]
            context = urllib3.util.ssl_.create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
            # From Python 3.13 on certificates must be written by the book (RFC 5280), which those of many clusters are
            # not (https://github.com/kubernetes-client/python/issues/2394). Chain, time and name are checked all
            # the same.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            pool.conn_kw["ssl_context"] = context
        else:
            pool.ConnectionCls = functools.partial(self._make, _Connection)
        return pool

    def _make(self, cls: Any, **options: Any) -> Any:
        connection = cls(**options)
        connection.line = self._line
        return connection


def _selector(service: str) -> dict[str, str]:
    return {"labelSelector": f"kubernetes.io/service-name={service}"}


def _parse(text: bytes) -> dict[str, Any]:
    try:
        parsed = jsontext.loads(text)
    except SerializationError as exc:
        raise Unreadable(f"the API server's answer is not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise Unreadable("the API server's answer is not a JSON object")
    return parsed


def _event(event: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    kind, item = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(item, dict):
        raise Unreadable("the watch sent something that is no event")
    if kind == "ERROR":
        status = item.get("code")
        if status == 410 or item.get("reason") in ("Expired", "Gone"):
            raise Gone(f"the API server no longer has that version{_said(item)}", status=410)
        known = status if isinstance(status, int) else None
        raise KubernetesApiError(
            f"the watch ended with an error{_said(item)}", status=known, retry_after=_retry_after(None, item)
        )
    metadata = item.get("metadata")
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(metadata, dict):
        raise Unreadable(f"the watch sent an event of an unknown kind: {kind[:40]!r}")
    return kind, item, _version(metadata)


def _version(metadata: dict[str, Any]) -> str:
    version = metadata.get("resourceVersion")
    if not isinstance(version, str) or not 0 < len(version) <= 128:
        raise Unreadable("metadata.resourceVersion: a text is expected")
    return version


def _retry_after(header: str | None, status: Any) -> float | None:
    """Return the seconds that are asked for, in the header or in the Status object. No API server writes a date."""
    if header is not None and header.isdecimal() and len(header) < 10:
        return min(float(header), _LONGEST_RETRY_AFTER)
    details = status.get("details") if isinstance(status, dict) else None
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0:
        return min(float(seconds), _LONGEST_RETRY_AFTER)
    return None


def _said(status: Any) -> str:
    """Return what a Status object says, as the end of a sentence."""
    message = status.get("message") if isinstance(status, dict) else None
    if not isinstance(message, str) or not message:
        return ""
    return ": " + message[:300].encode("unicode_escape").decode("ascii")


def _cause(exc: BaseException) -> str:
    """Return the innermost reason on one line: what requests and urllib3 wrap around it repeats the address twice."""
    while True:
        inner = exc.__cause__ or exc.__context__
        if inner is None:
            return cause_of(exc)  # it may repeat what the server has sent
        exc = inner

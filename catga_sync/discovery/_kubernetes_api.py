"""The requests to the API server: list and watch.

Rules of this file:
1. The token is sent to the API server only: no redirect, no proxy, no error text. It is read again for every request.
2. The server's certificate is always checked. Plain HTTP is for loopback, where ``kubectl proxy`` listens.
3. Every read has a limit on its size and its time.
4. Each request has a connection of its own, which any thread can cut. ``http.client`` takes a socket that is made here;
   requests and urllib3 show theirs only after the response headers, so a thread that waits for those could not be
   stopped.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import random
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests.utils

from catga_sync._clock import Clock
from catga_sync._redaction import cause_of
from catga_sync.discovery._kubernetes_responses import KubernetesApiError, ListAgain, read_event, read_page, refusal
from catga_sync.discovery._kubernetes_slices import LABEL, Service

__all__ = ["MAX_SLICES", "ApiServer", "Pause", "Settings"]

#: Bytes of a page of a list, of one event, of the text that explains a refusal, of a file of the service account.
MAX_PAGE, MAX_EVENT, _MAX_STATUS, _MAX_FILE = 32 << 20, 8 << 20, 64 << 10, 64 << 10
#: A line break in a token would start another header. A token that fills the file to the limit may be cut.
_TOKEN = re.compile(f"[!-~]{{1,{_MAX_FILE - 1}}}")
#: Slices on a page (one of 1,000 endpoints, the maximum, has about 400 KB), and pages: the control plane puts 100
#: endpoints into a slice, which makes 100,000 nodes.
_PAGE, _MAX_PAGES = 50, 20
MAX_SLICES = _PAGE * _MAX_PAGES
#: Seconds for connecting (a lost first packet is sent again after one), and for a whole list.
_CONNECT_TIMEOUT, _LIST_TIMEOUT = 2.0, 30.0
#: Waits for an event or until seconds have passed.
Pause = Callable[[threading.Event, float], object]
#: The errors of connections, and of servers that speak another protocol.
_ERRORS = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Settings:
    """The arguments of ``KubernetesDiscovery``; see there. Immutable."""

    service: Service
    api_server: str
    token_file: Path | None
    ca_file: Path | None
    namespace_file: Path
    timeout: float
    watch_timeout: float
    idle_timeout: float
    clock: Clock
    pause: Pause
    rng: random.Random


class ApiServer:
    """
    List and watch the EndpointSlices of a Service, one request at a time.

    One thread lists and watches; any thread may call the other methods. Each failure is a ``KubernetesApiError``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: The monotonic time at which the current request has taken too long.
        self._deadline = math.inf
        self._closed = False
        # Reentrant: the garbage collector may call close() in a thread that holds it.
        self._lock = threading.RLock()
        # Guarded by _lock: a copy of the connection's descriptor. It is closed only here, so that its number is never
        # that of another connection when it is shut down.
        self._handle: socket.socket | None = None

    def namespace(self) -> str:
        """Return the namespace of the Service; that of the service account is read from its file."""
        service = self._settings.service
        cure = f"for the namespace write kubernetes://namespace/{service.name}"
        return service.namespace or _read("discovery", self._settings.namespace_file, LABEL, cure)

    def list(self) -> tuple[str, list[Any]]:
        """
        Return the version of the list and all its items.

        No version is asked for, which means the newest: an API server that lags behind could return an older state.
        """
        deadline = self._settings.clock.monotonic() + _LIST_TIMEOUT
        first, items, more = "", [], ""
        for _ in range(_MAX_PAGES):
            query = {"limit": str(_PAGE), **({"continue": more} if more else {})}
            with self._get(query, deadline, self._settings.timeout) as response:
                version, found, more = read_page(self._body(response, MAX_PAGE))
            # The version of the first page: if a later page is newer, the watch repeats some changes.
            first = first or version
            items += found
            if not more:
                return first, items
        raise ListAgain(f"the service has more than {MAX_SLICES} EndpointSlices")

    @contextlib.contextmanager
    def watch(self, version: str, seconds: int) -> Iterator[Iterator[tuple[str, dict[str, Any], str]]]:
        """
        Yield the events after ``version`` once the server has accepted the watch: kind, object, version of each.

        The server ends the watch after ``seconds``. Reading an event raises KubernetesApiError if the watch fails.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        idle, now = self._settings.idle_timeout, self._settings.clock.monotonic()
        with self._get({**query, "timeoutSeconds": str(seconds)}, now + seconds + idle, idle) as response:
            yield self._events(response)

    def cut_overdue(self) -> None:
        """Cut a request that takes too long where its own thread does not check the time, as in a header."""
        if self._settings.clock.monotonic() > self._deadline:
            self._cut()

    def close(self) -> None:
        """Cut the current request, and refuse any further one. Does not wait."""
        self._closed = True
        self._cut()

    @contextlib.contextmanager
    def _get(self, query: dict[str, str], deadline: float, patience: float) -> Iterator[http.client.HTTPResponse]:
        """Send a request and yield its response, a 200; each read of its body takes ``patience`` seconds at most."""
        settings, namespace = self._settings, self.namespace()
        query = {"labelSelector": f"kubernetes.io/service-name={settings.service.name}", **query}
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{urlencode(query)}"
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "catga-sync"}
        if settings.token_file is not None:
            cure = "a pod has a token there unless automountServiceAccountToken is false"
            headers["Authorization"] = f"Bearer {_read('token_file', settings.token_file, _TOKEN, cure)}"
        if settings.ca_file is not None and not settings.ca_file.is_file():
            raise KubernetesApiError(f"ca_file: {settings.ca_file} is not there; a pod has its service account's there")
        self._deadline = deadline
        with contextlib.ExitStack() as stack:
            try:
                connection = http.client.HTTPConnection(urlsplit(settings.api_server).netloc)
                connection.sock = sock = self._connect(stack)
                connection.request("GET", path, headers=headers)
                response = stack.enter_context(connection.getresponse())
                if not response.isclosed():
                    sock.settimeout(patience)
            except _ERRORS as exc:
                text = f"the API server at {settings.api_server} cannot be reached: {cause_of(exc)}"
                raise KubernetesApiError(text) from exc
            if response.status != 200:
                body, retry_after = b"", response.headers.get("Retry-After")
                with contextlib.suppress(KubernetesApiError):
                    body = self._body(response, _MAX_STATUS)
                raise refusal(response.status, body, retry_after, namespace=namespace, url=settings.api_server)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ListAgain("the API server used a content coding that was not asked for")
            yield response

    def _connect(self, stack: contextlib.ExitStack) -> socket.socket:
        settings, parts = self._settings, urlsplit(self._settings.api_server)
        is_tls = parts.scheme == "https"
        address = parts.hostname or "", parts.port or (443 if is_tls else 80)
        sock = stack.enter_context(socket.create_connection(address, min(_CONNECT_TIMEOUT, settings.timeout)))
        stack.callback(self._disconnect)
        with self._lock:
            self._handle = sock.dup()
            if self._closed:
                raise ConnectionAbortedError("the request is not wanted any more")
        if is_tls:
            context = ssl.create_default_context(cafile=settings.ca_file or requests.utils.DEFAULT_CA_BUNDLE_PATH)
            # From Python 3.13 on certificates must follow RFC 5280 strictly, which those of many clusters do not
            # (https://github.com/kubernetes-client/python/issues/2394). Chain, time and name are checked all the same.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            # A host name may end in a dot, the name in a certificate never does.
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=address[0].rstrip(".")))
        sock.settimeout(settings.timeout)
        return sock

    def _disconnect(self) -> None:
        self._deadline = math.inf
        with self._lock:
            # Not only closed: a copy in a forked process would keep the connection open.
            self._cut()
            handle, self._handle = self._handle, None
            if handle is not None:
                handle.close()

    def _cut(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the body as it comes; raise an error unless it ends properly."""
        try:
            # Only read1 is limited where the size of a chunk is below 0.
            while piece := response.read1(1 << 16):
                if self._settings.clock.monotonic() > self._deadline:
                    raise KubernetesApiError("the API server's response does not end")
                yield piece
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        except TimeoutError as exc:
            raise KubernetesApiError("the API server sends nothing more") from exc
        except _ERRORS as exc:
            raise ListAgain(f"the response of the API server was cut off: {cause_of(exc)}") from exc

    def _body(self, response: http.client.HTTPResponse, limit: int) -> bytes:
        body = bytearray()
        for piece in self._pieces(response):
            body += piece
            if len(body) > limit:
                raise ListAgain(f"the API server's response has more than {limit} bytes")
        return bytes(body)

    def _events(self, response: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any], str]]:
        rest = bytearray()
        for piece in self._pieces(response):
            rest += piece
            if b"\n" in piece:
                *lines, rest = rest.split(b"\n")
                yield from (read_event(bytes(line)) for line in lines if line.strip())
            if len(rest) > MAX_EVENT:
                raise ListAgain(f"an event has more than {MAX_EVENT} bytes")
        if rest.strip():
            raise ListAgain("the watch ended in the middle of an event")


def _read(option: str, file: Path, pattern: re.Pattern[str], cure: str) -> str:
    """Return the text in a file of the service account. No error shows the text: it may be a token."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_FILE).strip().decode("latin-1")
    except OSError as exc:
        raise KubernetesApiError(f"{option}: {file} cannot be read ({exc.strerror}); {cure}") from exc
    if not pattern.fullmatch(text):
        raise KubernetesApiError(f"{option}: the content of {file} is not valid; {cure}")
    return text

"""The requests to the API server: one list, one watch.

Rules of this file:
1. The token goes to the API server and nowhere else: no redirect, no proxy, no error text. It is read for every
   request, so none is ever older than the request that carries it.
2. The server's certificate is always checked. Plain HTTP is for loopback, where ``kubectl proxy`` listens.
3. Nothing is read without a limit on its size and its time.
4. Each request has a connection of its own, which any thread can cut. requests and urllib3 show a connection only once
   its headers have come, so a thread that waits for them could not be stopped; ``http.client`` takes a socket of ours.
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
from catga_sync.discovery._kubernetes_answers import KubernetesApiError, ListAgain, read_event, read_page, refusal
from catga_sync.discovery._kubernetes_slices import LABEL, Service

__all__ = ["MAX_SLICES", "ApiServer", "Pause", "Settings"]

#: Bytes of a page of a list, of one event, of the text that explains a refusal, of a file of the service account.
MAX_PAGE, MAX_EVENT, _MAX_STATUS, _MAX_FILE = 32 << 20, 8 << 20, 64 << 10, 64 << 10
#: A line break in a token would begin another header. One that fills the file to the limit may have been cut.
_TOKEN = re.compile(f"[!-~]{{1,{_MAX_FILE - 1}}}")
#: Slices on a page: one of 1,000 endpoints, the most there can be, has about 400 KB. Pages: with the 100 endpoints that
#: the control plane puts into a slice, 100,000 nodes.
_PAGE, _MAX_PAGES = 50, 20
MAX_SLICES = _PAGE * _MAX_PAGES
#: Seconds for a connection (a lost first packet is sent again after one), and for a whole list.
_CONNECT_TIMEOUT, _LIST_TIMEOUT = 2.0, 30.0
#: Waits for an event or until seconds have passed.
Pause = Callable[[threading.Event, float], object]
#: What a connection, or a server that speaks another protocol, may raise.
_ERRORS = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Settings:
    """What ``KubernetesDiscovery`` was made with; see there. Immutable."""

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
        #: When the request that is under way has taken too long.
        self._deadline = math.inf
        self._closed = False
        # Reentrant: the garbage collector may call close() in a thread that holds it.
        self._lock = threading.RLock()
        # Guarded by _lock: a copy of the connection's descriptor. It is closed here alone, so its number cannot have
        # become another connection's when it is shut down.
        self._handle: socket.socket | None = None

    def namespace(self) -> str:
        """Return the namespace of the Service; that of the service account is read from its file."""
        service = self._settings.service
        cure = f"for the namespace write kubernetes://namespace/{service.name}"
        return service.namespace or _read("discovery", self._settings.namespace_file, LABEL, cure)

    def list(self) -> tuple[str, list[Any]]:
        """
        Return the version of the list and all its items.

        No version is asked for, which means the newest: an API server that lags behind the others must not take this
        process back in time.
        """
        deadline = self._settings.clock.monotonic() + _LIST_TIMEOUT
        first, items, more = "", [], ""
        for _ in range(_MAX_PAGES):
            query = {"limit": str(_PAGE), **({"continue": more} if more else {})}
            with self._get(query, deadline, self._settings.timeout) as answer:
                version, found, more = read_page(self._body(answer, MAX_PAGE))
            # The first page's: should a later one be newer, the watch repeats what this list has already.
            first = first or version
            items += found
            if not more:
                return first, items
        raise ListAgain(f"the service has more than {MAX_SLICES} EndpointSlices")

    @contextlib.contextmanager
    def watch(self, version: str, seconds: int) -> Iterator[Iterator[tuple[str, dict[str, Any], str]]]:
        """
        Yield the events after ``version``, once the server has accepted: kind, object, version of each.

        The server ends them after ``seconds``. Reading one raises KubernetesApiError if the watch has failed.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        idle, now = self._settings.idle_timeout, self._settings.clock.monotonic()
        with self._get({**query, "timeoutSeconds": str(seconds)}, now + seconds + idle, idle) as answer:
            yield self._events(answer)

    def cut_overdue(self) -> None:
        """Cut a request that takes too long in a place where its own thread cannot notice, such as a header."""
        if self._settings.clock.monotonic() > self._deadline:
            self._cut()

    def close(self) -> None:
        """Cut the request that is under way, and refuse any further one. Does not wait."""
        self._closed = True
        self._cut()

    @contextlib.contextmanager
    def _get(self, query: dict[str, str], deadline: float, patience: float) -> Iterator[http.client.HTTPResponse]:
        """Send a request and yield the answer if it is a good one; ``patience`` is for each piece of its body."""
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
                answer = stack.enter_context(connection.getresponse())
                if not answer.isclosed():
                    sock.settimeout(patience)
            except _ERRORS as exc:
                text = f"the API server at {settings.api_server} cannot be reached: {cause_of(exc)}"
                raise KubernetesApiError(text) from exc
            if answer.status != 200:
                body, retry_after = b"", answer.headers.get("Retry-After")
                with contextlib.suppress(KubernetesApiError):
                    body = self._body(answer, _MAX_STATUS)
                raise refusal(answer.status, body, retry_after, namespace=namespace, url=settings.api_server)
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise ListAgain("the API server answered in a content coding that was not asked for")
            yield answer

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
            # From Python 3.13 on certificates must be written by the book (RFC 5280), which those of many clusters are
            # not (https://github.com/kubernetes-client/python/issues/2394). Chain, time and name are checked all
            # the same.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            # A name may end in a dot, which no certificate has.
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=address[0].rstrip(".")))
        sock.settimeout(settings.timeout)
        return sock

    def _disconnect(self) -> None:
        self._deadline = math.inf
        with self._lock:
            # Not only closed: a forked process may have a copy, and would keep it open.
            self._cut()
            handle, self._handle = self._handle, None
            if handle is not None:
                handle.close()

    def _cut(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._handle is not None:
                self._handle.shutdown(socket.SHUT_RDWR)

    def _pieces(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the body as it comes, up to its proper end."""
        try:
            # read1 only: the other ways to read a body have no limit where the size of a chunk is below 0.
            while piece := answer.read1(1 << 16):
                if self._settings.clock.monotonic() > self._deadline:
                    raise KubernetesApiError("the API server's answer does not come to an end")
                yield piece
            if answer.length:
                raise http.client.IncompleteRead(b"", answer.length)
        except TimeoutError as exc:
            raise KubernetesApiError("the API server has fallen silent") from exc
        except _ERRORS as exc:
            raise ListAgain(f"the answer of the API server was cut off: {cause_of(exc)}") from exc

    def _body(self, answer: http.client.HTTPResponse, limit: int) -> bytes:
        body = bytearray()
        for piece in self._pieces(answer):
            body += piece
            if len(body) > limit:
                raise ListAgain(f"the API server's answer has more than {limit} bytes")
        return bytes(body)

    def _events(self, answer: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any], str]]:
        rest = bytearray()
        for piece in self._pieces(answer):
            rest += piece
            if b"\n" in piece:
                *lines, rest = rest.split(b"\n")
                yield from (read_event(bytes(line)) for line in lines if line.strip())
            if len(rest) > MAX_EVENT:
                raise ListAgain(f"an event has more than {MAX_EVENT} bytes")
        if rest.strip():
            raise ListAgain("the watch ended in the middle of an event")


def _read(option: str, file: Path, pattern: re.Pattern[str], cure: str) -> str:
    """Return what a file of the service account holds. No error shows it: it may be a token."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_FILE).strip().decode("latin-1")
    except OSError as exc:
        raise KubernetesApiError(f"{option}: {file} cannot be read ({exc.strerror}); {cure}") from exc
    if not pattern.fullmatch(text):
        raise KubernetesApiError(f"{option}: {file} does not hold what it should; {cure}")
    return text

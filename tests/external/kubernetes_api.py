"""An API server for EndpointSlices: the part of Kubernetes that discovery talks to, over real HTTP(S), faults included.

    with KubernetesApi() as api:
        api.put(endpoint_slice("users-x7", pod("users-0", "10.0.0.1")))
        KubernetesDiscovery("kubernetes://shop/users", api_server=api.url, token_file=...).nodes()

What it speaks is https://kubernetes.io/docs/reference/using-api/api-concepts/: lists in pages, at a version of which
the server keeps a history for a while; watches that tell every change after a version, one JSON object a line.

Rules of this file:
1. An object is stored only if the official client reads it, and only as the official client writes it.
2. What the server says is what a real one says, in form and wording; ``test_kubernetes_api.py`` has the official client
   list and watch here.
3. No fault is a stub: a server that is down listens nowhere, one that hangs has taken the connection.
"""

from __future__ import annotations

import contextlib
import json
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import V1EndpointSlice

from tests import processes
from tests.external.kubernetes_objects import endpoint_slice, status
from tests.external.kubernetes_store import Change, Expired, Store

__all__ = ["Asked", "Fault", "Handler", "KubernetesApi"]

#: Seconds that a connection is kept, at most.
PATIENCE = 60.0

_END, _CUT = object(), object()


@dataclass(frozen=True)
class Asked:
    """A request that came. Immutable."""

    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def namespace(self) -> str:
        return self.path.split("/")[5]


@dataclass
class Fault:
    """What to do to requests in place of answering them."""

    #: "list", "watch", or "" for both.
    verb: str
    act: Callable[[Handler], None]
    #: How many more requests it befalls; None for all.
    times: int | None = None


class KubernetesApi:
    """
    The server. It runs while the ``with`` block does. Thread-safe.

    Args:
        tls: Certificate and key of the server, in a context; None means plain HTTP.
        host: Of the URL, which is what a certificate is checked against.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        #: The tokens that are accepted.
        self.tokens = {"token-1"}
        #: Whether they may list and watch.
        self.is_allowed = True
        #: Whether a watch from a version that is gone is refused, or accepted and then ended with an ERROR event.
        self.refuses_old_watches = False
        self.store = Store()
        self._tls = tls
        self._host = host
        # Not any port that is free: while the server is down no outgoing connection is to take it.
        self._port = processes.free_port()
        self._server: _Server | None = None
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._asked: list[Asked] = []
        self._faults: list[Fault] = []

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://{self._host}:{self._port}"

    def __enter__(self) -> KubernetesApi:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), self, self._tls)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="kubernetes-api", daemon=True).start()

    def stop(self) -> None:
        """Be down: listen nowhere, and end every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self._say(_CUT)
            for sock in list(server.open):
                _cut(sock)

    # -- what is there --------------------------------------------------------------------------------------------

    def put(self, item: V1EndpointSlice | dict[str, Any], namespace: str = "shop") -> None:
        """Create or replace a slice."""
        self.store.put(item, namespace)

    def delete(self, name: str, namespace: str = "shop") -> None:
        """Delete a slice."""
        self.store.delete(name, namespace)

    def age(self) -> None:
        """Change something that no watch of a test is told of, and forget all changes up to then."""
        self.put(endpoint_slice("other", service="other"), "elsewhere")
        self.store.compact()

    # -- what was asked -------------------------------------------------------------------------------------------

    @property
    def asked(self) -> list[Asked]:
        """Every request that came, the oldest first."""
        with self._lock:
            return list(self._asked)

    def count(self, verb: str) -> int:
        """Return how many requests of that kind came."""
        return sum(asked.verb == verb for asked in self.asked)

    @property
    def open_watches(self) -> int:
        return len(self.store.watches)

    # -- what happens to it ---------------------------------------------------------------------------------------

    def bookmark(self) -> None:
        """Tell the open watches the present version."""
        self.store.bookmark()

    def end_watches(self) -> None:
        """End the open watches in good order."""
        self._say(_END)

    def cut_watches(self) -> None:
        """Break the connections of the open watches."""
        self._say(_CUT)

    def say(self, text: bytes) -> None:
        """Send bytes to the open watches."""
        self._say(text)

    def error(self, item: dict[str, Any]) -> None:
        """Send an ERROR event to the open watches."""
        self._say(json.dumps({"type": "ERROR", "object": item}).encode() + b"\n")

    def _say(self, what: Any) -> None:
        for watch in self.store.watches:
            watch.put(what)

    def fault(self, verb: str, act: Callable[[Handler], None], times: int | None = None) -> Fault:
        """Have ``act`` called in place of an answer."""
        fault = Fault(verb, act, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def refuse(
        self, code: int, reason: str = "InternalError", verb: str = "", *, times: int | None = None, **headers: str
    ) -> Fault:
        """Answer with a status; an underscore in the name of a header stands for a hyphen."""
        body = status(code, reason, f"scripted {code}")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.fault(verb, lambda handler: handler.send_object(code, body, named), times)

    def hang(self, verb: str = "", times: int | None = None) -> Fault:
        """Take requests and say nothing, not even a header."""
        return self.fault(verb, lambda handler: handler.wait_for_end(), times)

    def heal(self) -> None:
        """Undo all faults."""
        with self._lock:
            self._faults.clear()
        self.is_allowed, self.refuses_old_watches, self.store.is_mute = True, False, False

    def note(self, asked: Asked) -> Fault | None:
        """Take note of a request; return the fault that befalls it."""
        with self._lock:
            self._asked.append(asked)
            for fault in self._faults:
                if fault.verb in ("", asked.verb) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _has_gone(sock: socket.socket) -> bool:
    """Return whether the client has closed its side. It has nothing to say while it is told what happens."""
    try:
        # Asked first: a socket with a timeout waits, whatever flag says that it should not.
        readable, _, _ = select.select([sock], [], [], 0)
        return bool(readable) and socket.socket.recv(sock, 1, socket.MSG_PEEK) == b""
    except (OSError, ValueError):
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], api: KubernetesApi, tls: ssl.SSLContext | None) -> None:
        self.api = api
        self.open: set[socket.socket] = set()
        self._tls = tls
        super().__init__(address, Handler)

    def get_request(self) -> tuple[Any, Any]:
        sock, address = super().get_request()
        sock.settimeout(PATIENCE)
        if self._tls is not None:
            try:
                sock.getpeername()
            except OSError:
                # Gone already: wrap_socket() would raise, and leave a socket behind that nobody can close.
                sock.close()
                raise
            # The handshake is made by the thread of the connection, when it first reads.
            sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.open.add(sock)
        return sock, address

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or does not trust the certificate, is no fault of the server."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: a test that fails shows what was asked."""

    def do_GET(self) -> None:
        api, parts = self.server.api, urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        verb = "watch" if query.get("watch") in ("true", "True", "1") else "list"
        asked = Asked(verb, parts.path, query, dict(self.headers.items()))
        fault = api.note(asked)
        if fault is not None:
            fault.act(self)
            return
        place = parts.path.split("/")
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in api.tokens:
            self.send_object(401, status(401, "Unauthorized", "Unauthorized"))
        elif place[1:5] != ["apis", "discovery.k8s.io", "v1", "namespaces"] or place[6:] != ["endpointslices"]:
            self.send_object(404, status(404, "NotFound", "the server could not find the requested resource"))
        elif not api.is_allowed:
            who = f'User "system:serviceaccount:{asked.namespace}:default" cannot {verb} resource "endpointslices"'
            text = f'endpointslices.discovery.k8s.io is forbidden: {who} in API group "discovery.k8s.io"'
            self.send_object(403, status(403, "Forbidden", text, group="discovery.k8s.io", kind="endpointslices"))
        else:
            try:
                self._list(asked) if verb == "list" else self._watch(asked)
            except Expired as exc:
                self.send_object(410, status(410, "Expired", str(exc)))

    # -- answers --------------------------------------------------------------------------------------------------

    def send_object(self, code: int, item: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        """Answer with one object."""
        self.send_raw(code, json.dumps(item).encode() + b"\n", headers)

    def send_raw(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer with a body, whatever it is."""
        given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        self.send_response(code)
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin_stream(self) -> None:
        """Answer with a body in chunks."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, data: bytes) -> None:
        """Send a chunk of the body; an empty one is the last."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def send_event(self, kind: str, item: dict[str, Any]) -> None:
        """Send an event of a watch."""
        self.send_chunk(json.dumps({"type": kind, "object": item}).encode() + b"\n")

    def wait_for_end(self) -> None:
        """Wait until the client has gone, or the server is stopped."""
        with contextlib.suppress(OSError):
            self.request.recv(1)
        self.close_connection = True

    def _list(self, asked: Asked) -> None:
        query = asked.query
        items, metadata = self.server.api.store.page(
            asked.namespace, query.get("labelSelector", ""), int(query.get("limit", 0)), query.get("continue", "")
        )
        head = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata}
        self.send_object(200, {**head, "items": items})

    def _watch(self, asked: Asked) -> None:
        api = self.server.api
        try:
            events = api.store.subscribe(int(asked.query.get("resourceVersion") or 0))
        except Expired as exc:
            if api.refuses_old_watches:
                raise
            self.begin_stream()
            self.send_event("ERROR", status(410, "Expired", str(exc)))
            self.send_chunk(b"")
            return
        try:
            self.begin_stream()
            self._tell(asked, events, time.monotonic() + float(asked.query.get("timeoutSeconds", PATIENCE)))
            self.send_chunk(b"")
        except OSError:
            self.close_connection = True
        finally:
            api.store.unsubscribe(events)

    def _tell(self, asked: Asked, events: queue.Queue[Any], end: float) -> None:
        while True:
            try:
                what = events.get(timeout=max(0.0, min(0.05, end - time.monotonic())))
            except queue.Empty:
                if _has_gone(self.request):
                    raise ConnectionAbortedError from None
                if time.monotonic() >= end:
                    return
                continue
            if what is _END:
                return
            if what is _CUT:
                _cut(self.request)
                raise ConnectionAbortedError
            if isinstance(what, bytes):
                self.send_chunk(what)
            elif isinstance(what, Change):
                for kind, item in what.seen_by(asked.namespace, asked.query.get("labelSelector", "")):
                    self.send_event(kind, item)
            elif asked.query.get("allowWatchBookmarks") in ("true", "True"):
                head = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": ""}
                metadata = {"resourceVersion": str(what), "creationTimestamp": None}
                self.send_event("BOOKMARK", {**head, "metadata": metadata, "endpoints": None, "ports": None})

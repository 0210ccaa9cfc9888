"""A peer that does what a node of Catga.Cluster (.NET) does, as far as the wire can tell: there is no .NET here.

    with DotnetPeer() as peer:
        peer.handle("Shop.Contracts.GetPriceQuery", "Shop.Contracts.Price", lambda query: {"amount": 1.5})
        ...call peer.endpoint...
        peer.call(python_node, full_name("Shop.Contracts.GetPriceQuery"), full_name("Shop.Contracts.Price"), {...})

What it takes from the original: both type names have to resolve as ``Type.GetType`` resolves them, the request has to
be one of that response, an exception is HTTP 500 with the request id "unknown", a null value is a failure; JSON is read
in any letter case and written as System.Text.Json does; bodies are chunked in both directions.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["ASSEMBLY", "CORE", "DotnetError", "DotnetPeer", "full_name", "json_of"]

ASSEMBLY = ", Shop.Contracts, Version=1.0.0.0, Culture=neutral, PublicKeyToken=null"
CORE = ", System.Private.CoreLib, Version=9.0.0.0, Culture=neutral, PublicKeyToken=7cec85d7bea7798e"


class DotnetError(Exception):
    """What the original's caller gets as ``CatgaResult.Failure``."""


# -- types ------------------------------------------------------------------------------------------------------------


def resolve(name: str) -> str | None:
    """Return the type that ``Type.GetType`` finds, in one spelling for each type, or None."""
    try:
        found, rest = _resolve(name)
    except (IndexError, LookupError, ValueError):
        return None
    return None if rest else found


def _resolve(text: str) -> tuple[str, str]:
    """Resolve a type up to the bracket that ends it; return it and the rest. Raises LookupError."""
    found = re.match(r"[\w.+]+(?:`\d)?", text)
    if found is None:
        raise LookupError(text)
    head, rest = found[0], text[found.end() :]
    arguments = []
    if "`" in head:
        separator, rest = rest[0], rest[1:]
        while separator != "]":
            if rest[0] != "[":
                raise LookupError(rest)
            argument, rest = _resolve(rest[1:].lstrip())
            arguments.append(argument)
            separator, rest = rest[1], rest[2:].lstrip()
        if len(arguments) != int(head[-1]):
            raise LookupError(head)
    arrays = re.match(r"(\[\])*", rest)
    suffix = arrays[0] if arrays else ""
    assembly = re.match(r", *([\w.]+)(?:, [\w=.]+)*", rest[len(suffix) :])
    rest = rest[len(suffix) + (0 if assembly is None else assembly.end()) :]
    # What is not in the core library is found in the assembly that is named, and nowhere else.
    where = "System.Private.CoreLib" if assembly is None else assembly[1]
    at_home = (
        where in ("System.Private.CoreLib", "mscorlib") if head.startswith("System.") else where == "Shop.Contracts"
    )
    if not at_home:
        raise LookupError(head)
    return f"{head}<{','.join(arguments)}>{suffix}", rest


def full_name(name: str) -> str:
    """Return ``AssemblyQualifiedName`` for a name like ``List<Shop.Contracts.Price>`` or ``System.Int32``."""
    found = re.fullmatch(r"([\w.]+)(?:<(.+)>)?(\[\])?", name)
    assert found is not None
    head, inner, array = found.groups()
    assembly = CORE if head.startswith("System.") else ASSEMBLY
    parts = re.split(r",(?![^<]*>)", inner) if inner else []
    generic = f"`{len(parts)}[{','.join(f'[{full_name(part)}]' for part in parts)}]" if parts else ""
    return f"{head}{generic}{array or ''}{assembly}"


# -- JSON -------------------------------------------------------------------------------------------------------------


def json_of(value: Any) -> str:
    """Return what System.Text.Json writes. Keys of a dict are written as they are; floats are doubles."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_of(key)}:{json_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(json_of, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(map(_escaped, value)) + '"'
    if isinstance(value, float):
        return repr(value).removesuffix(".0")  # -0.0 is "-0"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def _escaped(char: str) -> str:
    if char.isascii() and char.isprintable() and char not in "\"\\<>&'+`":
        return char
    units = char.encode("utf-16-be").hex().upper()
    return "\\\\" if char == "\\" else "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _folded(data: Any) -> Any:
    """Return an object with its properties under names in lower case, as a reader of any letter case sees them."""
    return {key.lower(): value for key, value in data.items()} if isinstance(data, dict) else data


# -- the node ---------------------------------------------------------------------------------------------------------


class DotnetPeer:
    """A node of the original. Its handlers take the query's properties by names in lower case."""

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[str | None, Callable[[Any], Any]]] = {}
        #: The envelopes that have come, as JSON.
        self.envelopes: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> DotnetPeer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="dotnet")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def handle(self, request: str, response: str, handler: Callable[[Any], Any]) -> None:
        """Answer a class of Shop.Contracts, which is an ``IRequest<response>``."""
        self._handlers[f"{request}<>"] = (resolve(full_name(response)), handler)

    def call(self, endpoint: str, request: str, response: str, query: Any) -> Any:
        """
        Send a query as the original does, by the full names of its types; return the JSON of the response.

        Raises:
            DotnetError: It failed; the text is what the caller there gets.
        """
        envelope = {
            "requestTypeName": request,
            "responseTypeName": response,
            "payloadData": base64.b64encode(json_of(query).encode()).decode(),
            "sourceNodeId": None,
            "requestId": uuid.uuid4().hex,
            "timestamp": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}7Z",
        }
        host, port = endpoint.removeprefix("http://").split(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            headers = {"Content-Type": "application/json; charset=utf-8", "Transfer-Encoding": "chunked"}
            body = iter([json_of(envelope).encode()])
            connection.request("POST", "/catga/cluster/invoke", body, headers, encode_chunked=True)
            reply = connection.getresponse()
            raw = reply.read()
        if reply.status != 200:
            raise DotnetError(f"HTTP request failed: {reply.status}")
        answered = _folded(json.loads(raw))
        if answered["requestid"] != envelope["requestId"] or type(answered["processingtimems"]) is not int:
            raise DotnetError("Serialization failed")
        if not answered["issuccess"]:
            raise DotnetError(answered["errormessage"])
        return json.loads(base64.b64decode(answered["payloaddata"]))

    def answer(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return the status and the envelope for the body of a request."""
        try:
            envelope = _folded(json.loads(body))
            request_id, names = envelope["requestid"], (envelope["requesttypename"], envelope["responsetypename"])
            payload = base64.b64decode(envelope["payloaddata"], validate=True)
        except (KeyError, TypeError, ValueError):
            return 400, _response("unknown", error="Invalid request format")
        self.envelopes.append(envelope)
        try:
            request, response = map(resolve, names)
            if request is None or response is None:
                return 200, _response(request_id, error="Cannot resolve request or response type")
            expected, handler = self._handlers[request]
            if response != expected:
                raise TypeError(f"GenericArguments[1], '{response}', violates the constraint of type 'TResponse'.")
            value = handler(_folded(json.loads(payload)))
        except Exception as exc:
            return 500, _response("unknown", error=str(exc))
        if value is None:
            return 200, _response(request_id, error="No value in result")
        return 200, _response(request_id, payload=base64.b64encode(json_of(value).encode()).decode())

    def _handler_class(peer) -> type[BaseHTTPRequestHandler]:  # noqa: N805  # self is the HTTP handler's below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                status, envelope = peer.answer(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path != "/catga/cluster/invoke":
                    self.do_GET()
                    return
                body = json_of(envelope).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

            def do_GET(self) -> None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        return Handler


def _response(request_id: str, *, payload: str | None = None, error: str | None = None) -> dict[str, Any]:
    return {
        "requestId": request_id,
        "isSuccess": error is None,
        "payloadData": payload,
        "errorMessage": error,
        "processedByNodeId": "dotnet-1" if error is None else None,
        "processingTimeMs": 3,
    }

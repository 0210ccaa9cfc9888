"""The ``requests.Session`` of calls between nodes, made here or the user's own.

A session's defaults suit a browser: it follows redirects, takes proxies from the environment and passwords from
``.netrc``, and keeps cookies, which ignore ports, so that the cookie of one node goes to another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import select_proxy

from catga_sync.transport.http.adapter import DeadlineAdapter, adopt
from catga_sync.transport.http.connection import Exchange
from catga_sync.wire.headers import ACCEPT_ENCODING

__all__ = [
    "STOCK_GET_ADAPTER",
    "STOCK_SEND",
    "BorrowedSession",
    "ResponseEncoded",
    "ResponseTooLong",
    "check_encoding",
    "is_stock",
    "new_session",
    "post_directly",
    "post_through",
    "read_whole",
]

#: Hosts for which pools are kept. Plenty, since a pool that is pushed out is closed while threads use it.
_POOLS = 10_000
_CHUNK = 64 * 1024

#: Seconds for making a connection, within the call's deadline.
_CONNECT_TIMEOUT = 1.0

#: Test libraries such as ``responses`` and ``requests_mock`` replace one of these to receive the requests.
STOCK_SEND, STOCK_GET_ADAPTER = HTTPAdapter.send, requests.Session.get_adapter

#: Status, headers and body of a response.
_Came = tuple[int, Mapping[str, str], bytes]


class ResponseTooLong(Exception):
    """The response is longer than ``max_body_bytes``."""


class ResponseEncoded(Exception):
    """The response has a ``Content-Encoding`` that was not asked for. Its body is not read."""


def new_session(pool_size: int) -> requests.Session:
    """Return a session for calls between nodes. Its settings never change, so threads may share it."""
    session = requests.Session()
    session.headers.clear()
    _make_plain(session)
    for prefix in ("https://", "http://"):
        session.mount(prefix, DeadlineAdapter(_POOLS, pool_size))
    return session


class BorrowedSession:
    """
    Use a session of the user's own for calls between nodes. Thread-safe, as far as the session is.

    The session stays as it is. Each call gets a twin of it, with its headers, ``auth``, hooks, proxies and adapters,
    but without cookies, ``.netrc``, proxies from the environment and redirects.

    * A stock adapter is replaced by a ``DeadlineAdapter`` with the same settings, but for its sizes and its retries;
      the user's own calls keep their pools.
    * An adapter that the user mounted is used as it is. If it has pools of urllib3, they are replaced, see ``adopt``.
      If it has none, a peer that sends a byte at a time can outlast the deadline, and after a failure the request
      counts as sent unless the connection was never made.

    Args:
        session: The user's.
        pool_size: Connections that are kept open to a node.
    """

    def __init__(self, session: requests.Session, pool_size: int) -> None:
        self._session = session
        self._pool_size = pool_size
        self._stand_ins: dict[HTTPAdapter, DeadlineAdapter] = {}

    def twin(self) -> requests.Session:
        """Return a session for one call."""
        # Not ``copy.copy``, which leaves out the attributes of a subclass.
        twin: requests.Session = object.__new__(type(self._session))
        twin.__dict__.update(self._session.__dict__)
        _make_plain(twin)
        twin.get_adapter = self._adapter_for  # type: ignore[method-assign]
        return twin

    @property
    def adapters(self) -> list[BaseAdapter]:
        """The adapters of the session, and those that replace them here."""
        return [*self._session.adapters.values(), *list(self._stand_ins.values())]

    def close(self) -> None:
        """Close the connections that were opened here; the user's stay open."""
        for adapter in list(self._stand_ins.values()):
            adapter.close()

    def _adapter_for(self, url: str) -> BaseAdapter:
        adapter = self._session.get_adapter(url)
        if type(adapter) is HTTPAdapter:
            stand_in = self._stand_ins.get(adapter)
            if stand_in is None:
                stand_in = self._stand_ins.setdefault(adapter, _stand_in(adapter, self._pool_size))
            return stand_in
        adopt(adapter, select_proxy(url, self._session.proxies))
        return adapter


def post_directly(pool: Any, path: str, body: bytes, headers: dict[str, str], exchange: Exchange, limit: int) -> _Came:
    """
    Send a request straight to the pool: ``Session.post`` alone takes longer than urllib3 does.

    Raises:
        ResponseTooLong: The body has more than ``limit`` bytes.
        ResponseEncoded: See there.
    """
    left = exchange.left()
    response = pool.urlopen(
        "POST",
        path,
        body=body,
        headers=headers,
        redirect=False,
        assert_same_host=False,
        preload_content=False,
        decode_content=False,
        timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT, left), read=left),
    )
    return read_whole(response, headers, limit)


def read_whole(response: Any, headers: Mapping[str, str], limit: int) -> _Came:
    """
    Read a response of urllib3 to its end, which gives its connection back.

    Args:
        response: Its body is not read yet.
        headers: The request's.
        limit: Bytes that the body may have.

    Raises:
        ResponseTooLong: The body has more than ``limit`` bytes.
        ResponseEncoded: See there.
    """
    try:
        check_encoding(response.headers, headers.get(ACCEPT_ENCODING, ""))
        return response.status, response.headers, _read(response, limit)
    finally:
        if not response.closed:
            # Not read to its end: the rest must never be taken for the next response.
            response.close()


def post_through(
    session: requests.Session,
    url: str,
    body: bytes,
    headers: dict[str, str],
    exchange: Exchange,
    *,
    verify: bool | str,
    cert: str | tuple[str, str] | None,
    limit: int,
) -> _Came:
    """
    Send a request through ``Session.send``, with its hooks and mounted adapters.

    No compressed response is asked for: hooks and adapters may read ``response.content``, which ``requests``
    decompresses, without a bound, and the bytes that are signed are gone.

    Args:
        verify: As in ``requests``; True means the session's setting.
        cert: As in ``requests``; None means the session's setting.

    Raises:
        ResponseTooLong: The body has more than ``limit`` bytes.
        ResponseEncoded: See there.
    """
    if ACCEPT_ENCODING in headers:
        headers = {name: value for name, value in headers.items() if name != ACCEPT_ENCODING}
        if exchange.finish is not None:  # the signature covers it
            headers = dict(exchange.finish(headers))
    with Exchange(exchange.expires).run():
        # The session's ``auth`` may request a token: within the time of this call, and as an exchange of its own, which
        # is no evidence about the call.
        prepared = session.prepare_request(requests.Request("POST", url, headers=headers, data=body))
    exchange.is_delegated = True
    left = exchange.left()
    response = session.send(
        prepared,
        timeout=(min(_CONNECT_TIMEOUT, left), left),
        verify=session.verify if verify is True else verify,
        cert=session.cert if cert is None else cert,
        proxies=session.proxies,
        stream=True,
        allow_redirects=False,
    )
    with response:
        check_encoding(response.headers, "")
        parts, size = [], 0
        for part in response.iter_content(_CHUNK):
            size += len(part)
            exchange.left()
            if size > limit:
                raise ResponseTooLong
            parts.append(part)
    return response.status_code, response.headers, b"".join(parts)


def is_stock(adapter: object) -> bool:
    """Return whether a call may skip ``Session.send``: neither the adapter nor ``HTTPAdapter.send`` is another one."""
    return type(adapter) is DeadlineAdapter and HTTPAdapter.send is STOCK_SEND


def check_encoding(headers: Mapping[str, str], asked: str) -> None:
    """Raise ``ResponseEncoded`` for a coding other than those ``asked`` for, as ``Accept-Encoding`` has them."""
    encoding = headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity", *asked.split(", ")):
        raise ResponseEncoded(encoding)


def _make_plain(session: requests.Session) -> None:
    session.trust_env = False
    session.cookies = RequestsCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    # Otherwise ``send`` reads the body of a redirect to its end even where redirects are not followed.
    session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]


def _stand_in(adapter: HTTPAdapter, pool_size: int) -> DeadlineAdapter:
    """Return a ``DeadlineAdapter`` with the settings (TLS context, source address ...) of a stock adapter."""
    made = DeadlineAdapter(_POOLS, pool_size)
    settings = {**adapter.poolmanager.connection_pool_kw, "maxsize": pool_size, "block": False}
    made.poolmanager.connection_pool_kw = settings
    return made


def _read(response: Any, limit: int) -> bytes:
    raw: bytes = response.read(_CHUNK)
    if len(raw) > limit:
        raise ResponseTooLong
    if len(raw) < _CHUNK and response.closed:
        return raw
    parts, size = [raw], len(raw)
    while raw:
        raw = response.read(_CHUNK)
        size += len(raw)
        if size > limit:
            raise ResponseTooLong
        parts.append(raw)
    return b"".join(parts)

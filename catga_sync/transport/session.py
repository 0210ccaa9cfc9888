"""The ``requests.Session`` behind every call: what it carries along, and what it must not.

A session's own defaults suit a browser: it follows redirects, takes proxies from the environment and passwords
from ``.netrc``, and keeps cookies, which ignore ports, so that one node's cookie would go to its neighbour.
"""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter

from catga_sync.transport.connection import DeadlineAdapter

__all__ = ["adopt_session", "is_stock", "new_session"]

#: Hosts for which pools are kept. A pool that is pushed out is closed under the threads that use it, so: plenty.
_POOLS = 10_000

_STOCK_SEND = HTTPAdapter.send


def new_session(pool_size: int) -> requests.Session:
    """Return a session for calls between nodes. Its settings are never changed afterwards, so threads may share it."""
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    _mount(session, pool_size)
    return session


def adopt_session(session: requests.Session, pool_size: int) -> None:
    """
    Prepare a session of the user's own.

    The stock adapters are replaced by ones that keep deadlines. An adapter that the user mounted is used as it
    is; with it, a peer that drips can outlast the deadline, and a failure is taken to have been delivered unless the
    connection was never made.
    """
    for prefix in ("https://", "http://"):
        if type(session.adapters.get(prefix)) is HTTPAdapter:
            session.mount(prefix, DeadlineAdapter(_POOLS, pool_size))


def is_stock(adapter: object) -> bool:
    """Return whether calls really go over our connections: the adapter is ours, and nothing replaced its ``send``."""
    return type(adapter) is DeadlineAdapter and HTTPAdapter.send is _STOCK_SEND


def _mount(session: requests.Session, pool_size: int) -> None:
    for prefix in ("https://", "http://"):
        session.mount(prefix, DeadlineAdapter(_POOLS, pool_size))

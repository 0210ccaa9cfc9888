"""Who may call an unsigned node: nobody by accident.

Without a secret a call is served only if it comes straight from this machine. What a proxy on this machine passes
on comes from loopback as well, so a forwarding header refuses it; and a page in somebody's browser can reach
loopback under a name of its own (DNS rebinding), so the ``Host`` must be loopback too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from catga_sync.nodes import is_loopback_host

__all__ = ["unsigned_refusal"]

_FORWARDING = frozenset({"forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip", "x-client-ip"})

_HINT = "an unsigned node serves only direct calls from its own machine; give the cluster a secret, or insecure=True"


def unsigned_refusal(remote_address: str | None, headers: Mapping[str, str]) -> str | None:
    """
    Return why an unsigned call is refused, or None when it comes straight from loopback.

    Args:
        remote_address: Address of the peer as the server saw it.
        headers: The headers of the request, names in lower case.
    """
    if not _is_loopback(remote_address or ""):
        return _HINT
    if any(name in _FORWARDING or name.startswith("x-forwarded-") for name in headers):
        return f"the call was forwarded by a proxy: {_HINT}"
    if not is_loopback_host(_host_of(headers.get("host", ""))):
        return f"the Host header is not loopback: {_HINT}"
    return None


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return parsed.is_loopback if mapped is None else bool(mapped.is_loopback)


def _host_of(value: str) -> str:
    try:
        return urlsplit(f"//{value}").hostname or ""
    except ValueError:
        return ""

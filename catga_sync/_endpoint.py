"""The endpoint of a node: scheme, host and port, and nothing else."""

from __future__ import annotations

import functools
import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from catga_sync._redaction import shown
from catga_sync.errors import ConfigurationError

__all__ = [
    "GRPC_SCHEMES",
    "check_endpoint",
    "check_grpc_endpoint",
    "is_loopback",
    "is_loopback_host",
    "reason_against_address",
]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?)*\.?")
_BRACKETED = re.compile(r"\[[0-9A-Fa-f:.]+(%[0-9A-Za-z]+)?\](:\d+)?")
_NUMBER = re.compile(r"\d+|0[xX][0-9A-Fa-f]*")
_SCHEMES = frozenset({"http", "https", "grpc", "grpcs"})
#: Those of an endpoint that is called over gRPC.
GRPC_SCHEMES = ("grpc://", "grpcs://")


@functools.lru_cache(1024)  # called for each unsigned request; to read an address takes longer than all the rest
def is_loopback_host(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback, by its text and without a look-up."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@functools.lru_cache(1024)  # called for each request
def is_loopback(endpoint: str | None) -> bool:
    """Return whether an endpoint is on this machine's loopback, by its text; False for None."""
    return endpoint is not None and is_loopback_host(urlsplit(endpoint).hostname or "")


def check_endpoint(value: object, option: str = "endpoint") -> str:
    """
    Return a valid endpoint without its trailing slash.

    An endpoint is scheme, host and port and nothing else. The content of a discovery store is as untrusted as any other
    input: it must not direct a call to another path, to a URL with credentials, or to an address that no node can have.

    Raises:
        ConfigurationError: The value is not such a URL.
    """
    wanted = "give http://host:port, https://host:port, grpc://host:port or grpcs://host:port"
    if not isinstance(value, str) or len(value) > 300 or not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"{option}: {wanted}, not {shown(value)}")
    # The error text of urlsplit would show a part of a password.
    parts, host, port = _split(value)
    bracketed = parts.netloc.startswith("[")
    if parts.scheme not in _SCHEMES or not host or value != value.strip():
        raise ConfigurationError(f"{option}: {wanted}, not {shown(value)}")
    if bracketed != ("[" in parts.netloc) or (bracketed and not _BRACKETED.fullmatch(parts.netloc)):
        raise ConfigurationError(
            f"{option}: {wanted}; square brackets are for an IPv6 address alone, not {shown(value)}"
        )
    if "@" in parts.netloc or parts.path not in ("", "/") or "?" in value or "#" in value or "\\" in value:
        raise ConfigurationError(f"{option}: {wanted} and nothing else (no user, path, query), not {shown(value)}")
    if port == 0 or (port is None and parts.netloc.endswith(":")):
        raise ConfigurationError(f"{option}: {wanted}; the port is from 1 to 65535, not as in {shown(value)}")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Systems read 0, 0x7f.1 or 2130706433 as addresses, too; no host name ends in a number (RFC 3696).
        if bracketed or not _HOST.fullmatch(host) or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise ConfigurationError(f"{option}: {shown(host)} is not a host name; {wanted}") from None
    else:
        reason = reason_against_address(address)
        if reason is not None:
            raise ConfigurationError(f"{option}: {host} {reason}; give the address at which others reach this node")
    return value.rstrip("/")


def check_grpc_endpoint(value: object, option: str = "grpc_endpoint") -> str:
    """Return a valid endpoint for calls over gRPC; raises as ``check_endpoint`` does."""
    checked = check_endpoint(value, option)
    if not checked.startswith(GRPC_SCHEMES):
        raise ConfigurationError(f"{option}: give grpc://host:port or grpcs://host:port, not {shown(value)}")
    return checked


def _split(url: str) -> tuple[SplitResult, str, int | None]:
    """Return the parts of a URL, its host and its port; 0 for an invalid port."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", ""), "", None
    try:
        return parts, parts.hostname or "", parts.port
    except ValueError:
        return parts, parts.hostname or "", 0


def reason_against_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
    """
    Return why no node can have an address, or None if a node can.

    A discovery store or a name server may return addresses at which this machine reaches something else than a node: a
    cloud's metadata service has a link-local address.
    """
    for each in (address, *_within(address)):
        if each.is_unspecified:
            return "is not an address to call"
        if each.is_multicast or each.is_link_local or each == _METADATA:
            verb = "is" if each is address else "stands for"
            return f"{verb} a multicast or link-local address, which no node can have"
    return None


#: The IPv6 address of the instance metadata service of AWS.
_METADATA = ipaddress.ip_address("fd00:ec2::254")
#: Prefixes of IPv6 addresses whose last 32 bits are an IPv4 address: NAT64 (RFC 6052, RFC 8215) and IPv4-compatible
#: addresses (RFC 4291, 2.5.5.1).
_PREFIXES = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address contains."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in prefix for prefix in _PREFIXES) and int(address) > 1:  # :: and ::1 are not such addresses
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]

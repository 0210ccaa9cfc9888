"""Checks of one node as it is configured: its key, its store, its endpoint, the other nodes, their clocks.

Rules of this file:
1. It changes nothing: it reads the store, and asks nodes to describe themselves.
2. A finding that is not ok says what to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

from catga_sync._endpoint import is_loopback
from catga_sync._redaction import cause_of, escaped
from catga_sync.cli.drain import PROBE_TIMEOUT
from catga_sync.cluster.absence import unreadable
from catga_sync.cluster.trust import Trust, trust_of
from catga_sync.discovery import create_discovery
from catga_sync.discovery.base import place_of
from catga_sync.discovery.memory import MemoryDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.nodes import NodeRecord, NodeStatus
from catga_sync.options import ClusterOptions
from catga_sync.transport import NodeProbe
from catga_sync.transport.http.diagnosis import trouble_of
from catga_sync.transport.http.probe import Probe, ProbeOutcome
from catga_sync.wire.signatures import WINDOW

__all__ = ["Finding", "Level", "examine"]

Level = Literal["ok", "warn", "fail"]

#: Nodes that are probed at the same time.
_AT_ONCE = 32
#: Seconds by which a clock may be wrong without a finding.
_CLOCK = 5.0
#: Software that serves no WSGI app itself, but for Apache with mod_wsgi: where a response names it, there is a proxy.
_PROXIES = (
    "nginx",
    "openresty",
    "apache",
    "haproxy",
    "envoy",
    "istio-envoy",
    "caddy",
    "cloudflare",
    "awselb",
    "varnish",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. Immutable."""

    level: Level
    #: What was checked, as in ``store`` or ``node users-1``.
    subject: str
    #: What was found, and what to do about it.
    text: str


@dataclass(frozen=True)
class _Asked:
    """A probe, and when it began and ended by the clock here. Immutable."""

    probe: Probe
    sent: float
    came: float


def examine(options: ClusterOptions, timeout: float | None = None) -> list[Finding]:
    """
    Check a node, as it is configured, from this process.

    Args:
        options: The options of the node; without an endpoint it only sends.
        timeout: Seconds for the command, of which a probe takes 2 at most; None means the node's ``request_timeout``.

    Raises:
        ConfigurationError: An option names an unknown store.
    """
    name = f"node {options.node_id} of cluster {options.cluster_name}"
    where = "it only sends" if options.endpoint is None else f"at {options.endpoint}"
    found = [Finding("ok", "options", f"{name}; {where}")]
    trust = trust_of(options)
    # An unsigned probe is told less, and a signed one would make the key.
    has_key = not trust.lacks_key()
    records, store = _read(options)
    others = [each for each in records or () if each.node.node_id != options.node_id and each.node.endpoint is not None]
    found += [_key(trust, others, is_made=has_key), store]
    signing = trust.signing() if has_key else None
    probe = NodeProbe(verify=options.verify, cert=options.cert, signing=signing)
    seconds = min(PROBE_TIMEOUT, options.request_timeout if timeout is None else timeout)

    def ask(node: tuple[str, str]) -> _Asked:
        sent = time.time()
        return _Asked(probe.ask(*node, seconds), sent, time.time())

    own = [url for url in (options.endpoint, options.grpc_endpoint) if url is not None]
    asked = [(options.node_id or "", url) for url in own]
    asked += [(each.node.node_id, each.node.endpoint or "") for each in others]
    with ThreadPoolExecutor(min(len(asked), _AT_ONCE) or 1, thread_name_prefix="catga-cli") as pool:
        answers = list(pool.map(ask, asked))
    for url, answer in zip(own, answers, strict=False):
        found += _own(answer, url, options)
    if own and records is not None and options.discovery != "static":
        found.append(_listed(options, records))
    if own:
        found += _range(options, answers[0].probe, others)
    for record, answer in zip(others, answers[len(own) :], strict=True):
        found += _other(answer, record, is_signed=signing is not None)
    return found


def _read(options: ClusterOptions) -> tuple[Sequence[NodeRecord] | None, Finding]:
    """Return the records of the store, None where it cannot be read from here, and what is to be told of it."""
    discovery = create_discovery(options.discovery, cluster_name=options.cluster_name, peers=options.peers)
    where = place_of(discovery)
    if isinstance(discovery, MemoryDiscovery):
        text = "memory:// is the memory of one process: no other process finds this node; give a store that nodes share"
        return None, Finding("warn", "store", text)
    try:
        records = discovery.nodes()
    except Exception as exc:
        return None, Finding("fail", "store", unreadable(where, cause_of(exc)))
    finally:
        discovery.close()
    if not records:
        text = f"no node is in {where}; start one with this discovery and cluster_name"
        return records, Finding("warn", "store", text)
    return records, Finding("ok", "store", f"nodes in {where}: {len(records)}")


def _key(trust: Trust, others: Sequence[NodeRecord], *, is_made: bool) -> Finding:
    if trust.keys is None:
        text = "insecure: calls are not signed, so whoever reaches the endpoint can run every handler; give a secret"
        return Finding("warn", "secret", f"{text} (CATGA_SECRET)")
    if not trust.is_local:
        return Finding("ok", "secret", "calls are signed with the secret")
    try:
        if is_made:  # otherwise the check would make it
            trust.check()
    except ConfigurationError as exc:
        return Finding("fail", "secret", str(exc))
    away = [each.node.node_id for each in others if not is_loopback(each.node.endpoint)]
    if away:
        text = f"there is none, and {away[0]} is on another machine; give all nodes the same secret (CATGA_SECRET)"
        return Finding("fail", "secret", text)
    if not is_made:
        text = "no node of this user has run here yet, so there is no key to sign with; start the node, and run this as"
        return Finding("warn", "secret", f"{text} its user, or give all nodes the same secret (CATGA_SECRET)")
    return Finding("ok", "secret", "there is none; calls are signed with the key of this user on this machine")


def _own(asked: _Asked, url: str, options: ClusterOptions) -> Iterator[Finding]:
    """Yield what is to be told of this node's own endpoint, as it is reached from here."""
    trouble = trouble_of(asked.probe, own_id=options.node_id)
    hidden = asked.probe.description.get("trouble")
    if trouble is not None:
        yield Finding("fail", "endpoint", str(trouble))
    elif isinstance(hidden, str) and hidden:
        yield Finding("fail", "endpoint", f"{url} responds, and is not visible to other nodes: {hidden[:1000]}")
    else:
        yield Finding("ok", "endpoint", f"{url} responds as this node")
    yield from _proxy(asked.probe, "endpoint")
    limit = asked.probe.description.get("serverTimeout")
    if isinstance(limit, (int, float)) and limit <= options.request_timeout:
        text = (
            f"the server ends a worker whose call takes {limit:g} s, and request_timeout is {options.request_timeout:g}"
        )
        yield Finding("warn", "server", f"{text} s: give gunicorn a longer --timeout, or threads (-k gthread)")


def _listed(options: ClusterOptions, records: Sequence[NodeRecord]) -> Finding:
    """Return what other nodes find in the store under the id of this one."""
    record = next((each for each in records if each.node.node_id == options.node_id), None)
    if record is None:
        text = "this node is not in the store, so no other node calls it; is its server running, with this discovery "
        return Finding("fail", "visible", f"{text}and cluster_name? Its log has the reason")
    if record.node.endpoint not in (options.endpoint, options.grpc_endpoint):
        text = f"the store has a node {options.node_id} at {record.node.endpoint}: give each node a node_id of its own"
        return Finding("fail", "visible", f"{text}, or wait until the former one has expired")
    if record.node.status is not NodeStatus.ONLINE:
        text = f"this node is {record.node.status.name}, so no other node calls it; restart it to have it serve again"
        return Finding("warn", "visible", text)
    if record.age is not None and record.age > 3 * options.heartbeat_interval:
        text = (
            f"the last heartbeat of this node was {record.age:.0f} s ago; is its server running? Its log has the reason"
        )
        return Finding("warn", "visible", text)
    return Finding("ok", "visible", f"other nodes find this one at {record.node.endpoint}")


def _range(options: ClusterOptions, probe: Probe, others: Sequence[NodeRecord]) -> Iterator[Finding]:
    """Yield that the endpoint is one of this machine alone while other nodes are elsewhere."""
    away = next((each.node for each in others if not is_loopback(each.node.endpoint)), None)
    if away is None:
        return
    if is_loopback(options.endpoint):
        text = (
            f"{options.endpoint} is on this machine alone, and {away.node_id} is at {away.endpoint}: give an endpoint"
        )
        yield Finding("fail", "endpoint", f"{text} whose host other machines reach")
    elif probe.address is not None and is_loopback(f"http://{probe.address}"):
        text = (
            f"the host of {options.endpoint} is {probe.address} here, which other machines do not reach; look whether"
        )
        yield Finding("warn", "endpoint", f"{text} they find another address for it, or give the address itself")


def _other(asked: _Asked, record: NodeRecord, *, is_signed: bool) -> Iterator[Finding]:
    """Yield what is to be told of another node: whether it responds and has the same secret, and its clock."""
    probe, subject = asked.probe, f"node {record.node.node_id}"
    trouble = trouble_of(probe)
    if trouble is not None:
        # A node that is down is no fault of this one; one that does not trust it, or is not trusted, may be.
        refuses = probe.status in (401, 403) or (probe.status == 200 and probe.outcome is not ProbeOutcome.DESCRIBED)
        yield Finding("fail" if refuses else "warn", subject, str(trouble))
    else:
        known = ", with the same secret or key" if is_signed else ""
        yield Finding("ok", subject, f"{record.node.endpoint} responds{known}")
    yield from _proxy(probe, subject)
    yield from _clock(asked, subject)


def _clock(asked: _Asked, subject: str) -> Iterator[Finding]:
    """Yield that a clock is wrong, as far as the whole seconds of a response's date tell."""
    try:
        date = parsedate_to_datetime(asked.probe.headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return
    ahead, behind = date - asked.came, asked.sent - (date + 1.0)
    off = max(ahead, behind)
    if off < _CLOCK:
        return
    text = f"its clock is {off:.0f} s {'ahead of' if off == ahead else 'behind'} the one here; set both with NTP"
    late = f": from {WINDOW:.0f} s on, signed calls are refused"
    yield Finding("fail" if off >= WINDOW else "warn", f"clock of {subject}", text + late)


def _proxy(probe: Probe, subject: str) -> Iterator[Finding]:
    """Yield that a proxy is in between."""
    server = probe.headers.get("Server", "")
    is_proxy = server.lower().startswith(_PROXIES) and "mod_wsgi" not in server
    via = probe.headers.get("Via") or (server if is_proxy else None)
    if via is not None:
        text = (
            f"a proxy is in between ({escaped(via)[:80]}): its timeout must be longer than request_timeout, its limit"
        )
        yield Finding("warn", f"proxy of {subject}", f"{text} of a body at least max_body_bytes, and it must not retry")

"""Why a node did not describe itself: the request, its outcome, and the usual cure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from catga_sync._redaction import escaped
from catga_sync.transport.http.probe import STRANGER, Probe, ProbeOutcome

__all__ = ["Trouble", "trouble_of"]

#: Characters of a peer's text that are shown.
_LONGEST = 200

_LET_PAST = (
    "let all paths under /catga/cluster/ past the app's login and other checks (before_request, middleware); under "
    "Flask, CatgaCluster serves them in front of those"
)
_ROUTES = (
    "register cluster_blueprint(mediator) without url_prefix or subdomain at the app that is served there; where the "
    "app matches hosts (SERVER_NAME, host_matching), the endpoint needs the host that it expects"
)


@dataclass(frozen=True)
class Trouble:
    """Why a node did not describe itself; ``str()`` of it is one sentence. Immutable."""

    #: Method and URL of the request.
    asked: str
    #: What came back.
    found: str
    #: What to do about it.
    cure: str
    #: Whether there was no response at all, as from a node that is starting or busy.
    is_silence: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.asked}: {self.found}; {self.cure}"


def trouble_of(
    probe: Probe, *, own_id: str | None = None, listening: Callable[[], Sequence[str]] = tuple
) -> Trouble | None:
    """
    Return what is wrong with the response to ``HttpProbe.ask``; None when the node has described itself.

    Args:
        probe: The outcome of the probe.
        own_id: The id of this node where its own endpoint was probed; None for the endpoint of another node.
        listening: Returns the addresses on which this process listens, as in ``127.0.0.1:5001``.
    """
    if probe.outcome is ProbeOutcome.DESCRIBED and (own_id is None or probe.description.get("nodeId") == own_id):
        return None
    asked, own = f"{probe.method} {probe.url}", own_id is not None
    if probe.status is None:
        return Trouble(asked, probe.error or "no response", _cure_of_silence(probe, own, listening()), is_silence=True)
    return Trouble(asked, _found(probe), _cure(probe, own, listening()))


def _found(probe: Probe) -> str:
    found = f"HTTP status {probe.status}"
    if probe.location is not None:
        found += f", a redirect to {_shown(probe.location)}"
    if probe.node_id is not None:
        found += f" from node {_shown(probe.node_id)}"
    elif probe.status == 200 and not probe.authentic:
        found += " and no signature"
    elif probe.status == 200:
        found += " and no description of a node"
    if probe.address is not None and not _is_address(probe.url):
        found += f" at {probe.address}"
    if probe.refusal is not None:
        found += f" ({_shown(probe.refusal)})"
    return found


def _cure(probe: Probe, own: bool, listening: Sequence[str]) -> str:
    elsewhere = _elsewhere(probe, listening)
    if own and elsewhere is not None:
        return elsewhere
    if probe.node_id is not None:
        return _cure_of_other_node(probe, own)
    status = probe.status or 0
    if probe.refusal == STRANGER:
        return "set the same secret= on both sides (CATGA_SECRET), or insecure=True on both"
    if 300 <= status < 400:
        to_tls = probe.url.startswith("http://") and (probe.location or "").startswith("https://")
        return f"write https:// in the endpoint, or {_LET_PAST}" if to_tls else _LET_PAST
    if status in (401, 403, 407):
        return _LET_PAST
    if status in (404, 405):
        return _ROUTES if own else f"that is right for a node without this route (a .NET node); else {_ROUTES}"
    if status == 400:
        return "have the server accept the endpoint's host (TRUSTED_HOSTS, ALLOWED_HOSTS), or write https://"
    if status in (502, 503, 504):
        return "the server or proxy there is overloaded, or does not reach the app; its log tells more"
    if status >= 500:
        return f"the app fails before the node is asked, and its log tells where; {_LET_PAST}"
    if status == 200 and not probe.authentic:
        return "another server responds there, or one without the secret (CATGA_SECRET) of this cluster"
    return f"another server responds there, or a page of the app for every path; {_ROUTES}"


def _cure_of_other_node(probe: Probe, own: bool) -> str:
    aside = "give this one an endpoint of its own, or " if own else ""
    if probe.status == 401:
        return (
            f"that node has another secret, cluster_name, id or clock than is expected here: {aside}have all nodes use "
            f"the same secret (CATGA_SECRET) and cluster_name, clocks within 60 s, and the id by which they are known; "
            f"without a secret, they have to be of one user on one machine"
        )
    if probe.status == 200 and not probe.authentic:
        return f"that node does not sign with this cluster's secret: {aside}have all nodes use the same (CATGA_SECRET)"
    if probe.status == 200:
        return "that node listens there: give this one the endpoint at which it is served itself"
    if probe.status == 403:
        return "give all nodes the same secret, or the endpoint by which the node is reached without a proxy"
    return "the log of that node tells more"


def _cure_of_silence(probe: Probe, own: bool, listening: Sequence[str]) -> str:
    error = probe.error or ""
    if error.endswith("[grpc]"):
        return "without it no node at a grpc:// endpoint can be asked"
    if error.startswith("secret: "):
        return "no node can be asked before"
    if error.startswith("certificate verify failed"):
        return "give verify='/path/to/ca.pem' with the authority that signed it, or an endpoint with the host it names"
    if error.endswith("speaks no TLS"):
        return "write http:// in the endpoint"
    if error.startswith("the host name is not found"):
        return "give an endpoint with a host that can be looked up from here"
    if probe.outcome is ProbeOutcome.REFUSED:
        if not own:
            return "nothing listens there: is the node running, and is that its address?"
        where = f", and this process listens on {' and '.join(listening)}" if listening else ""
        return f"nothing listens there{where}: give the endpoint at which this app is served"
    if error == "timed out":
        busy = "the server there is busy, or has one thread only" if own else "it is busy"
        return f"{busy}, or something between drops what is sent"
    tls = " over TLS, which requires https:// in the endpoint" if probe.url.startswith("http://") else ""
    return f"another program listens there, or a server{tls or ' that ends connections'}"


def _elsewhere(probe: Probe, listening: Sequence[str]) -> str | None:
    """Return the cure where the host name leads to another server, and this process listens on the same port."""
    if probe.address is None or _is_address(probe.url):
        return None
    host, _, port = probe.address.rpartition(":")
    ours = [each for each in listening if each.rpartition(":")[2] == port]
    hosts = {each.rpartition(":")[0] for each in ours}
    everywhere = {"[::]"} if host.startswith("[") else {"[::]", "0.0.0.0"}  # noqa: S104 - compared
    if not ours or hosts & {host, *everywhere}:
        return None
    here = ours[0].replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - compared
    return (
        f"another server responds there under the name in the endpoint, and this process listens on {ours[0]}: give "
        f"endpoint='{urlsplit(probe.url).scheme}://{here}', or end the other server"
    )


def _is_address(url: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


def _shown(text: str) -> str:
    return escaped(text, _LONGEST)

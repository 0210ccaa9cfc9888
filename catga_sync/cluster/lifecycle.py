"""How one process joins its cluster, stays in it and leaves: attach, start, drain, close, and forks in between."""

from __future__ import annotations

from collections.abc import Callable

from catga_sync.cluster.background import Background
from catga_sync.cluster.exits import close_at_exit
from catga_sync.cluster.housekeeping import Housekeeping
from catga_sync.cluster.local_node import LocalNode
from catga_sync.cluster.membership import Membership
from catga_sync.cluster.parting import Parting
from catga_sync.cluster.presence import Presence
from catga_sync.cluster.trust import Trust
from catga_sync.context import CallContext
from catga_sync.receiver.streams import Streams

__all__ = ["Lifecycle"]

#: Seconds for which the calls of streams may still run when the mediator is closed, for example at the end of the
#: interpreter: less than the 30 s after which gunicorn kills a worker.
STREAM_GRACE = 20.0


class Lifecycle:
    """
    The life of a cluster mediator in one process. Thread-safe.

    Args:
        local_node: This node.
        membership: The other nodes.
        presence: Makes the node visible; None for a pure client.
        housekeeping: What the background thread does.
        trust: Has the keys, which are checked before anything starts.
        parting: Leaves the cluster when the mediator was dropped.
        tests: Functions that return whether the app is being tested; filled here, read by the default discovery.
    """

    def __init__(
        self,
        local_node: LocalNode,
        membership: Membership,
        presence: Presence | None,
        housekeeping: Housekeeping,
        *,
        trust: Trust,
        parting: Parting,
        tests: list[Callable[[], bool]],
    ) -> None:
        self._local_node = local_node
        self._membership = membership
        self._presence = presence
        self._housekeeping = housekeeping
        self._trust = trust
        self._tests = tests
        self._streams: Streams | None = None
        #: Whether an app has the mediator; the mediator then ends with the app.
        self.has_app = False
        self._background = Background(
            f"catga-cluster-{local_node.node_id}",
            housekeeping.step,
            starts_in_child=self._starts_in_child,
            goes_on_in_parent=self._goes_on_in_parent,
            at_end=parting,
        )
        #: Returns whether the background thread runs in this process; for the way of every call.
        self.is_running = self._background.is_running

    def serve_streams(self, streams: Streams) -> None:
        """Have these streams end with this node, and as soon as it takes no more calls."""
        self._streams = streams
        self._local_node.when_draining = streams.end

    def attach(self, under_test: Callable[[], bool] | None) -> None:
        """Mark this process as a server, before ``start``; see ``ClusterMediator.attach``."""
        if under_test is not None:
            self._tests.append(under_test)
        self.has_app = True

    def start(self) -> None:
        """Start the background thread now, not with the first call; a node with an endpoint is to serve."""
        self._trust.check()
        self._local_node.open()
        if self._streams is not None and not self._local_node.draining:
            self._streams.reopen()
        if self._presence is not None:
            self._presence.attach()
            close_at_exit(self)
        self._background.reopen()
        self._background.ensure()

    def notice_request(self) -> None:
        """Note that this process serves; the receiver calls this at the start of every request."""
        # First: a fork in C is noticed here.
        if not self._background.is_running():
            self._background.ensure()
        presence = self._presence
        if presence is not None and not presence.has_served:
            presence.served()
            close_at_exit(self)

    def ensure_membership(self, call: CallContext | None = None) -> None:
        """Start the background thread; where there is none, refresh the membership within the time of the call."""
        if self._background.is_running() or self._background.ensure() or self._local_node.closed:
            return
        self._membership.refresh(self._membership.refresh_interval, call=call)

    def drain(self, timeout: float) -> bool:
        """Go offline without losing a call; return whether nothing was running any more at the end."""
        self._background.ensure()
        return self._housekeeping.drain(timeout)

    def close(self) -> None:
        """Leave the cluster, end the thread, close the connections. Safe to call twice."""
        self._local_node.close()
        if self._streams is not None:
            self._streams.end()
        self._background.stop()
        if self._streams is not None and self._streams.open_streams:
            if self._presence is not None:
                # First: what still runs may take longer than other nodes are to wait for the news.
                self._presence.leave()
            self._streams.wait(STREAM_GRACE)
        self._housekeeping.close()

    def _goes_on_in_parent(self) -> bool:
        # Not in a server's master process, such as gunicorn's arbiter.
        return self._presence is None or not self._presence.attached or self._presence.has_served

    def _starts_in_child(self) -> bool:
        return self._presence is not None and self._presence.attached

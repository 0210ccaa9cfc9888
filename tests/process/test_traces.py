"""One call through three nodes: what each of them logs belongs together."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator

import pytest

from catga_sync import CatgaResult, ClusterMediator
from catga_sync.context import CallContext, enter_call, leave_call
from tests.conftest import require_module
from tests.process.messages import First
from tests.process.nodes import node, wait_for
from tests.processes import Process, until

require_module("gunicorn")

pytestmark = [pytest.mark.process, pytest.mark.slow]

_IDS = re.compile(r"^(?P<text>\S+ [A-Z]+ .*?): request_id=(?P<request>\S+) trace_id=(?P<trace>\S+)", re.MULTILINE)
GIVEN = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"


@contextlib.contextmanager
def three_nodes(cluster_name: str) -> Iterator[dict[str, Process]]:
    with contextlib.ExitStack() as stack:
        apps = {name: node(name, cluster_name, app="tests.process.traced:app") for name in ("n1", "n2", "n3")}
        yield {name: stack.enter_context(app) for name, app in apps.items()}


class Lines:
    """The lines of one process's log that have ids."""

    def __init__(self, text: str) -> None:
        self.found = [(each["text"], each["request"], each["trace"]) for each in _IDS.finditer(text)]

    @property
    def traces(self) -> set[str]:
        return {trace for _, _, trace in self.found}

    def ids(self, start: str) -> list[str]:
        """Return the request ids of the lines that begin so."""
        return [request for text, request, _ in self.found if text.startswith(start)]


def send_within(client: ClusterMediator, request: First, traceparent: str | None) -> CatgaResult[str]:
    if traceparent is None:
        return client.send(request)
    token = enter_call(CallContext("outer", traceparent=traceparent))
    try:
        return client.send(request)
    finally:
        leave_call(token)


def test_a_call_has_one_trace_id_in_every_line_of_every_node_and_each_of_its_parts_one_request_id(
    client: ClusterMediator, cluster_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with three_nodes(cluster_name) as servers:
        wait_for(client, "n1", "n2", "n3")
        # The nodes have to see each other, too.
        until(lambda: client.send(First("")).is_success, "a call gets through all of them")
        ends = (("", "INFO {} ok"), ("refuse", "WARNING {} failed"), ("crash", "WARNING {} failed"))
        # A trace that begins here, and one that was given.
        for traceparent, (how, outcome) in itertools.product((None, GIVEN), ends):
            before = {name: len(server.output()) for name, server in servers.items()}
            caplog.clear()
            result = send_within(client, First(how), traceparent)
            n1, n2, n3 = (Lines(server.output()[before[name] :]) for name, server in servers.items())
            here = Lines("\n".join(f"{each.name} {each.levelname} {each.getMessage()}" for each in caplog.records))
            trace = result.request_id if traceparent is None else "a" * 32
            assert n1.traces | n2.traces | n3.traces | here.traces == {trace}
            first, second, third, inside = (
                f"calls.here {outcome.format(name)}" for name in ("First", "Second", "Third", "Inside")
            )
            assert n1.ids(first) == [result.request_id]
            assert n1.ids("calls.sent") == n2.ids(second)
            assert n2.ids("calls.sent") == n3.ids(third)
            assert len({*n3.ids(third), *n3.ids(inside)}) == 4
            if how:
                assert n3.ids("catga_sync.pipeline") == n3.ids(inside)
                assert n2.ids("catga_sync.transport.outcome WARNING traces.Third failed") == n3.ids(third)
                assert here.ids("catga_sync.transport.outcome WARNING traces.First failed") == [result.request_id]

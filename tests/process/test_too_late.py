"""A caller whose clock is behind is served, and a caller that has hung up is not, however long its call has waited."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from catga_sync import Delivery, ErrorCode, Mediator, create_cluster
from tests.conftest import require_module
from tests.process.messages import Do, Hold
from tests.process.nodes import node
from tests.processes import stopped, until

require_module("gunicorn")

pytestmark = pytest.mark.process

# A connection with a request on it that was idle for longer than gunicorn keeps it, while that was stopped, is closed.
SYNC, GTHREAD = ("-k", "sync", "--threads", "1"), ("--keep-alive", "75")
SECRET = "k" * 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "way", "secret"),
    # Each with each, and not all with all.
    [
        pytest.param(GTHREAD, "blueprint", SECRET, id="gthread-blueprint-signed"),
        pytest.param(GTHREAD, "middleware", None, id="gthread-middleware-plain"),
        pytest.param(SYNC, "blueprint", None, id="sync-blueprint-plain"),
        pytest.param(SYNC, "middleware", SECRET, id="sync-middleware-signed"),
    ],
)
def test_a_clock_that_is_behind_costs_no_call_and_a_caller_that_has_hung_up_gets_none(
    server: tuple[str, ...],
    way: str,
    secret: str | None,
    cluster_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {"WAY": way, **({"INSECURE": "1"} if secret is None else {"SECRET": secret})}
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 30.0)
    with (
        node("n1", cluster_name, *server, **environment) as process,
        create_cluster(
            Mediator(),
            node_id="client",
            cluster_name=cluster_name,
            discovery="static",
            peers={"n1": process.url},
            secret=secret,
            insecure=secret is None,
        ) as client,
    ):
        until(lambda: client.send(Do("x")) or None, "a call is served")
        until(lambda: "batch" in client.nodes()[0].features, "the node has said that it takes batches")
        # Less time than the clock is behind.
        result = client.send(Do("x"), timeout=20.0)
        assert result.is_success, process.output()
        with stopped(process.pid):
            results = [
                client.send(Hold(str(tmp_path / "alone"), 0.0), timeout=2.0),
                *client.send_batch([Hold(str(tmp_path / f"in-batch-{n}"), 0.0) for n in "ab"], timeout=2.0),
            ]
        assert {(each.code, each.delivery) for each in results} == {(ErrorCode.DEADLINE_EXCEEDED, Delivery.UNKNOWN)}
        # Each of the three is refused, and the log says so: only then is it sure that none of them is still to run.
        until(lambda: process.output().count("the caller has closed its side") >= 3, "its calls are refused")
        assert client.send(Do("x")).is_success, process.output()
        assert list(tmp_path.iterdir()) == []

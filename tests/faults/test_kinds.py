"""One signed cluster of a Flask, a Django, a gRPC and a TLS node: a caller cannot tell which of them has responded."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from catga_sync import CatgaResult, Delivery, ErrorCode
from catga_sync.routing import create_router
from tests.conftest import require_module
from tests.faults import ledger
from tests.faults.load import Load, Watched
from tests.faults.messages import Ask, Colour, Do, Echo, Fail, Go, Happened, Part, Put, Wide
from tests.faults.nodes import Node, Nodes
from tests.processes import clean_environment, until

for _module in ("gunicorn", "django", "grpc"):
    require_module(_module)
trustme = require_module("trustme")

pytestmark = [pytest.mark.process, pytest.mark.slow]

KINDS = ("django", "flask", "grpc", "tls")
_HANDLES = "Ask,Come,Do,Echo,Fail,Go,Put,Happened"
_ROOT = Path(__file__).parents[2]

WIDE = Wide(
    text="Grüße, \u2603 and a \U0001f600",
    number=-(2**53),
    ratio=0.1,
    flag=True,
    raw=bytes(range(256)),
    price=Decimal("1234567890.123456789"),
    moment=datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    day=date(2024, 2, 29),
    hour=clock(1, 2, 3, 4),
    span=timedelta(days=-1, microseconds=5),
    ident=UUID(int=7),
    colour=Colour.GREEN,
    parts=[Part("a", Decimal("0.10")), Part("", Decimal(-1))],
    pair=(1, "x"),
    unique={3, 1, 2},
    mapping={"PascalCase": 1, "snake_case": 2, "": 3},
    kind="b",
    anything={"deep": [1, None, {"er": "x"}]},
)
#: What is sent, and what comes of it at whatever node.
MESSAGES = {
    "every kind of value": (Echo(WIDE), CatgaResult.success(WIDE)),
    "nothing": (Fail("nothing"), CatgaResult.success(None)),
    "a code of ours": (Fail("NOT_FOUND"), CatgaResult.failure("not today", ErrorCode.NOT_FOUND)),
    "a code of the application": (Fail("raise"), CatgaResult.failure("not today", "CLOSED")),
    "a crash": (Fail("crash"), None),
    "a response of another type": (Fail("unwritable"), None),
    "a response that is too long": (Fail("long"), None),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nodes, dict[str, Node]]]:
    """The four nodes, and the cluster that they are in."""
    folder = tmp_path_factory.mktemp("kinds")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    trusted, chain, key = (str(folder / name) for name in ("trusted.pem", "chain.pem", "key.pem"))
    authority.cert_pem.write_to_path(trusted)
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    with Nodes(
        folder, CATGA_SECRET="s" * 32, CATGA_VERIFY=trusted, CATGA_ROUTER="round-robin", HANDLES=_HANDLES
    ) as nodes:
        kinds = {
            "flask": nodes.add("flask"),
            "django": nodes.add("django", app="tests.faults.django_app:app"),
            "grpc": nodes.add("grpc", app=None, scheme="grpc"),
            "tls": nodes.add("tls", scheme="https", options=("--certfile", chain, "--keyfile", key)),
        }
        with ThreadPoolExecutor(len(kinds)) as pool:
            list(pool.map(Node.start, kinds.values()))
        yield nodes, kinds


def options(nodes: Nodes) -> dict[str, str]:
    return {"secret": nodes.environment["CATGA_SECRET"], "verify": nodes.environment["CATGA_VERIFY"]}


@pytest.mark.xdist_group("kinds")
@pytest.mark.parametrize("message", MESSAGES)
def test_each_kind_of_node_gives_the_same_result(cluster: tuple[Nodes, dict[str, Node]], message: str) -> None:
    nodes, _ = cluster
    request, wanted = MESSAGES[message]
    with nodes.client(**options(nodes)) as client:
        nodes.see(client, *KINDS)
        results = client.broadcast(request, timeout=20.0)
    assert sorted(results) == sorted(KINDS)
    first = wanted or results["flask"]
    for node_id, result in results.items():
        assert result == first, node_id
        assert (result.node_id, result.delivery) == (node_id, Delivery.EXECUTED)
    assert "s3cr3t" not in str(results)


@pytest.mark.xdist_group("kinds")
def test_batches_events_and_chains_of_calls_pass_through_each_kind_of_node(
    cluster: tuple[Nodes, dict[str, Node]],
) -> None:
    nodes, _ = cluster
    with nodes.client(**options(nodes)) as client:
        nodes.see(client, *KINDS)
        results = client.send_batch([kind(f"batch-{n}") for n in range(40) for kind in (Ask, Do, Put)], timeout=20.0)
        assert [each.value and each.value.text for each in results] == [f"batch-{n}" for n in range(40) for _ in "adp"]
        assert {each.node_id for each in results} == set(KINDS)
        # From each kind to another: the handlers of Go and Come send to the next node.
        chains = [client.send(Go(f"chain-{n}", hops=3), timeout=20.0) for n in range(16)]
        assert [each.value and each.value.text for each in chains] == [f"chain-{n}" for n in range(16)]
        published = client.publish(Happened("happened"))
        assert {name for name, each in published.items() if each.is_success} == set(KINDS)

        def all_have_heard() -> bool:
            heard = Counter(each.node for each in ledger.executions(nodes.ran) if each.text == "happened")
            return heard == Counter(KINDS)

        until(all_have_heard, "each node has run its subscriber once")


@pytest.mark.xdist_group("kinds")
@pytest.mark.parametrize("fault", ["kill", "hang", "drain"])
def test_a_fault_of_each_kind_of_node_in_turn_is_told_truthfully(
    cluster: tuple[Nodes, dict[str, Node]], fault: str, tmp_path: Path
) -> None:
    nodes, kinds = cluster
    router = Watched(create_router("round-robin"))
    with nodes.client(router=router, **options(nodes)) as client:
        nodes.see(client, *KINDS)
        with Load(client, tmp_path / "told", callers=8, seconds=0.01, timeout=6.0) as load:
            for kind in KINDS:
                until(load.answered(20, by=kind), f"{kind} serves")
                began = time.monotonic()
                if fault == "kill":
                    kinds[kind].kill()
                    until(load.answered(200, after=time.monotonic()), "calls are answered without it")
                elif fault == "hang":
                    with kinds[kind].paused():
                        until(lambda k=kind: k not in {n for at, n in router.choices[-100:]}, "it is left out", 60.0)
                        until(load.answered(200, after=time.monotonic()), "calls are answered without it")
                else:
                    drain(nodes, kind)
                    kinds[kind].stop()
                if fault != "hang":
                    kinds[kind].start()
                until(load.answered(20, by=kind, after=began), f"{kind} serves again", 60.0)
    told = ledger.verdicts(tmp_path / "told")
    mine = {each.text for each in told}
    ran = [each for each in ledger.executions(nodes.ran) if each.text in mine]
    assert ledger.check(ran, told) == []
    assert {node for each in told for node, _, _ in each.attempts} == set(KINDS)
    failed = [each for each in told if not each.success]
    if fault == "drain":
        assert failed == []
    # No query fails, and of the plain requests those alone that the node was running.
    assert {(each.kind, each.delivery) for each in failed} <= {("plain", "UNKNOWN")}
    assert Counter(each.attempts[-1][0] for each in failed).total() <= 8 * len(KINDS)


def drain(nodes: Nodes, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "catga_sync", "drain", name],
        cwd=_ROOT,
        env=clean_environment({name: text for name, text in nodes.environment.items() if name.startswith("CATGA_")}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr

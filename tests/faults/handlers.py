"""The node that the fault tests serve: its handlers write down every execution. Configured by ``CATGA_*`` variables.

LEDGER    the file of executions
MOODS     anything: a behaviour misbehaves as the text of a request says (tests/faults/moods.py)
HANDLES   names of the messages that this node handles, "Ask,Do" if not given
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import cast

from catga_sync import BusinessError, CatgaResult, ClusterOptions, Mediator, create_cluster
from catga_sync.context import current_call
from tests.faults.ledger import Execution, append
from tests.faults.messages import Ask, Come, Do, Done, Echo, Fail, Go, Happened, Put, Wide
from tests.faults.moods import serving

local = Mediator()
mediator = create_cluster(local, ClusterOptions.from_env())


def execute(text: str, seconds: float = 0.0) -> Done:
    # First: what follows gives up the interpreter, and a process may be stopped before it has it again.
    began = time.monotonic()
    call = current_call()
    run = Execution(
        request_id="" if call is None else call.request_id,
        text=text,
        execution=uuid.uuid4().hex,
        node=mediator.node.node_id,
        pid=os.getpid(),
        start=began,
    )
    append(os.environ["LEDGER"], run)
    if seconds:
        threading.Event().wait(seconds)
    return Done(text, run.execution)


def ask(request: Ask) -> Done:
    return execute(request.text, request.seconds)


def do(request: Do) -> Done:
    return execute(request.text, request.seconds)


def put(request: Put) -> Done:
    return execute(request.text, request.seconds)


def go(request: Go) -> CatgaResult[Done] | Done:
    return mediator.send(Come(request.text, request.hops - 1)) if request.hops else execute(request.text)


def come(request: Come) -> CatgaResult[Done] | Done:
    return mediator.send(Go(request.text, request.hops - 1)) if request.hops else execute(request.text)


def echo(query: Echo) -> Wide:
    return query.wide


def fail(request: Fail) -> CatgaResult[Done | None] | Done | None:
    if request.how == "raise":
        raise BusinessError("not today", code="CLOSED")
    if request.how == "crash":
        raise ValueError("a secret: s3cr3t")
    if request.how == "unwritable":
        return cast(Done, object())
    if request.how == "long":
        return Done("x" * 5_000_000, "")
    if request.how == "nothing":
        return None
    return CatgaResult.failure("not today", request.how)


def happened(event: Happened) -> None:
    execute(event.text)


_HANDLERS = {
    "Ask": (Ask, ask),
    "Come": (Come, come),
    "Do": (Do, do),
    "Echo": (Echo, echo),
    "Fail": (Fail, fail),
    "Go": (Go, go),
    "Put": (Put, put),
}
for _name in os.environ.get("HANDLES", "Ask,Do").split(","):
    if _name == "Happened":
        local.subscribe(Happened, happened)
    elif _name:
        local.register(*_HANDLERS[_name])

if os.environ.get("MOODS"):
    local.add_behavior(serving(local.send))

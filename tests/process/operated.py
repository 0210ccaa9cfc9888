"""The app that the tests of the command line serve: configured by ``CATGA_*`` alone; one handler ends when told."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from catga_sync import BusinessError, ClusterOptions, Mediator, Query, Request, create_cluster, message
from catga_sync.integrations.flask import cluster_blueprint


@message(name="ops.Answer")
@dataclass(frozen=True)
class Answer:
    """Says what was asked and who answered."""

    text: str
    pid: int


@message(name="ops.Ask")
@dataclass(frozen=True)
class Ask(Query[Answer]):
    """A query."""

    text: str


@message(name="ops.Do")
@dataclass(frozen=True)
class Do(Request[Answer]):
    """A plain request."""

    text: str


@message(name="ops.Fail")
@dataclass(frozen=True)
class Fail(Request[Answer]):
    """A request that is refused by its handler."""


@message(name="ops.Hold")
@dataclass(frozen=True)
class Hold(Request[Answer]):
    """A request that runs from the file ``started`` to the file ``go``, both in ``folder``."""

    folder: str


local = Mediator()


@local.handler
def ask(request: Ask) -> Answer:
    return Answer(request.text, os.getpid())


@local.handler
def do(request: Do) -> Answer:
    return Answer(request.text, os.getpid())


@local.handler
def fail(request: Fail) -> Answer:
    raise BusinessError("not today \x1b[31m", code="CLOSED")


@local.handler
def hold(request: Hold) -> Answer:
    folder, pause = Path(request.folder), threading.Event()
    (folder / "started").touch()
    while not (folder / "go").exists():
        pause.wait(0.02)
    return Answer("held", os.getpid())


if "CATGA_ENDPOINT" in os.environ:
    mediator = create_cluster(local, ClusterOptions.from_env())
    app = Flask(__name__)
    app.register_blueprint(cluster_blueprint(mediator))

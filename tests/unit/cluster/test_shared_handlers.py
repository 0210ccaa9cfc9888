"""Cluster mediators that share a local one: the hooks of each watch its handlers until it is closed or dropped."""

from __future__ import annotations

import gc
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from flask import Flask

from catga_sync import ClusterMediator, Event, Mediator, Request, create_cluster
from catga_sync.hooks import HandleDetails
from catga_sync.integrations.flask import CatgaCluster
from tests.processes import until


@dataclass(frozen=True)
class Ask(Request[int]):
    number: int


@dataclass(frozen=True)
class Happened(Event):
    pass


class Seen:
    """A hook that counts the handlers and subscribers that have run."""

    def __init__(self) -> None:
        self.number = 0

    def on_handle(self, details: HandleDetails) -> None:
        self.number += 1


@pytest.fixture
def local() -> Iterator[Mediator]:
    made = Mediator()
    made.register(Ask, lambda request: request.number)
    made.subscribe(Happened, lambda event: None)
    yield made
    made.close()


def opened(local: Mediator, *hooks: object) -> ClusterMediator:
    return create_cluster(local, node_id="node", discovery=f"memory://{uuid.uuid4().hex}", environ={}, hooks=hooks)


def test_a_hook_sees_no_handler_after_its_mediator_is_closed(local: Mediator) -> None:
    first, second = Seen(), Seen()
    with opened(local, first) as made:
        made.add_hook(second)
        assert local.send(Ask(1)).unwrap() == 1
        assert made.send(Ask(2)).unwrap() == 2
        assert (first.number, second.number) == (2, 2)
    assert local.send(Ask(3)).unwrap() == 3
    assert local.send(Ask(3), timeout=10).unwrap() == 3
    assert local.publish(Happened())["local"]
    assert (first.number, second.number) == (2, 2)


def test_a_hook_that_goes_from_one_mediator_to_the_next_is_told_once(local: Mediator) -> None:
    hook = Seen()
    for number in (1, 2, 3):
        with opened(local, hook):
            local.send(Ask(number))
        assert hook.number == number


def test_a_hook_of_two_mediators_sees_handlers_until_both_are_closed(local: Mediator) -> None:
    hook = Seen()
    one, two = opened(local, hook), opened(local, hook)
    local.send(Ask(1))
    assert hook.number == 1
    one.close()
    local.send(Ask(2))
    assert hook.number == 2
    two.close()
    local.send(Ask(3))
    assert hook.number == 2


def test_a_hook_of_the_local_mediator_itself_stays(local: Mediator) -> None:
    hook = Seen()
    local.add_hook(hook)
    with opened(local, hook):
        local.send(Ask(1))
    local.send(Ask(2))
    assert hook.number == 2


def test_a_hook_that_is_added_to_the_local_mediator_too_is_told_once(local: Mediator) -> None:
    hook = Seen()
    with opened(local, hook):
        local.add_hook(hook)
        local.send(Ask(1))
    assert hook.number == 1
    local.send(Ask(2))
    assert hook.number == 2


def test_a_mediator_that_is_opened_again_has_its_hooks_back(local: Mediator) -> None:
    hook, late = Seen(), Seen()
    made = opened(local, hook)
    made.close()
    made.add_hook(late)
    local.send(Ask(1))
    assert (hook.number, late.number) == (0, 0)
    with made.start():
        local.send(Ask(2))
    assert (hook.number, late.number) == (1, 1)
    app = Flask(__name__)
    made.attach(lambda: app.testing)
    local.send(Ask(3))
    made.close()
    assert (hook.number, late.number) == (2, 2)


def test_apps_that_are_made_and_dropped_leave_no_hook_at_the_handlers_that_they_share() -> None:
    cluster = CatgaCluster()
    cluster.handler(answer)
    hooks: list[weakref.ref[Seen]] = []

    def make_app() -> Flask:
        hook = Seen()
        hooks.append(weakref.ref(hook))
        app = Flask(__name__)
        app.testing = True
        app.config.update(CATGA_NODE_ID="node", CATGA_HOOKS=[hook])
        cluster.init_app(app)
        return app

    for number in range(10):
        app = make_app()
        assert app.extensions["catga_sync"].send(Ask(number)).unwrap() == number
        del app
        gc.collect()

    def left() -> int:
        gc.collect()  # again and again: an app that its thread looks after at this moment is still in use
        opened(cluster.local).close()
        return sum(hook() is not None for hook in hooks)

    until(lambda: left() == 0, "their hooks are gone")


def answer(request: Ask) -> int:
    return request.number

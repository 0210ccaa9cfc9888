"""Mistakes that every checker must find, each in a line that ends with ``# error``. Checked, never executed."""

# pyright: strict
# ruff: noqa: B018 - an attribute that is not there is what is looked for

from __future__ import annotations

from catga_sync import create_cluster
from tests.typing.good import GetUser, User, UserDeleted, Users, local, mediator

mediator.send(GetUser("1")).unwrap().nmae  # error
mediator.send(GetUser("1")).value.name  # error
mediator.send(UserDeleted("1"))  # error
mediator.send(GetUser(1))  # error
mediator.send(GetUser("1"), timeout="2")  # error
mediator.send(GetUser("1"), context={"tenant": 7})  # error
mediator.publish(GetUser("1"))  # error
mediator.broadcast(GetUser("1"))["n"].unwrap().nmae  # error
number: int = local.send(GetUser("1")).unwrap()  # error
create_cluster(local, node_ids="n")  # error
create_cluster(local, request_timeout="5")  # error
create_cluster("local")  # error
local.subscribe(GetUser, print)  # error
local.register(UserDeleted, print)  # error


def wrong(request: GetUser) -> str:
    return request.user_id


local.register(GetUser, wrong)  # error
local.register(GetUser, Users())  # error


@local.handler
def get_user(request: GetUser) -> User:
    return User(request.user_id)


get_user("1")  # error


async def view() -> None:
    (await mediator.asend(GetUser("1"))).unwrap().nmae  # error
    mediator.asend(GetUser("1")).unwrap()  # error

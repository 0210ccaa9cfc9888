"""An app as people write it: no checker has anything to say of it. Checked, never executed."""

# pyright: strict

from __future__ import annotations

from dataclasses import dataclass

from catga_sync import CatgaResult, ClusterMediator, Event, Mediator, Query, Request, create_cluster
from catga_sync.context import current_call


@dataclass(frozen=True)
class User:
    name: str


@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str


@dataclass(frozen=True)
class FindUsers(Query[list[User]]):
    prefix: str


@dataclass(frozen=True)
class DeleteUser(Request[None]):
    user_id: str


@dataclass(frozen=True)
class UserDeleted(Event):
    user_id: str


local = Mediator()


@local.handler
def get_user(request: GetUser) -> User:
    return User(request.user_id)


@local.subscriber
def forget(event: UserDeleted) -> None:
    print(event.user_id)


class Users:
    def handle(self, request: DeleteUser) -> None:
        local.publish(UserDeleted(request.user_id), context={"reason": "asked"})

    def find(self, request: FindUsers) -> CatgaResult[list[User]]:
        call = current_call()
        if not request.prefix:
            return CatgaResult.failure("prefix: give one", code="PREFIX_MISSING")
        tenant = "" if call is None else call.context.get("tenant", "")
        return CatgaResult.success([User(tenant + request.prefix)])


local.register(DeleteUser, Users())
local.register(FindUsers, Users().find)
local.register(GetUser, lambda request: User(request.user_id))

mediator: ClusterMediator = create_cluster(
    local, node_id="n", endpoint="http://localhost:5001", router="random", max_retries=1, secret=["a" * 32, "b" * 32]
)
name: str = get_user(GetUser("1")).name
user: User = mediator.send(GetUser("1"), timeout=2, context={"tenant": "a"}).unwrap()
users: list[CatgaResult[User]] = [mediator.send(GetUser(each)) for each in "ab"]
maybe: User | None = mediator.send(GetUser("1")).value


async def view(user_id: str) -> str:
    result = await mediator.asend(GetUser(user_id), timeout=2, context={"tenant": "a"})
    return result.unwrap().name if result else str(result.error)

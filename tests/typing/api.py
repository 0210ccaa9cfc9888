"""What a type checker sees of the public API. Checked by mypy, never executed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import get_tracer_provider
from typing_extensions import assert_type

from catga_sync import (
    BusinessError,
    CatgaResult,
    ClusterMediator,
    ClusterNode,
    Delivery,
    ErrorCode,
    Event,
    Mediator,
    Query,
    Request,
    create_cluster,
    message,
)
from catga_sync.idempotency import (
    IdempotencyStore,
    MemoryIdempotency,
    RedisIdempotency,
    SharedIdempotencyStore,
    SqliteIdempotency,
)
from catga_sync.observability.logs import RequestIdFilter, json_formatter
from catga_sync.observability.opentelemetry import OpenTelemetryHook
from catga_sync.testing import FakeMediator, Fault, LocalCluster, override_handler, transparent


@dataclass(frozen=True)
class User:
    user_id: str
    name: str


@dataclass(frozen=True)
class GetUser(Query[User]):
    user_id: str


@message(name="users.Rename", idempotent=True)
@dataclass(frozen=True)
class RenameUser(Request[None]):
    user_id: str
    name: str


@dataclass(frozen=True)
class ListUsers(Query[list[User]]):
    pass


@dataclass(frozen=True)
class UserRenamed(Event):
    user_id: str


local = Mediator()


@local.handler
def get_user(request: GetUser) -> User:
    return User(request.user_id, "Ada")


@local.handler
def list_users(request: ListUsers) -> CatgaResult[list[User]]:
    return CatgaResult.success([User("1", "Ada")])


@local.subscriber
def forget(event: UserRenamed) -> None:
    pass


class Rename:
    def handle(self, request: RenameUser) -> None:
        pass


# The decorators return the function itself.
assert_type(get_user(GetUser("1")), User)
assert_type(list_users(ListUsers()), CatgaResult[list[User]])
forget_again: Callable[[UserRenamed], None] = forget
# @message returns the class itself.
assert_type(RenameUser("1", "Bo"), RenameUser)

local.register(RenameUser, Rename())
local.subscribe(UserRenamed, forget)

# The type of the answer comes from the type of the request, whichever mediator is asked.
assert_type(local.send(GetUser("1")), CatgaResult[User])
assert_type(local.send(GetUser("1"), timeout=2), CatgaResult[User])
assert_type(local.send(ListUsers()), CatgaResult[list[User]])
assert_type(local.send(RenameUser("1", "Bo")), CatgaResult[None])

mediator = create_cluster(local, node_id="node-1", endpoint="http://localhost:5001")
create_cluster(local, node_ids="node-1")  # type: ignore[call-arg]  # no such option
create_cluster(local, request_timeout="5")  # type: ignore[arg-type]  # seconds are a number
assert_type(mediator, ClusterMediator)
assert_type(mediator.send(GetUser("1")), CatgaResult[User])
assert_type(mediator.send(GetUser("1"), timeout=2.5), CatgaResult[User])
assert_type(mediator.send(ListUsers()).unwrap(), list[User])
# Requests of several types go together here, so the type of each answer is the reader's to know.
assert_type(mediator.send_batch([GetUser("1"), ListUsers()], timeout=2), list[CatgaResult[Any]])
assert_type(mediator.send_stream(GetUser(str(n)) for n in range(9)), Iterator[CatgaResult[Any]])
assert_type(mediator.broadcast(GetUser("1")), dict[str, CatgaResult[User]])
assert_type(mediator.nodes(), tuple[ClusterNode, ...])

with mediator as entered:
    assert_type(entered, ClusterMediator)

result = mediator.send(GetUser("1"))
assert_type(result.unwrap(), User)
assert_type(result.value, User | None)
assert_type(result.to_dict(), dict[str, Any])
assert_type(result.http_status, int)
assert_type(result.is_success, bool)
assert_type(result.error, str | None)
assert_type(result.code, ErrorCode | str | None)
assert_type(result.delivery, Delivery)


def anything(request: Request[Any]) -> CatgaResult[Any]:
    """A request whose type is not known stays usable."""
    return mediator.send(request)


def either(one: Mediator | ClusterMediator) -> CatgaResult[User]:
    """Code that does not care which mediator it has."""
    return one.send(GetUser("1"))


@dataclass(frozen=True)
class OutOfStock(BusinessError):
    """An error may be a dataclass, with a code of its class."""

    sku: str
    code = "shop.out_of_stock"


assert_type(OutOfStock(sku="A-1"), OutOfStock)
assert_type(BusinessError("no", code="shop.closed"), BusinessError)
assert_type(BusinessError("no").code, ErrorCode | str)


shared: list[SharedIdempotencyStore] = [SqliteIdempotency("ids.sqlite3"), RedisIdempotency("redis://redis")]
stores: list[IdempotencyStore] = [MemoryIdempotency(), *shared]


mediator.add_hook(OpenTelemetryHook())
local.add_hook(OpenTelemetryHook(tracer_provider=get_tracer_provider()))
assert_type(json_formatter(node_id="users"), logging.Formatter)
ids: logging.Filter = RequestIdFilter()


fake = FakeMediator()
fake.when(GetUser).returns(User("1", "Ada"))
fake.when(GetUser).returns(CatgaResult.failure("no", delivery=Delivery.UNKNOWN))
fake.when(GetUser).returns(get_user)
fake.when(RenameUser).returns(None)
assert_type(fake.send(GetUser("1")), CatgaResult[User])
assert_type(either(fake), CatgaResult[User])
with LocalCluster(max_retries=1) as nodes:
    assert_type(nodes.add_node("users", local, request_timeout=1.0), ClusterMediator)
    nodes.script("users", Fault.REFUSE)
with override_handler(local, GetUser, get_user), transparent(mediator):
    pass


# Mistakes that a checker must catch: without an error here, mypy reports the ignore as unused.
not_shared: SharedIdempotencyStore = MemoryIdempotency()  # type: ignore[assignment]
fake.when(GetUser).returns("Ada")  # type: ignore[arg-type]
fake.when(UserRenamed)  # type: ignore[arg-type]
LocalCluster(no_option=1)  # type: ignore[call-arg]
mediator.send("no request")  # type: ignore[arg-type]
mediator.send(UserRenamed("1"))  # type: ignore[arg-type]
local.send(GetUser("1"), timeout="2")  # type: ignore[arg-type]


@local.handler()  # type: ignore[untyped-decorator]
def with_parentheses(request: GetUser) -> User:
    """The decorator takes none."""
    return User(request.user_id, "Ada")

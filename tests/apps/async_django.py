"""
A Django project with an async view that awaits calls; run as a program, it calls the view as an ASGI server does.

Its arguments are the file of the database and the seconds that a connection lives.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from dataclasses import dataclass
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": sys.argv[1],
            "CONN_MAX_AGE": int(sys.argv[2]),
        }
    },
    ROOT_URLCONF=__name__,
)
django.setup()

from asgiref.sync import async_to_sync  # noqa: E402 - Django is set up first
from asgiref.testing import ApplicationCommunicator  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.signals import request_finished  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from catga_sync import Mediator, Query, create_cluster  # noqa: E402
from catga_sync.context import current_call  # noqa: E402
from catga_sync.integrations.django.scopes import within_request  # noqa: E402

#: The calls that have sent ``request_finished``, at which Django looks after the connections of a thread: whether the
#: thread has kept its connection.
finished: list[bool] = []


def note(sender: type, **rest: Any) -> None:
    if sender.__name__ == "DjangoScope":
        finished.append(connection.connection is not None)


request_finished.connect(note)


@dataclass(frozen=True)
class Add(Query[int]):
    one: int
    other: int


@dataclass(frozen=True)
class AddLater(Query[int]):
    """Its handler awaits an Add, as a handler does that uses a client for asyncio."""

    one: int
    other: int


local = Mediator()


@local.handler
def add(request: Add) -> int:
    call = current_call()
    assert call is not None
    assert call.context["tenant"] == f"t{request.one}"
    assert threading.current_thread().name.startswith("catga-asend")
    # Django refuses this in a thread that runs an event loop.
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s + %s", [request.one, request.other])
        return int(cursor.fetchone()[0])


@local.handler
def add_later(request: AddLater) -> int:
    return async_to_sync(mediator.asend)(Add(request.one, request.other)).unwrap()


mediator = create_cluster(local, node_id="shop", discovery="memory://", environ={})


async def sums(request: HttpRequest, one: int) -> JsonResponse:
    kind = Add if one % 2 else AddLater
    calls = [mediator.asend(kind(one, other), context={"tenant": f"t{one}"}) for other in range(5)]
    return JsonResponse([each.unwrap() for each in await asyncio.gather(*calls)], safe=False)


urlpatterns = [path("sums/<int:one>", sums)]
application = get_asgi_application()


async def page(number: int) -> Any:
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": f"/sums/{number}", "query_string": b"",
        "headers": [(b"host", b"testserver")],
    }  # fmt: skip
    server = ApplicationCommunicator(application, scope)
    await server.send_input({"type": "http.request", "body": b""})
    start = await server.receive_output(60)
    body = await server.receive_output(60)
    await server.wait()
    assert start["status"] == 200
    return json.loads(body["body"])


async def main() -> None:
    print(json.dumps(await asyncio.gather(*(page(number) for number in range(20)))))


if __name__ == "__main__":
    with mediator:
        asyncio.run(main())
        print(json.dumps(finished))
        finished.clear()
        # As Django's view for the calls of other nodes, whose handler awaits a call.
        with within_request(True):
            assert asyncio.run(mediator.asend(Add(0, 1), context={"tenant": "t0"})).unwrap() == 1
        print(json.dumps(finished))

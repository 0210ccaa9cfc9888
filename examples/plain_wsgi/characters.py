"""The service with the handler: Python's own Unicode database, behind a WSGI app that has nothing to show."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from catga_sync import Mediator, create_cluster
from catga_sync.integrations.wsgi import ClusterMiddleware

from messages import Character, DescribeText

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

local = Mediator()


@local.handler
def describe(query: DescribeText) -> list[Character]:
    return [Character(c, unicodedata.name(c, "(no name)"), unicodedata.category(c)) for c in query.text]


port = os.environ.get("PORT", "5021")
mediator = create_cluster(local, node_id="characters", endpoint=f"http://localhost:{port}")


def nothing_here(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"This service answers its cluster only.\n"]


# Whatever belongs to the cluster never reaches the app; whatever does not, does.
application = ClusterMiddleware(nothing_here, mediator)

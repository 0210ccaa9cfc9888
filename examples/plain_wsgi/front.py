"""The service with the page: a WSGI app by hand, no framework."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from catga_sync import Mediator, create_cluster
from catga_sync.integrations.wsgi import ClusterMiddleware

from messages import DescribeText

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

port = os.environ.get("PORT", "5022")
mediator = create_cluster(Mediator(), node_id="front", endpoint=f"http://localhost:{port}")


def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    text = environ["PATH_INFO"].lstrip("/").encode("latin-1").decode("utf-8", "replace")
    result = mediator.send(DescribeText(text))
    if result.is_success:
        status, lines = "200 OK", [f"{c.character} {c.category} {c.name}" for c in result.unwrap()]
    else:
        status, lines = "502 Bad Gateway", [result.error or ""]
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{line}\n".encode() for line in lines]


application = ClusterMiddleware(page, mediator)

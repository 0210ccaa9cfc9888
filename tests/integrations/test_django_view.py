"""The view of the cluster's routes in a Django that is set up in a process of its own."""

from __future__ import annotations

import pytest

from tests.conftest import require_module
from tests.processes import run

require_module("django")

_DJANGO = """
import io
import socket
import sys

import django
from django.conf import settings
from django.http import HttpResponse

REPLACED = sys.argv[1] == "replaced"


def replacing(get_response):
    def answer(request):
        response = get_response(request)
        return HttpResponse("no", status=418) if REPLACED else response

    return answer


sys.modules["middlewares"] = sys.modules[__name__]
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="catga_sync.integrations.django.urls",
    INSTALLED_APPS=["catga_sync.integrations.django"],
    MIDDLEWARE=["middlewares.replacing"],
    CATGA={"node_id": "n", "endpoint": "http://127.0.0.1:1", "discovery": "memory://x", "insecure": True},
)
django.setup()
from django.core.handlers.wsgi import WSGIHandler

from catga_sync.integrations import wsgi

ours, theirs = socket.socketpair()
environ = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/catga/cluster/node", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:1", "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "gunicorn.socket": ours,
}


def watched():
    return ours in [each.sock for each in wsgi._cut_off._writing.values()]


with ours, theirs:
    response = WSGIHandler()(environ, lambda status, headers: print(status[:3]))
    print(watched())
    b"".join(response)
    print(watched())
    response.close()
    print(watched())
"""


@pytest.mark.parametrize(("way", "status", "while_written"), [("kept", "200", "True"), ("replaced", "418", "False")])
def test_a_response_is_watched_while_it_is_written_and_no_longer(way: str, status: str, while_written: str):
    done = run("-W", "error", "-c", _DJANGO, way)
    assert done.stdout.split() == [status, "False", while_written, "False"], done.stderr

"""The contract of adapters, for the view: ../test_django_commands.py runs it in a process that has Django."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from django.utils.functional import empty
from werkzeug.test import Client

from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.integrations.django import mediator
from catga_sync.integrations.django import node as django_node
from catga_sync.wire.routes import INVOKE_PATH, NODE_PATH
from tests.contracts.adapter import AdapterContract
from tests.contracts.receiver import Answer, Call, invocation
from tests.integrations.test_receivers import through

# ``get_wsgi_application`` would start the node of the project, as a server does.
django.setup()
application = WSGIHandler()


class TestDjangoView(AdapterContract):
    @pytest.fixture(autouse=True)
    def allowed(self) -> Iterator[None]:
        with override_settings(ALLOWED_HOSTS=["*"]):
            yield
        django_node._made.clear()

    def exchange(self, node: ClusterMediator, call: Call) -> Answer:
        if django_node._made.get("CATGA") is not node:
            django_node._made["CATGA"] = node
            proxy: Any = mediator
            proxy._wrapped = empty
        return through(Client(application), call)

    def test_a_head_request_gets_the_headers_only(self, node: ClusterMediator) -> None:
        answer = self.exchange(node, Call(method="HEAD", path=NODE_PATH))
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0

    @pytest.mark.parametrize("path", [INVOKE_PATH + "/", "/catga/cluster/other", "/catga/cluster"])
    def test_every_other_path_is_one_of_the_project(self, node: ClusterMediator, path: str) -> None:
        answer = self.exchange(node, Call(path=path))
        assert (answer.status, answer.executed) == (404, None)

    @pytest.mark.skipif(django.VERSION < (5, 1), reason="has no middleware that asks for a login")
    def test_a_login_is_not_asked_for(self, node: ClusterMediator) -> None:
        # Django makes the middleware of an application when that is made.
        required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
        with override_settings(MIDDLEWARE=["tests.apps.django_node.middleware.nobody", required]):
            client = Client(WSGIHandler())
        with override_settings(LOGIN_URL="/login"):
            assert client.get("/place/1").status_code == 302
            self.exchange(node, invocation())
            assert through(client, invocation(requestId="r-2")).reply.is_success

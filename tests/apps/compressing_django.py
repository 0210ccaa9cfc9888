"""A Django project with ``GZipMiddleware`` behind the cluster's middleware."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.process.app import mediator

__all__ = ["app"]


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("tea and biscuits " * 500)


urlpatterns = [path("page", page)]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of these tests only",
)
django.setup()
app = ClusterMiddleware(get_wsgi_application(), mediator)

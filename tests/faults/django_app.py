"""The Django app that the fault tests serve: Django alone, with no app of its own."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application

from catga_sync.integrations.wsgi import ClusterMiddleware
from tests.faults.handlers import mediator

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of the fault tests")
django.setup()

urlpatterns: list[object] = []
app = ClusterMiddleware(get_wsgi_application(), mediator)

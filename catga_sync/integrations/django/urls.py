"""The routes of the cluster, for the root URLconf: ``path("", include("catga_sync.integrations.django.urls"))``."""

from __future__ import annotations

from django.urls import path

from catga_sync.integrations.django.views import receive
from catga_sync.integrations.wsgi import ROUTES

__all__ = ["urlpatterns"]

urlpatterns = [path(route.lstrip("/"), receive) for route in sorted(ROUTES)]

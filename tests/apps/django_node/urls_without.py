"""A URLconf without the routes of the cluster."""

from typing import Any

urlpatterns: list[Any] = []

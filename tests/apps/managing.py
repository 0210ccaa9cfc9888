"""Runs commands of the Django project ``tests.apps.django_node``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import processes

__all__ = ["APPS", "ROOT", "environment_of", "manage"]

ROOT = Path(__file__).parents[2]
APPS = ["catga_sync.integrations.django", "tests.apps.django_project", "tests.apps.django_node"]


def environment_of(folder: Path) -> dict[str, str]:
    """Return what the project needs to know where it keeps its database and its nodes."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.apps.django_node.settings",
        "SHOP_DATABASE": str(folder / "shop.sqlite3"),
        "CATGA_DISCOVERY": f"sqlite:///{folder / 'nodes.sqlite3'}",
    }


def manage(folder: Path, *command: str, settings: dict[str, Any] | None = None, **environment: str) -> Any:
    """Run a command of ``manage.py`` to its end."""
    given = {**environment_of(folder), "SHOP_SETTINGS": json.dumps(settings or {}), **environment}
    return processes.run("-W", "error", "-m", "django", *command, cwd=ROOT, env=given)

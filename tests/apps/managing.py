"""Runs commands of the Django project ``tests.apps.django_node``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import processes

__all__ = ["APPS", "ROOT", "manage"]

ROOT = Path(__file__).parents[2]
APPS = ["catga_sync.integrations.django", "tests.apps.django_project", "tests.apps.django_node"]


def manage(folder: Path, *command: str, settings: dict[str, Any] | None = None, **environment: str) -> Any:
    """Run a command of ``manage.py`` to its end."""
    given = {
        "DJANGO_SETTINGS_MODULE": "tests.apps.django_node.settings",
        "SHOP_DATABASE": str(folder / "shop.sqlite3"),
        "SHOP_SETTINGS": json.dumps(settings or {}),
        "CATGA_DISCOVERY": f"sqlite:///{folder / 'nodes.sqlite3'}",
        **environment,
    }
    return processes.run("-W", "error", "-m", "django", *command, cwd=ROOT, env=given)

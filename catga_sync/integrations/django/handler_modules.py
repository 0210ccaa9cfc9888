"""Finds the handlers: imports ``handlers.py`` of every installed app, and notes those that do not register."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from catga_sync.errors import RegistrationError
from catga_sync.integrations.django.node import handler, local, subscriber

__all__ = ["HandlerModules", "found"]

_NAME = "handlers"


@dataclass
class HandlerModules:
    """What the import of the modules has come to. Filled once, at the start."""

    #: Name of the module -> what its registration has raised.
    failed: dict[str, RegistrationError]
    #: Names of modules that import ``handler`` or ``subscriber`` and register nothing.
    idle: list[str]

    def find(self) -> None:
        """Import them. Other errors than those of a registration are raised, as for any module of an app."""
        for config in apps.get_app_configs():
            if config.module is None or not module_has_submodule(config.module, _NAME):
                continue
            name = f"{config.name}.{_NAME}"
            before, imported = _registered(), name in sys.modules
            try:
                module = import_module(name)
            except RegistrationError as exc:
                self.failed[name] = exc
                continue
            if not imported and _registered() == before and _has_decorator(module):
                self.idle.append(name)


def _registered() -> tuple[int, int]:
    return len(local.handled), len(local.subscribed)


def _has_decorator(module: ModuleType) -> bool:
    """Return whether it means to register something: other libraries have modules of that name as well."""
    return any(value is handler or value is subscriber for value in vars(module).values())


found = HandlerModules({}, [])

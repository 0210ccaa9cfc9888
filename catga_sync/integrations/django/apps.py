"""The app: finds the handlers, connects to Django, and has a server process serve."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.core.signals import request_started, setting_changed

from catga_sync.integrations.django import node
from catga_sync.integrations.django.handler_modules import found

__all__ = ["CatgaConfig"]


class CatgaConfig(AppConfig):
    """
    The app ``catga_sync.integrations.django``; its label is ``catga``.

    .. versionadded:: 0.1
    """

    name = "catga_sync.integrations.django"
    label = "catga"
    verbose_name = "Cluster mediator"

    def ready(self) -> None:
        """
        Import the handlers of all apps; in a server process, serve.

        Raises:
            ConfigurationError: An option in ``settings.CATGA`` is wrong, and this process is a server.
            RegistrationError: A handler cannot be registered, and this process is a server.
        """
        from catga_sync.integrations.django.before_request import before_request
        from catga_sync.integrations.django.checks import check

        found.find()
        checks.register(check, "catga")
        setting_changed.connect(node.setting_changed)
        request_started.connect(before_request)
        # A command reports what is wrong as a check; a server has no checks, and ends here.
        if node.serves():
            for error in found.failed.values():
                raise error
            node.serve()

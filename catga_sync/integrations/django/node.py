"""This process as a node: its handlers, its mediator, and whether it serves.

Rules of this file:
1. The mediator is made at its first use, so that ``manage.py check`` can report a wrong option. It starts nothing.
2. Only a server attaches it: a command such as ``migrate``, a shell and the parent of a reloader start no thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, cast

from django.conf import settings
from django.core import mail
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV
from django.utils.functional import SimpleLazyObject, empty

from catga_sync._option import naming_as_written
from catga_sync.cluster.exits import close_at_exit
from catga_sync.cluster.factory import create_cluster
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.errors import ConfigurationError
from catga_sync.mediator import Mediator
from catga_sync.options import ClusterOptions

__all__ = ["handler", "local", "mediator", "serve", "serves", "setting_changed", "subscriber", "under_test"]

_SETTING = "CATGA"

#: The mediator with the handlers and subscribers of all apps.
local = Mediator()
#: Registers a function of this process as a handler; see ``Mediator.handler``.
handler = local.handler
#: Registers a function of this process as a subscriber; see ``Mediator.subscriber``.
subscriber = local.subscriber

#: The cluster mediator once it is made. A dict, since ``setdefault`` needs no lock, which a fork could leave held.
_made: dict[str, ClusterMediator] = {}
_attached: list[ClusterMediator] = []


def under_test() -> bool:
    """Return whether Django's test environment is set up."""
    return hasattr(mail, "outbox")


def _options(given: object) -> ClusterOptions:
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ConfigurationError(f"settings.{_SETTING}: give a dict of options, such as {{'node_id': 'shop-1'}}")
    # Each call is to pass the middleware of the project, which a call over a stream would not.
    options = ClusterOptions.from_env(None, **given).with_changes({"max_streams": 0})
    if options.discovery is None and under_test():
        return options.with_changes({"discovery": "memory://"})
    return options


def _current() -> ClusterMediator:
    found = _made.get(_SETTING)
    if found is None:
        given = getattr(settings, _SETTING, {})
        with naming_as_written(given, f"settings.{_SETTING}: "):
            found = _made.setdefault(_SETTING, create_cluster(local, _options(given)))
        close_at_exit(found)
    return found


#: The mediator of this process, made of ``settings.CATGA`` and the environment at its first use; a proxy. Thread-safe.
mediator = cast("ClusterMediator", SimpleLazyObject(_current))


def serves() -> bool:
    """Return whether this process is a web server: it makes the WSGI application, or runs what ``runserver`` serves."""
    if sys.argv[1:2] == ["runserver"]:
        reloaded = os.environ.get(DJANGO_AUTORELOAD_ENV) == "true"  # noqa: TID251 - Django's own, and no option
        return reloaded or "--noreload" in sys.argv
    # get_wsgi_application() sets Django up in a server. The module alone shows nothing: django.test imports it, too.
    wsgi = sys.modules.get("django.core.wsgi")
    frame: FrameType | None = sys._getframe() if wsgi is not None else None
    while wsgi is not None and frame is not None:
        if frame.f_code is wsgi.get_wsgi_application.__code__:
            return True
        frame = frame.f_back
    return False


def serve() -> None:
    """
    Mark this process as a server, once: its node becomes visible as soon as its endpoint responds.

    Raises:
        ConfigurationError: An option in ``settings.CATGA`` is wrong.
    """
    made = _current()
    if made not in _attached:
        _attached[:] = [made]
        made.attach(under_test)


def setting_changed(*, setting: str, **_: Any) -> None:
    """Make another mediator after a test has changed ``settings.CATGA``; Django calls this."""
    if setting == _SETTING and _made:
        _made.pop(_SETTING).close()
        cast("Any", mediator)._wrapped = empty

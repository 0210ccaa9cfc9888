"""The ``CATGA_*`` names of environment variables and of an app's config, and which of them are options.

Not every variable with the prefix is an option. Kubernetes and Docker put the addresses of a service named ``catga-x``
into every container, as ``CATGA_X_SERVICE_HOST``, ``CATGA_X_PORT=tcp://10.0.0.1:6379`` and so on ("service links"):
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["PREFIX", "layered", "option_values"]

PREFIX = "CATGA_"

_NO_OPTIONS = ("RUNTIME_DIR",)
#: Read by this project's own tests.
_TESTS = "TESTS_"
#: The names of service links behind the prefix; of a service named "catga" itself there is nothing before them.
_LINK = re.compile(
    r"(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)"
)
#: Names and values of service links whose name alone could be that of a misspelt option. Docker adds the name of the
#: link as /app/catga_x.
_LINK_BY_VALUE = (
    (re.compile(r"(?:[A-Z0-9_]+_)?PORT"), re.compile(r"(?:tcp|udp|sctp)://\S+:\d+")),
    (re.compile(r"(?!CLUSTER_NAME$)[A-Z0-9_]+_NAME"), re.compile(r"/[^/]+/[^/]+")),
)
#: The environment of a linked Docker container.
_LINKED_ENVIRONMENT = re.compile(r"[A-Z0-9_]+_ENV_[A-Za-z0-9_]+")


def option_values(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """
    Return option name -> value for the ``CATGA_`` keys of a mapping, without those that are no options.

    Args:
        mapping: Environment variables, or an app's config. Other keys are ignored.
    """
    return {
        key[len(PREFIX) :].lower(): value
        for key, value in mapping.items()
        if isinstance(key, str) and key.startswith(PREFIX) and not _is_no_option(key[len(PREFIX) :], value)
    }


def layered(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of both; those of ``above`` take precedence. ``discovery`` and ``peers`` are one choice."""
    merged = {**below, **above}
    if "peers" not in above and above.get("discovery", "static") not in ("static", None):
        merged.pop("peers", None)
    if "discovery" not in above and above.get("peers") is not None:
        merged.pop("discovery", None)
    return merged


def _is_no_option(name: str, value: object) -> bool:
    if name in _NO_OPTIONS or name.startswith(_TESTS):
        return True
    if _LINK.fullmatch(name) or _LINKED_ENVIRONMENT.fullmatch(name):
        return True
    text = value if isinstance(value, str) else ""
    return any(names.fullmatch(name) and values.fullmatch(text) for names, values in _LINK_BY_VALUE)

"""The options of the cluster for a command: from its arguments, the environment, or an application's mediator."""

from __future__ import annotations

import argparse
import importlib
import sys
import uuid
from pathlib import Path
from typing import Any

from catga_sync._endpoint import check_endpoint
from catga_sync._redaction import shown, without_credentials
from catga_sync.cluster.mediator import ClusterMediator
from catga_sync.discovery.memory import MemoryDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.mediator import Mediator
from catga_sync.nodes import check_node_id
from catga_sync.options import ENVIRONMENT_PREFIX, ClusterOptions
from catga_sync.serialization import MessageRegistry

__all__ = ["CommandFailed", "address", "load", "node_options", "options_for"]


class CommandFailed(Exception):
    """The command is used wrongly; the text is one line that names the option."""


def options_for(
    args: argparse.Namespace, timeout: float | None = None
) -> tuple[ClusterOptions, MessageRegistry | None]:
    """
    Return the options of the cluster, and the registry of the application; None without one.

    Args:
        args: The arguments of the command.
        timeout: Seconds for the command where ``--timeout`` is not given; None means the options' value.

    Raises:
        CommandFailed: An option is wrong, or the application cannot be loaded.
    """
    app = None if args.app is None else _application(args.app)
    given = _given(args)
    seconds = timeout if args.timeout is None else args.timeout
    if seconds is not None:
        given["request_timeout"] = seconds
    # A new name, since that of a node would hide the node. No endpoint: this process takes no calls.
    name = f"catga-sync-{uuid.uuid4().hex[:8]}"
    alone = {"node_id": name, "endpoint": None, "router": "random", "idempotency": "off"}
    base = app.options if isinstance(app, ClusterMediator) else None
    try:
        changes = {**alone, **given}
        options = ClusterOptions.from_env(**changes) if base is None else base.with_changes(changes)
    except ConfigurationError as exc:
        raise CommandFailed(_with_given_name(str(exc), given, from_env=base is None)) from exc
    if _is_memory(options.discovery):
        text = "discovery: memory:// is the memory of one process, which this command cannot see into"
        text = f"{text}; give the store that the nodes share"
        raise CommandFailed(_with_given_name(text, given, from_env=base is None))
    return options, None if app is None else app.registry


def node_options(args: argparse.Namespace) -> ClusterOptions:
    """
    Return the options of the node itself: as ``options_for``, with its own id, endpoint and request_timeout.

    Raises:
        CommandFailed: The application cannot be loaded.
        ConfigurationError: An option is wrong.
    """
    app = None if args.app is None else _application(args.app)
    given = _given(args)
    try:
        return app.options.with_changes(given) if isinstance(app, ClusterMediator) else ClusterOptions.from_env(**given)
    except ConfigurationError as exc:
        text = _with_given_name(str(exc), given, from_env=not isinstance(app, ClusterMediator))
        raise ConfigurationError(text) from exc


def _is_memory(given: object) -> bool:
    return isinstance(given, MemoryDiscovery) or (isinstance(given, str) and given.startswith("memory://"))


def _given(args: argparse.Namespace) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if args.discovery is not None:
        given["discovery"] = args.discovery
        if args.discovery != "static":
            given["peers"] = None
    if args.cluster is not None:
        given["cluster_name"] = args.cluster
    return given


def address(text: str) -> tuple[str | None, str]:
    """Return node id and endpoint of ``[ID=]URL``; the id is None when it is not given."""
    node_id, equals, url = text.rpartition("=")
    try:
        return (check_node_id(node_id) if equals else None), check_endpoint(url)
    except ConfigurationError as exc:
        raise argparse.ArgumentTypeError(f"give [ID=]URL, as in node-1=http://127.0.0.1:5001 ({exc})") from None


def _application(text: str) -> ClusterMediator | Mediator:
    found = load(text, "--app")
    # A Flask app has its mediator there.
    extensions = getattr(found, "extensions", None)
    if isinstance(extensions, dict) and "catga_sync" in extensions:
        found = extensions["catga_sync"]
    if not isinstance(found, (ClusterMediator, Mediator)):
        raise CommandFailed(f"--app: {text} is no mediator but {type(found).__name__}")
    return found


def load(text: str, option: str) -> object:
    """Return the object that ``MODULE:NAME`` stands for; ``option`` is the argument, for errors."""
    module_name, colon, path = text.partition(":")
    if not colon or not all(name.isidentifier() for name in f"{module_name}.{path}".split(".")):
        raise CommandFailed(f"{option}: give MODULE:MEDIATOR, as in users:mediator, not {shown(text)}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception as exc:
        why = without_credentials(str(exc))
        raise CommandFailed(f"{option}: {text} cannot be loaded: {type(exc).__name__}: {why}") from exc
    return found


def _with_given_name(text: str, given: dict[str, Any], *, from_env: bool) -> str:
    """Return an error text with the option's name as it was given: an argument or an environment variable."""
    name, colon, rest = text.partition(": ")
    flags = {"cluster_name": "--cluster", "discovery": "--discovery", "request_timeout": "--timeout"}
    if name in given and name in flags:
        return f"{flags[name]}{colon}{rest}"
    return f"{ENVIRONMENT_PREFIX}{name.upper()}{colon}{rest}" if from_env and name.isidentifier() else text

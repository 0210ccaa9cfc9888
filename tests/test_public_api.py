"""What the outside sees: the names, the one root of errors, and that importing costs nothing."""

from __future__ import annotations

import builtins
import enum
import inspect
import json
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import catga_sync
from catga_sync import errors
from catga_sync.errors import CallError, CatgaError, Delivery, ErrorCode
from tests.processes import clean_environment
from tests.tables import every_row

#: As API.md lists them.
NAMES = [
    "Mediator",
    "ClusterMediator",
    "create_cluster",
    "ClusterOptions",
    "ClusterNode",
    "ClusterEvent",
    "NodeStatus",
    "CatgaResult",
    "Delivery",
    "ErrorCode",
    "Request",
    "Query",
    "Event",
    "message",
    "MessageRegistry",
    "CatgaSchema",
    "CatgaError",
]
ENUMS = ["NodeStatus", "Delivery", "ErrorCode"]
CALLS = [
    "handler",
    "register",
    "subscribe",
    "subscriber",
    "add_behavior",
    "send",
    "send_batch",
    "send_stream",
    "publish",
    "publish_batch",
    "broadcast",
    "explain",
]
#: What ClusterMediator adds.
MORE = ["nodes", "node", "start", "drain", "close", "events", "on_event", "__enter__", "__exit__"]
RESULT = [
    "is_success",
    "value",
    "error",
    "code",
    "delivery",
    "request_id",
    "node_id",
    "processing_time_ms",
    "attempts",
    "metadata",
    "unwrap",
    "success",
    "failure",
]
NODE = ["node_id", "endpoint", "status", "load", "last_heartbeat", "metadata", "handles", "incarnation"]
OPTIONS = [
    "node_id",
    "endpoint",
    "cluster_name",
    "discovery",
    "router",
    "request_timeout",
    "heartbeat_interval",
    "heartbeat_timeout",
    "enable_failover",
    "max_retries",
    "retry_delay",
    "metadata",
    "secret",
    "session",
    "verify",
    "cert",
    "insecure",
    "compression",
    "max_body_bytes",
    "max_concurrency",
    "pool_size",
    "peers",
]
ERRORS = [
    found for name in errors.__all__
    if isinstance(found := getattr(errors, name), type) and issubclass(found, CatgaError)
]  # fmt: skip
CLASSES = [
    found for name in catga_sync.__all__
    if isinstance(found := getattr(catga_sync, name), type) and not issubclass(found, (enum.Enum, Exception))
]  # fmt: skip
#: Bases of the user's own classes: what those are is for him to say.
BASES = {"Request", "Query", "Event"}


# -- names -------------------------------------------------------------------------------------------------------------


@every_row("name", NAMES)
def test_every_name_is_at_the_root(name: str) -> None:
    assert hasattr(catga_sync, name)
    assert name in catga_sync.__all__


def test_what_is_exported_exists_once_and_has_one_home() -> None:
    assert len(catga_sync.__all__) == len(set(catga_sync.__all__))
    for name in catga_sync.__all__:
        found = getattr(catga_sync, name)
        assert found.__name__ == name
        assert getattr(sys.modules[found.__module__], name) is found
    namespace: dict[str, Any] = {}
    exec("from catga_sync import *", namespace)
    assert set(catga_sync.__all__) <= set(namespace)


@every_row("name", [cls.__name__ for cls in ERRORS])
def test_every_error_is_at_the_root(name: str) -> None:
    assert name in catga_sync.__all__


@pytest.mark.parametrize("name", ENUMS)
def test_the_enums_are_enums_with_upper_case_names(name: str) -> None:
    members = getattr(catga_sync, name)
    assert issubclass(members, enum.Enum)
    assert issubclass(members, str)
    assert all(member.name == member.name.upper() for member in members)


def test_the_version_is_that_of_the_package() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z0-9.+]*)", catga_sync.__version__)


@every_row("call", CALLS)
def test_both_mediators_have_every_call_with_the_same_parameters(call: str) -> None:
    here, there = (inspect.signature(getattr(cls, call)) for cls in (catga_sync.Mediator, catga_sync.ClusterMediator))
    assert list(here.parameters) == list(there.parameters)
    assert [each.kind for each in here.parameters.values()] == [each.kind for each in there.parameters.values()]


@every_row(
    ("cls", "names"),
    [("ClusterMediator", MORE), ("CatgaResult", RESULT), ("ClusterNode", NODE), ("ClusterOptions", OPTIONS)],
)
def test_a_class_has_what_is_promised_of_it(cls: str, names: list[str]) -> None:
    found = getattr(catga_sync, cls)
    fields = getattr(found, "__dataclass_fields__", {})
    assert [name for name in names if not hasattr(found, name) and name not in fields] == []


@every_row("call", ["send", "send_batch", "broadcast", "drain"])
def test_a_timeout_is_given_by_name(call: str) -> None:
    timeout = inspect.signature(getattr(catga_sync.ClusterMediator, call)).parameters["timeout"]
    assert timeout.default is None
    assert call == "drain" or timeout.kind is inspect.Parameter.KEYWORD_ONLY


def test_the_parameters_of_message_are_these() -> None:
    parameters = inspect.signature(catga_sync.message).parameters
    assert {name: each.default for name, each in parameters.items()} == {
        "name": None, "aliases": (), "schema": None, "response_name": None, "response_schema": None,
        "idempotent": None, "route": None, "key": None, "remote": True,
    }  # fmt: skip


# -- errors ------------------------------------------------------------------------------------------------------------


@every_row("cls", ERRORS)
def test_there_is_one_root_of_errors(cls: type[CatgaError]) -> None:
    assert issubclass(cls, CatgaError)
    assert not issubclass(CatgaError, (ValueError, TypeError, OSError))
    # None of them hides a builtin of the same name.
    assert not hasattr(builtins, cls.__name__)


def made(cls: type[CatgaError]) -> CatgaError:
    if cls is errors.NodeIdTaken:
        return errors.NodeIdTaken("node-1", "http://localhost:1")
    if issubclass(cls, CallError):
        return cls("no seat left", code="shop.sold_out", delivery=Delivery.EXECUTED)
    return cls("no seat left")


@every_row("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@every_row("cls", ERRORS)
def test_every_error_pickles_with_code_and_delivery(cls: type[CatgaError], protocol: int) -> None:
    error = made(cls)
    error.__notes__ = ["with a note"]
    twin = pickle.loads(pickle.dumps(error, protocol))
    assert (type(twin), str(twin)) == (type(error), str(error))
    for name in ("code", "delivery", "node_id", "endpoint"):
        assert getattr(twin, name, None) == getattr(error, name, None)


@every_row("code", list(ErrorCode))
@every_row("delivery", list(Delivery))
def test_what_unwrap_raises_pickles_with_its_result(code: ErrorCode, delivery: Delivery) -> None:
    result = catga_sync.CatgaResult[int].failure("no", code, delivery=delivery)
    with pytest.raises(CallError) as caught:
        result.unwrap()
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (type(twin), twin.code, twin.delivery, twin.result) == (type(caught.value), code, delivery, result)


# -- docstrings --------------------------------------------------------------------------------------------------------


@every_row("cls", [cls for cls in CLASSES if cls.__name__ not in BASES])
def test_a_public_class_says_whether_threads_may_share_it(cls: type) -> None:
    assert re.search(r"thread-safe|immutable", inspect.getdoc(cls) or "", re.IGNORECASE)


@every_row("name", [name for name in catga_sync.__all__ if name not in ("Delivery", "ErrorCode")])
def test_every_public_thing_says_what_it_is(name: str) -> None:
    assert len((getattr(catga_sync, name).__doc__ or "").strip()) > 20


# -- importing ---------------------------------------------------------------------------------------------------------


def run(script: str, **env: str) -> Any:
    """Run a script in a fresh interpreter; return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**clean_environment(), "PYTHONDONTWRITEBYTECODE": "1", **env},
        cwd=Path(catga_sync.__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_starts_no_thread_and_opens_nothing_but_modules() -> None:
    said = run(
        """
        import importlib.machinery, json, os, sys, threading
        import marshmallow, requests, urllib3  # which look on their own what this machine can do

        suffixes = tuple(importlib.machinery.all_suffixes())
        seen = []

        def watch(event, arguments):
            if event == "open":
                path = arguments[0]
                # Modules, and the folders in which they are looked for. A number is a file that is open already.
                if isinstance(path, (str, bytes)):
                    path = os.fsdecode(path)
                    if not path.endswith(suffixes) and not path.startswith(tuple(filter(None, sys.path))):
                        seen.append(f"open {path}")
            elif event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "sqlite3.",
                                   "os.mkdir", "os.remove", "os.rename", "tempfile.", "shutil.", "os.putenv")):
                seen.append(f"{event} {arguments!r:.100}")
            elif event == "_thread.start_new_thread":
                seen.append(event)

        sys.addaudithook(watch)
        import catga_sync
        print(json.dumps({"seen": seen, "threads": [thread.name for thread in threading.enumerate()]}))
        """
    )
    assert said == {"seen": [], "threads": ["MainThread"]}


def test_importing_reads_no_variable_of_ours_and_neither_does_who_is_given_all_options() -> None:
    said = run(
        """
        import json, os, sys

        asked = []

        class Watched(type(os.environ)):
            def __getitem__(self, name):
                asked.append(name)
                return super().__getitem__(name)

            def __iter__(self):
                asked.append("CATGA_ (all of them)")
                return super().__iter__()

        os.environ.__class__ = Watched
        import catga_sync
        mediator = catga_sync.Mediator()
        catga_sync.create_cluster(mediator, catga_sync.ClusterOptions(), node_id="n", endpoint="http://localhost:1")
        catga_sync.create_cluster(mediator, environ={}, node_id="n")
        print(json.dumps([name for name in asked if name.startswith("CATGA_")]))
        """,
        CATGA_NODE_ID="from-env",
        CATGA_NOT_AN_OPTION="x",
    )
    assert said == []


def test_importing_sets_up_no_logging_and_changes_no_warnings() -> None:
    said = run(
        """
        import json, logging, signal, warnings

        import marshmallow, requests, urllib3  # which have filters of their own

        before = [list(warnings.filters), signal.getsignal(signal.SIGTERM)]
        import catga_sync
        assert [list(warnings.filters), signal.getsignal(signal.SIGTERM)] == before
        loggers = [name for name, logger in logging.root.manager.loggerDict.items()
                   if name.startswith("catga_sync") and (getattr(logger, "level", 0) or any(
                       type(handler) is not logging.NullHandler for handler in getattr(logger, "handlers", ())))]
        print(json.dumps({"root": len(logging.root.handlers), "ours": loggers}))
        """
    )
    assert said == {"root": 0, "ours": []}


OPTIONAL = [
    "django",
    "gunicorn",
    "redis",
    "kubernetes",
    "grpc",
    "prometheus_client",
    "opentelemetry",
    "brotli",
    "pythonjsonlogger",
]


def test_everything_at_the_root_works_without_any_extra() -> None:
    said = run(
        f"""
        import json, sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {OPTIONAL!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Blocked())
        import catga_sync
        from dataclasses import dataclass

        mediator = catga_sync.Mediator()

        @dataclass(frozen=True)
        class Double(catga_sync.Query[int]):
            number: int

        @mediator.handler
        def double(request: Double) -> int:
            return request.number * 2

        cluster = catga_sync.create_cluster(mediator, node_id="n", discovery="memory://")
        with cluster:
            values = [mediator.send(Double(4)).value, cluster.send(Double(5)).value]
        from catga_sync.integrations import flask, wsgi
        loaded = [name for name in sys.modules if name.partition(".")[0] in {OPTIONAL!r}]
        print(json.dumps({{"values": values, "loaded": loaded}}))
        """
    )
    assert said == {"values": [8, 10], "loaded": []}


def test_importing_the_root_loads_no_framework() -> None:
    # urllib3 loads brotli by itself where it is installed.
    optional = [name for name in OPTIONAL if name != "brotli"]
    foreign = [*optional, "asyncio", "zoneinfo", "click", "flask", "werkzeug", "responses", "pytest", "hypothesis"]
    loaded = run(
        f"""
        import json, sys
        import catga_sync
        print(json.dumps([name for name in {foreign!r} if name in sys.modules]))
        """
    )
    assert loaded == []


@every_row(
    "module",
    ["catga_sync.integrations.flask", "catga_sync.integrations.wsgi", "catga_sync.behaviors", "catga_sync.transport",
     "catga_sync.discovery", "catga_sync.routing", "catga_sync.observability.logs", "catga_sync.testing"],
)  # fmt: skip
def test_what_a_module_exports_exists(module: str) -> None:
    __import__(module)
    found = sys.modules[module]
    assert found.__doc__
    exported = found.__all__
    assert len(exported) == len(set(exported)) > 0


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("catga_sync.integrations.flask", ["cluster_blueprint", "CatgaCluster", "mediator", "register_error_handlers"]),
        ("catga_sync.integrations.wsgi", ["ClusterMiddleware"]),
        ("catga_sync.transport", ["RemoteInvoker"]),
        ("catga_sync.routing", ["create_router"]),
        ("catga_sync.discovery", ["Discovery", "MemoryDiscovery"]),
        ("catga_sync.observability.logs", ["RequestIdFilter", "json_formatter"]),
        ("catga_sync.testing", ["FakeMediator", "Fault", "LocalCluster", "override_handler", "transparent"]),
        ("catga_sync_pytest", ["fake_mediator", "local_cluster"]),
    ],
)
def test_a_module_has_what_is_promised_of_it(module: str, names: list[str]) -> None:
    __import__(module)
    for name in names:
        assert hasattr(sys.modules[module], name)
        assert name in sys.modules[module].__all__

"""What every test gets: a folder of its run, no leaked threads, free ports, and skips that cannot hide in CI."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import shutil
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

import catga_sync
from catga_sync._runtime_dir import RUNTIME_DIR
from tests import processes

# A deadline of an example is a wall time: it fails on a busy machine.
settings.register_profile("catga", deadline=None)
settings.load_profile("catga")

__all__ = ["require_free_port", "require_module", "require_service"]

#: Seconds that a closed mediator's threads may take to end.
THREAD_GRACE = 20.0
#: The folder where the nodes of this run meet, in the process that has made it.
_RUNTIME_FOLDER = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the long soaks too")


def pytest_configure(config: pytest.Config) -> None:
    # Set by the tox environments that test an installed package: then nothing may come from the checkout.
    if os.environ.get("CATGA_TESTS_INSTALLED") and not _is_installed(Path(catga_sync.__file__)):
        raise pytest.UsageError(f"catga_sync comes from {catga_sync.__file__}, not from an installed wheel")
    # The default folder would fill up with the files of all nodes that tests have ever made. The workers of xdist are
    # children of this process, and share its folder. The path is short: a socket in it may have some 100 characters.
    if not hasattr(config, "workerinput"):
        config.stash[_RUNTIME_FOLDER] = os.environ[RUNTIME_DIR] = tempfile.mkdtemp(prefix="catga-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if (folder := config.stash.get(_RUNTIME_FOLDER, None)) is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _is_installed(file: Path) -> bool:
    return Path(sysconfig.get_path("purelib")).resolve() in file.resolve().parents


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many workers ``-n auto`` starts: tests wait for others; the long ones start many processes as well."""
    return max(2, (os.cpu_count() or 1) * (2 if config.getoption("--slow") else 3))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getoption("dist") != "loadgroup":
        return None
    from tests.work_units import ByFile

    return ByFile(config, log)


def pytest_report_header() -> str:
    return f"catga_sync: {catga_sync.__version__} from {Path(catga_sync.__file__).parent}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path)  # the order that xdist wants of all workers
    if config.getoption("--slow"):
        return
    slow = {item for item in items if item.get_closest_marker("slow") is not None}
    if slow:
        config.hook.pytest_deselected(items=list(slow))
        items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Fail a module whose import starts a node: it would run beside all tests, and use the folders that they choose."""
    before = _our_threads()
    report = yield
    if isinstance(collector, pytest.Dir) and (worker := getattr(collector.config, "workerinput", None)) is not None:
        # In a checkout that is new, all workers would compile the same files at the same time: each begins elsewhere.
        begin = int(worker["workerid"].removeprefix("gw")) * len(report.result) // worker["workercount"]
        report.result = report.result[begin:] + report.result[:begin]
    if isinstance(collector, pytest.Module) and (started := sorted((_our_threads() - before).elements())):
        report.outcome = "failed"
        report.longrepr = f"the import starts threads, so make the node in a fixture: {', '.join(started)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Keep what is collected from the collector of garbage: it stays until the end."""
    # Walking through all of it takes most of a second, and many tests do, as does each of their forks. While it grows,
    # there is hardly any garbage.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def require_service(available: bool, reason: str) -> None:
    """
    Go on if what the test needs is there. If not, skip the test or module, but fail it in CI: there a skip hides.

    Args:
        available: Whether it is there.
        reason: What is missing and how to get it.
    """
    __tracebackhide__ = True
    if available:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (outside CI this is a skip)", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def require_free_port(port: int) -> None:
    """Go on if that very port is free."""
    __tracebackhide__ = True
    require_service(processes.port_is_free(port), f"port {port} is taken, and this test needs that very one")


def require_module(name: str) -> ModuleType:
    """
    Return an optional package; call it at the top of a test module in place of an import.

    The environment that is there to have no extras skips without it even in CI.
    """
    __tracebackhide__ = True
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        if os.environ.get("CATGA_TESTS_NOEXTRAS"):
            pytest.skip(f"no {name} in an environment without extras", allow_module_level=True)
        require_service(False, f"needs {name}: pip install -e '.[test]'")
    return importlib.import_module(name)


#: How the names of threads begin that run as long as a node, a stream or a server of gRPC does.
_OURS = ("catga-", "grpc-node-ticks")
#: Threads that belong to the process and not to a mediator: they end by themselves soon after there is nothing to do.
_OF_THE_PROCESS = ("catga-cutoff", "catga-names")


def _our_threads() -> Counter[str]:
    """Return the names of our threads. A fork in a test stops threads and starts them anew under the same name."""
    names = [thread.name for thread in threading.enumerate()]
    return Counter(name for name in names if name.startswith(_OURS) and name not in _OF_THE_PROCESS)


@contextlib.contextmanager
def _threads_end() -> Iterator[None]:
    """Fail if threads of ours are left that were not there before the block."""
    before = _our_threads()
    yield
    end = time.monotonic() + THREAD_GRACE
    pause = threading.Event()
    while leaked := sorted((_our_threads() - before).elements()):
        if time.monotonic() >= end:
            pytest.fail(f"threads left behind, close what started them: {', '.join(leaked)}", pytrace=False)
        pause.wait(0.005)


@pytest.fixture(autouse=True)
def _no_leaked_threads() -> Iterator[None]:
    """Fail a test whose threads outlive it. Those of fixtures with a wider scope were there before."""
    with _threads_end():
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_leaked_threads_of_fixtures() -> Iterator[None]:
    """Fail where the threads of a fixture outlive its module."""
    with _threads_end():
        yield


@pytest.fixture(scope="module", autouse=True)
def _servers_that_start_are_asked_again_soon(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    Ask a node of an address for its description again after a moment, in tests of server processes.

    A server listens before its workers have loaded the app: on a busy machine the first question gets no response.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("process") is not None:
            patch.setattr("catga_sync.cluster.peer_descriptions.INTERVAL", 0.2)
        yield


@pytest.fixture
def default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nodes of this process meet where they do without ``CATGA_RUNTIME_DIR``."""
    monkeypatch.delenv(RUNTIME_DIR)


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    return processes.free_port()

"""The part ``idle``: the memory of a node that has nothing to do, and the time of the import.

Memory is what all processes of a server hold, in MB (10^6 bytes): pages that several share count once. Times are
seconds, each in a process of its own. Needs Linux.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

from benchmarks.bench import measure
from benchmarks.bench.messages import TEXT
from benchmarks.bench.part import Part, Settings
from benchmarks.bench.peers import catga
from benchmarks.bench.servers import Server, clean_environ, free_port, gunicorn, started

#: A start of two servers a round takes seconds, and the figures hardly differ.
MOST_ROUNDS = 5

_IMPORT = """
import sys, time
began = time.perf_counter()
for name in sys.argv[1].split(","):
    __import__(name)
print(time.perf_counter() - began)
"""
#: What setup.cfg asks for. The import leaves some of it until it is used.
_DEPENDENCIES = ("flask", "marshmallow", "requests", "urllib3", "werkzeug")
_BROUGHT = """
import sys
import catga_sync
print(",".join(name for name in sys.argv[1].split(",") if name in sys.modules))
"""


def run(settings: Settings) -> measure.Measured:
    brought = _python(_BROUGHT, ",".join(_DEPENDENCIES))
    cases: dict[str, measure.Case] = {
        "a node, MB": _node_memory,
        "Flask alone, MB": _flask_memory,
        "import catga_sync": functools.partial(_import_time, "catga_sync"),
        "import what it brings along": functools.partial(_import_time, brought),
        "import all it depends on": functools.partial(_import_time, ",".join(_DEPENDENCIES)),
    }
    rounds = min(MOST_ROUNDS, settings.rounds)
    return measure.in_turns(cases, rounds, tick=settings.progress("idle", (rounds + 1) * len(cases)))


def app() -> object:
    """Return a Flask app with nothing in it, for gunicorn."""
    from flask import Flask

    return Flask(__name__)


def _node_memory() -> float:
    port = free_port()
    with started(catga.command(port), port) as server:
        server.wait_until_open()
        with catga.connect(port, 1) as asks:
            asks[0](TEXT)
        return _memory(server)


def _flask_memory() -> float:
    import requests

    port = free_port()
    with started(gunicorn("benchmarks.bench.idle:app()", port), port) as server:
        server.wait_until_open()
        requests.get(f"http://127.0.0.1:{port}/", timeout=30.0)
        return _memory(server)


def _memory(server: Server) -> float:
    """Return the MB of a server and of the processes that it has started."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
            if group == server.process.pid:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
    return total * 1024 / 1e6


def _import_time(names: str) -> float:
    return float(_python(_IMPORT, names))


def _python(program: str, *words: str) -> str:
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, env=clean_environ(), check=True, capture_output=True, text=True).stdout.strip()


PART = Part("idle", "A node with nothing to do", run)

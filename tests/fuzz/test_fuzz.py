"""The fuzzing itself: each target reads its seeds, and none of its promises is one that cannot be broken."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from catga_sync.wire import signatures
from tests.conftest import require_module, require_service
from tests.fuzz import planted
from tests.fuzz.engine import ENGINES
from tests.fuzz.target import Finding, judged
from tests.fuzz.targets import TARGETS

_ROOT = Path(__file__).resolve().parents[2]
#: Signed for a nonce that nobody knows before: no seed can be believed.
_NEVER_ACCEPTED = {"response-unsigned"}


#: For each line with the name of a target and a file: writes there whether the target accepts each of its seeds.
#: A target keeps what it opens until its process ends, and sets the level of the package's log, so it is not for the
#: process of the tests: each runs in a fork of a process that has imported them all once.
_READ_SEEDS = """
import json, os, sys, traceback
from tests.fuzz.target import judged
from tests.fuzz.targets import TARGETS

def read(target, file):
    with target.place() as place:
        check = judged(target.prepare(place))
        accepted = [bool(check(seed)) for seed in target.seeds()]
    with open(file, "w") as output:
        json.dump(accepted, output)

for line in sys.stdin:
    name, file = line.rstrip().split(" ", 1)
    (target,) = [each for each in TARGETS if each.name == name]
    pid = os.fork()
    if pid == 0:
        failed = 1
        try:
            output = os.open(file + ".said", os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            read(target, file)
            failed = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(failed)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def reader() -> Iterator[subprocess.Popen[str]]:
    """The process that reads seeds."""
    command = [sys.executable, "-c", _READ_SEEDS]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.xdist_group("fuzz-seeds")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_accepts_seeds_of_its_own_and_finds_nothing_wrong_with_any(target, reader, tmp_path):
    for name in target.packages:
        require_module(name)
    for name in target.programs:
        require_service(shutil.which(name) is not None, f"needs {name}")
    file = tmp_path / "accepted"
    print(target.name, file, file=reader.stdin, flush=True)
    if not select.select([reader.stdout], [], [], 60.0)[0]:
        reader.kill()  # so that the targets that follow fail at once
        pytest.fail("not read within a minute")
    assert reader.stdout.readline() == "0\n", file.with_name("accepted.said").read_text()
    accepted = json.loads(file.read_text())
    assert any(accepted) != (target.name in _NEVER_ACCEPTED)
    assert len(accepted) > 1


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--module", "tests.fuzz.planted", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fault_is_reported_and_its_input_is_kept_and_shows_it_again(engine, tmp_path):
    if engine == "atheris" and importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris, which make fuzz installs")
    run = fuzz(
        "--engine", engine, "--seconds", "1.5", "--kept", str(tmp_path), "--target", "raising", "--target", "sound"
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"^sound +[\d,]+ +[\d-]+  0$", run.stdout, re.MULTILINE), run.stdout
    assert re.search(r"^raising +[\d,]+ +[\d-]+  1$", run.stdout, re.MULTILINE), run.stdout
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes()[:3] == b"bad"
    again = fuzz("--target", "raising", "--input", str(kept))
    assert again.returncode == 1
    assert "a fault that was planted" in again.stderr


def test_a_run_without_a_finding_is_a_success(tmp_path):
    run = fuzz("--engine", "mutations", "--seconds", "0.1", "--kept", str(tmp_path), "--target", "sound")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 targets" in run.stdout
    assert not list(tmp_path.iterdir())


@pytest.fixture
def log() -> Iterator[None]:
    """Gives the log of the package back as it was."""
    log = logging.getLogger("catga_sync")
    level, handlers, propagate = log.level, list(log.handlers), log.propagate
    yield
    log.setLevel(level)
    log.handlers[:] = handlers
    log.propagate = propagate


@pytest.mark.usefixtures("log")
def test_a_line_of_the_log_that_an_input_forges_is_a_finding():
    (target,) = [each for each in planted.TARGETS if each.name == "forging"]
    check = judged(target.prepare(""))
    assert check(b"a")
    with pytest.raises(Finding, match="one printable line"):
        check(b"a\nWARNING all is well")


@pytest.mark.parametrize(
    "equal",
    [
        lambda right, given: right[:62] == given[:62],
        lambda right, given: right == given.lower(),
        lambda right, given: right[: len(given)] == given[: len(right)],
    ],
    ids=["62 digits of 64", "any letter case", "any length"],
)
@pytest.mark.parametrize("name", ["signature-request", "signature-response"])
def test_a_signature_that_is_nearly_right_is_among_the_seeds(name, equal, tmp_path, monkeypatch):
    """A node that compares MACs carelessly, and reads headers as carelessly, is found out by the seeds alone."""
    (target,) = [each for each in TARGETS if each.name == name]
    monkeypatch.setattr(signatures.hmac, "compare_digest", equal)
    for pattern in ("_REQUEST_HEADER", "_RESPONSE_HEADER"):
        loose = getattr(signatures, pattern).pattern.replace("mac=([0-9a-f]{64})", "mac=([0-9A-Fa-f]{62,65})")
        monkeypatch.setattr(signatures, pattern, re.compile(loose))
    monkeypatch.setattr(signatures.signature_fields, "__defaults__", (signatures._REQUEST_HEADER,))
    check = target.prepare(str(tmp_path))
    with pytest.raises(Finding):
        list(map(check, target.seeds()))

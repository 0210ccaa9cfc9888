"""Parts of the benchmarks, from end to end with tiny counts; two need the extra "bench", which CI has not."""

from __future__ import annotations

import sys

import pytest

from benchmarks.bench import codec, local, remote
from benchmarks.bench.part import Settings
from benchmarks.bench.peers import catga, plain
from benchmarks.bench.servers import ServerFailedError, free_port, started
from tests.conftest import require_module

TINY = Settings(rounds=1, calls=2, seconds=0.01, quick=True)


def test_a_peer_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("msgspec", "mediatr", "diator", "cqrs"):
        monkeypatch.setitem(sys.modules, name, None)
    found = codec.run(TINY)
    assert found.failures == {"msgspec": "it is not installed"}
    assert {"catga_sync", "marshmallow"} <= set(found.figures)
    found = local.run(TINY)
    assert {"mediatr", "diator", "python-cqrs"} <= set(found.failures)
    assert "mediatr" in found.failures["mediatr"]
    assert {"catga_sync", "a dict"} <= set(found.figures)


def test_codec_measures_all() -> None:
    pytest.importorskip("msgspec", reason="needs the extra bench")
    found = codec.run(TINY)
    assert found.failures == {}
    assert [len(figures) for figures in found.figures.values()] == [1] * len(codec.WANTED)


def test_local_measures_all() -> None:
    for name in ("mediatr", "diator", "cqrs", "di"):
        pytest.importorskip(name, reason="needs the extra bench")
    found = local.run(TINY)
    assert found.failures == {}
    assert {"catga_sync", "a dict", "mediatr", "diator", "python-cqrs"} <= set(found.figures)


def test_a_server_that_does_not_start_is_told_with_what_it_said() -> None:
    port = free_port()
    command = ["-c", "raise SystemExit('no module named pyro')"]
    with started(command, port) as server, pytest.raises(ServerFailedError, match="no module named pyro"):
        server.wait_until_open()
    assert server.process.returncode is not None


@pytest.mark.process
@pytest.mark.slow
def test_remote_tells_a_peer_that_fails_beside_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("gunicorn")
    broken = remote.Way(lambda port: ["-c", "raise SystemExit('broken')"], plain.connect)
    ways = {"stream": remote.WAYS["stream"], "floor": remote.WAYS["floor"], "broken": broken}
    monkeypatch.setattr(remote, "WAYS", ways)
    found = remote.run(TINY)
    assert found.failures == {
        "broken, p50": "ServerFailedError: broken",
        "broken, 8": "ServerFailedError: broken",
    }
    assert set(found.figures) == {"stream, p50", "stream, 8", "stream, 32", "floor, p50", "floor, 8"}
    assert all(figure > 0.0 for figures in found.figures.values() for figure in figures)


@pytest.mark.process
@pytest.mark.slow
def test_a_call_by_post_is_no_figure_of_a_stream() -> None:
    require_module("gunicorn")
    port = free_port()
    with started(catga.command(port), port) as server:
        server.wait_until_open()
        with catga.mediator(port, stream="off") as caller:
            catga.check_way(caller, "off")
            with pytest.raises(ServerFailedError, match="the calls go by POST"):
                catga.check_way(caller, "on")

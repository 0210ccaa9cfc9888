"""Where this process listens."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from catga_sync._runtime_dir import identity
from catga_sync.cluster.listening import listening, port_of


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://a:81", 81),
        ("http://a", 80),
        ("https://a", 443),
        ("https://[::1]:8443", 8443),
        ("http://a:65535", 65535),
    ],
)
def test_the_port_of_an_endpoint(endpoint: str, port: int) -> None:
    assert port_of(endpoint) == port


def test_a_listening_socket_is_found_and_no_other() -> None:
    with socket.socket() as listener, socket.socket() as bound:
        listener.bind(("127.0.0.1", 0))
        bound.bind(("127.0.0.1", 0))
        where, idle = (f"127.0.0.1:{each.getsockname()[1]}" for each in (listener, bound))
        assert where not in listening()
        listener.listen()
        assert where in listening()
        assert idle not in listening()
        with socket.create_connection(listener.getsockname()) as client:
            assert f"127.0.0.1:{client.getsockname()[1]}" not in listening()
    assert where not in listening()


def test_a_socket_of_another_family_is_one_as_well(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        assert "a socket of this machine" in listening()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        assert f"[::1]:{listener.getsockname()[1]}" in listening()


@contextlib.contextmanager
def default_timeout(seconds: float) -> Iterator[None]:
    """As apps set one for libraries that have none."""
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(former)


def test_no_socket_of_the_process_is_changed_by_the_look_at_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        with default_timeout(5.0):
            assert f"127.0.0.1:{listener.getsockname()[1]}" in listening()
        assert [os.get_blocking(each.fileno()) for each in (listener, client)] == [True, True]


def test_a_descriptor_that_another_thread_has_used_anew_is_left_open_and_copied_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # At any moment the number of a socket may become that of a file.
    monkeypatch.setattr(stat, "S_ISSOCK", lambda mode: True)
    with (tmp_path / "file").open("w") as file:
        listening()
        open_now = [identity(each) for each in Path("/dev/fd").iterdir()]
        assert open_now.count(identity(file.fileno())) == 1
        assert file.write("x") == 1

"""The nodes of one user on one machine share a key, and nobody else has it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from catga_sync._runtime_dir import RUNTIME_DIR
from catga_sync.cluster.local_key import LocalKeys
from catga_sync.errors import ConfigurationError
from catga_sync.wire.keys import KeyRing
from tests.processes import talking

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes of POSIX")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private folder, which is not there yet."""
    path = tmp_path / "private"
    monkeypatch.setenv(RUNTIME_DIR, str(path))
    return path


def test_it_is_made_once_and_only_this_user_can_read_it(folder: Path) -> None:
    first = LocalKeys().key_ids
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(file.read_bytes()) == 32
    assert LocalKeys().key_ids == first


def test_it_is_missing_until_a_process_has_made_all_of_it(folder: Path) -> None:
    keys = LocalKeys()
    assert keys.is_missing()
    assert not folder.exists()
    folder.mkdir(mode=0o700)
    file = folder / "local.key"
    file.touch(mode=0o600)  # as after a crash of the machine
    assert keys.is_missing()
    assert file.read_bytes() == b""
    keys.check()
    assert keys.present()
    assert not keys.is_missing()
    file.chmod(0o644)
    assert not keys.is_missing()  # what uses it says that it cannot be used


def test_another_folder_has_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = LocalKeys().key_ids
    monkeypatch.setenv(RUNTIME_DIR, str(tmp_path / "other"))
    assert LocalKeys().key_ids != first


def test_processes_that_start_at_once_have_the_same_key() -> None:
    code = (
        "import sys; from catga_sync.cluster.local_key import LocalKeys; sys.stdin.read(1); print(*LocalKeys().key_ids)"
    )
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(talking("-c", code)) for _ in range(4)]
        for each in started:  # all are at the same line now, or come to it
            assert each.stdin is not None
            each.stdin.write("x")
            each.stdin.flush()
        found = {each.stdout.read().strip() for each in started if each.stdout is not None}
    assert len(found) == 1
    assert found == {" ".join(LocalKeys().key_ids)}


@pytest.mark.parametrize("rest", [b"", b"x" * 31, b"x" * 33], ids=["empty", "cut off", "too long"])
def test_what_is_no_key_is_replaced_by_one(folder: Path, rest: bytes) -> None:
    folder.mkdir(mode=0o700)
    file = folder / "local.key"
    file.write_bytes(rest)
    file.chmod(0o600)
    assert LocalKeys().key_ids == LocalKeys().key_ids
    assert len(file.read_bytes()) == 32
    assert not file.read_bytes().startswith(b"x" * 31)


def says_what_to_do() -> None:
    with pytest.raises(
        ConfigurationError, match=r"(?s)^secret: .*Give all nodes the same secret, .* or write insecure=True"
    ):
        _ = LocalKeys().key_ids


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620], ids=oct)
def test_one_that_others_may_read_or_write_is_not_used(folder: Path, mode: int) -> None:
    _ = LocalKeys().key_ids
    (folder / "local.key").chmod(mode)
    says_what_to_do()


def test_one_in_a_folder_to_which_others_may_write_is_not_used(folder: Path) -> None:
    _ = LocalKeys().key_ids
    folder.chmod(0o777)
    says_what_to_do()


def test_a_link_in_its_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    _ = LocalKeys().key_ids
    (folder / "local.key").rename(tmp_path / "elsewhere")
    (folder / "local.key").symlink_to(tmp_path / "elsewhere")
    says_what_to_do()


def test_one_of_another_user_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _ = LocalKeys().key_ids
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    says_what_to_do()


def test_where_nothing_can_be_written_the_error_says_what_to_do(folder: Path) -> None:
    folder.write_text("a file where the folder is to be")
    says_what_to_do()


def test_a_key_that_was_removed_is_succeeded_by_the_same_one_in_all_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catga_sync.cluster.local_key.LOOK_EVERY", 0.0)
    one, other = LocalKeys(), LocalKeys()
    (before,) = one.key_ids
    assert other.key_ids == (before,)
    made = one.mac(before, b"on its way")
    (folder / "local.key").unlink()
    assert one.key_ids == other.key_ids != (before,)
    assert one.mac(before, b"on its way") == made, "what is signed with the former key can still be checked"


def test_a_key_that_another_process_has_made_just_now_is_known_at_once(folder: Path) -> None:
    held = LocalKeys()
    (former,) = held.key_ids
    (folder / "local.key").unlink()
    (new,) = LocalKeys().key_ids
    assert new != former
    assert held.knows(new)
    assert not held.knows(former)
    assert not held.knows("0" * 16)


def test_a_key_that_is_made_anew_while_a_call_is_checked_spoils_no_call() -> None:
    keys, former = LocalKeys(), KeyRing("a" * 32)

    class Present:
        """A ring during whose work another thread finds that the key was made anew."""

        def mac(self, key_id: str, text: bytes) -> None:
            keys._held = ((0, 0, 0), KeyRing("c" * 32), KeyRing("b" * 32))

    present: Any = Present()
    keys._held = ((0, 0, 0), present, former)
    (key_id,) = former.key_ids
    assert keys.mac(key_id, b"on its way") == former.mac(key_id, b"on its way")


@pytest.mark.parametrize(("user", "told"), [(1000, True), (0, False)], ids=["a user", "root"])
def test_a_check_tells_a_user_and_makes_nothing_as_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch, user: int, told: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    folder.write_text("a file where the folder is to be")
    with pytest.raises(ConfigurationError, match=r"^secret: ") if told else contextlib.nullcontext():
        LocalKeys().check()
    folder.unlink()
    LocalKeys().check()
    assert folder.exists() == told

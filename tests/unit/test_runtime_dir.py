"""The folder where the processes of one user meet is nobody else's."""

import os
import stat

import pytest

from catga_sync._runtime_dir import ensure_private, meeting_folder
from catga_sync.errors import ConfigurationError

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes of POSIX")


@pytest.mark.usefixtures("default_folder")
def test_the_folder_is_the_user_s_own():
    assert meeting_folder().name == f"catga-sync-{os.getuid()}"
    assert meeting_folder() == meeting_folder()


def test_it_is_made_for_this_user_only(tmp_path):
    ensure_private(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_one_that_is_there_and_private_is_fine(tmp_path):
    (tmp_path / "a").mkdir(mode=0o700)
    ensure_private(tmp_path / "a")
    ensure_private(tmp_path / "a")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o722])
def test_one_that_others_may_write_to_is_refused(tmp_path, mode):
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)
    with pytest.raises(ConfigurationError, match=r"^CATGA_RUNTIME_DIR: .*is not private: other users can write"):
        ensure_private(tmp_path / "a")


def test_a_link_to_a_folder_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match=r"^CATGA_RUNTIME_DIR: "):
        ensure_private(tmp_path / "link")


def test_one_that_belongs_to_somebody_else_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir(mode=0o700)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(ConfigurationError, match=r"^CATGA_RUNTIME_DIR: "):
        ensure_private(tmp_path / "a")


def test_a_file_in_its_place_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigurationError, match=r"^CATGA_RUNTIME_DIR: "):
        ensure_private(tmp_path / "a")

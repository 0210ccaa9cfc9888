"""What decides where calls go is read and written only in files of this user's own, closed to others and no links."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from catga_sync._runtime_dir import check_given, ensure_private, make_database, open_private, private_file_is_there
from catga_sync.cluster.worker_group import WorkerGroup, any_process_of
from catga_sync.discovery.sqlite import SqliteDiscovery
from catga_sync.errors import ConfigurationError
from catga_sync.idempotency import SqliteIdempotency
from catga_sync.nodes import ClusterNode, NodeRecord
from catga_sync.receiver.replay import NonceStoreError, SqliteNonces, _file_of_this_boot
from tests.conftest import require_service

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes of POSIX")

OTHER = 65534
RECORD = NodeRecord(ClusterNode("n", "http://127.0.0.1:1", incarnation="i"))
KEY = "node"
STEM = hashlib.sha256(KEY.encode()).hexdigest()[:32]


def needs_root() -> None:
    require_service(os.getuid() == 0, "needs root, to make files of another user")


def owned_by_another_user(path: Path) -> None:
    needs_root()
    os.chown(path, OTHER, OTHER)


# -- the folder -------------------------------------------------------------------------------------------------------


def _dangling(folder: Path) -> None:
    folder.symlink_to(folder.with_name("nowhere"))


def _link(folder: Path) -> None:
    folder.with_name("real").mkdir(mode=0o700)
    folder.symlink_to(folder.with_name("real"))


def _open_to(mode: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        folder.chmod(mode)

    return make


def _squatted(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    owned_by_another_user(folder)


FOLDERS = {
    "a dangling link": _dangling,
    "a link to a folder": _link,
    "a file": lambda folder: folder.touch(0o600),
    "written to by the group": _open_to(0o770),
    "written to by everybody": _open_to(0o707),
    "another user's": _squatted,
}


def _nonce(place: Callable[[], Path]) -> None:
    with contextlib.closing(SqliteNonces(place)) as nonces:
        nonces.add("0" * 32, 60.0)


USES = {
    "a node joins": lambda folder: WorkerGroup(folder, KEY).join(),
    "a node registers": lambda folder: SqliteDiscovery(lambda: folder / "x.sqlite3").register(RECORD, 60.0),
    "a client reads": lambda folder: SqliteDiscovery(lambda: folder / "x.sqlite3").nodes(),
    "a node leaves": lambda folder: SqliteDiscovery(lambda: folder / "x.sqlite3").deregister("n", "i"),
    "a signed call is let in": lambda folder: _nonce(lambda: folder / "x.nonces"),
    "a file is opened": lambda folder: os.close(open_private(folder / "x", make=True)),
    "a file is read": lambda folder: os.close(open_private(folder / "x", make=False)),
}


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_folder_that_is_not_this_user_s_own_is_used_for_nothing(
    tmp_path: Path, make: Callable[[Path], None], use: Callable[[Path], object]
) -> None:
    folder = tmp_path / "run"
    make(folder)
    before = sorted(tmp_path.rglob("*"))
    said = r"CATGA_RUNTIME_DIR: .* is not private: other users can write to it, or it is a link or no folder; remove it"
    with pytest.raises((ConfigurationError, NonceStoreError), match=said):
        use(folder)
    assert any_process_of(folder, KEY) is None
    assert WorkerGroup(folder, KEY).present == ""
    assert sorted(tmp_path.rglob("*")) == before


# -- a file in it -----------------------------------------------------------------------------------------------------

FILES = {
    "a dangling link": lambda file: file.symlink_to(file.parent.with_name("made")),
    "a link to a file": lambda file: (file.with_name("real").touch(0o600), file.symlink_to(file.with_name("real"))),
    "written to by others": lambda file: (file.touch(), file.chmod(0o602)),
    "read by others": lambda file: (file.touch(), file.chmod(0o640)),
    "a folder": lambda file: file.mkdir(),
    "a pipe": os.mkfifo,
    "another user's": lambda file: (file.touch(0o600), owned_by_another_user(file)),
}
#: A file, and what opens it.
OPENED = {
    "x.sqlite3, read": ("x.sqlite3", USES["a client reads"]),
    "x.sqlite3, written": ("x.sqlite3", USES["a node registers"]),
    "x.nonces": (_file_of_this_boot(Path("x.nonces")).name, USES["a signed call is let in"]),
    **{f"{kind}, joining": (f"{STEM}.{kind}", USES["a node joins"]) for kind in ("members", "turn")},
    "busy": (f"{STEM}.busy", USES["a node joins"]),
    "leader": (f"{STEM}.leader", lambda folder: _joined(folder).lead()),
    "drain": (f"{STEM}.drain", lambda folder: _joined(folder).wish_drain()),
    "any": ("x", USES["a file is opened"]),
}


def _joined(folder: Path) -> WorkerGroup:
    group = WorkerGroup(folder, KEY)
    group.join()
    return group


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
@pytest.mark.parametrize(("name", "use"), OPENED.values(), ids=OPENED)
def test_a_file_that_is_not_this_user_s_own_is_used_for_nothing(
    tmp_path: Path, make: Callable[[Path], object], name: str, use: Callable[[Path], object]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    make(folder / name)
    with pytest.raises((ConfigurationError, NonceStoreError)) as caught:
        use(folder)
    said = f"{folder / name} is not private: other users can read or write it, or it is a link or no file; remove it"
    assert said in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_the_lock_file_of_another_user_tells_nothing_of_the_node(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    group = _joined(folder)
    assert any_process_of(folder, KEY) is True
    assert WorkerGroup(folder, KEY).present == group.incarnation
    (folder / f"{STEM}.members").chmod(0o666)
    assert any_process_of(folder, KEY) is None
    assert WorkerGroup(folder, KEY).present == ""
    group.leave()


def test_what_this_user_has_made_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    assert private_file_is_there(folder / "x") is False
    for use in list(USES.values())[:-1]:
        use(folder)
    for use in USES.values():
        use(folder)
    assert private_file_is_there(folder / "x") is True


def test_where_no_folder_can_be_made_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"CATGA_RUNTIME_DIR: .* cannot be made .*set it to a folder that can be written"):
        ensure_private(tmp_path / "file" / "run")


# -- a file that the user has chosen ----------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder in which everybody may make files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def _file_of_another(shared: Path) -> Path:
    make_database(shared / "x.db")
    owned_by_another_user(shared / "x.db")
    return shared / "x.db"


def _link_of_another(shared: Path) -> Path:
    (shared / "x.db").symlink_to(shared.with_name("made"))
    needs_root()
    os.lchown(shared / "x.db", OTHER, OTHER)
    return shared / "x.db"


def _folder_of_another(shared: Path) -> Path:
    (shared / "shop").mkdir()
    owned_by_another_user(shared / "shop")
    return shared / "shop" / "x.db"


GIVEN = {
    "a client reads": lambda path: SqliteDiscovery(path).nodes(),
    "a node registers": lambda path: SqliteDiscovery(path).register(RECORD, 60.0),
    "an id is claimed": lambda path: SqliteIdempotency(path).claim("a", "f", 1.0),
}


@pytest.mark.parametrize("make", [_file_of_another, _link_of_another, _folder_of_another])
@pytest.mark.parametrize("use", GIVEN.values(), ids=GIVEN)
def test_a_chosen_file_that_another_user_has_made_where_everybody_may_is_refused(
    shared: Path, make: Callable[[Path], Path], use: Callable[[Path], object]
) -> None:
    path = make(shared)
    with pytest.raises(ConfigurationError, match=r"^path: .* belongs to another user, .*; remove it, or choose"):
        use(path)
    assert not shared.with_name("made").exists()


def test_a_chosen_file_may_be_reached_by_links_of_the_user_s_own_and_be_another_user_s_elsewhere(shared: Path) -> None:
    (shared.with_name("real")).mkdir()
    (shared / "link").symlink_to(shared.with_name("real"))
    SqliteDiscovery(shared / "link" / "x.db").register(RECORD, 60.0)
    assert [each.node.node_id for each in SqliteDiscovery(shared / "link" / "x.db").nodes()] == ["n"]
    if os.getuid() == 0:
        os.chown(shared.with_name("real") / "x.db", OTHER, OTHER)
        check_given(shared.with_name("real") / "x.db")

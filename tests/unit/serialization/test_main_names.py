"""A type has the name under which others import its module, however the module was started. Real interpreters."""

from __future__ import annotations

import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

TYPE = """
from catga_sync.serialization import default_name

class GetStock:
    pass

print(default_name(GetStock))
"""
SPAWNING = """
import multiprocessing
from catga_sync.serialization import default_name

class GetStock:
    pass

def tell():
    print(default_name(GetStock), flush=True)

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=tell)
    child.start()
    child.join()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a package of three modules, a script and an archive."""
    package = tmp_path / "shop"
    (package / "deep").mkdir(parents=True)
    for file in ("__init__.py", "deep/__init__.py"):
        (package / file).touch()
    for file in ("stock.py", "__main__.py", "deep/stock.py"):
        (package / file).write_text(TYPE)
    (package / "spawning.py").write_text(SPAWNING)
    (tmp_path / "script.py").write_text(TYPE)
    (tmp_path / "app.py").write_text(f"{TYPE}\nfrom flask import Flask\napp = Flask(__name__)\n")
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text("import shop_in_zip\n")
    (source / "shop_in_zip.py").write_text(TYPE)
    zipapp.create_archive(source, tmp_path / "shop.pyz")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-m", "shop.stock"], "shop.stock"),
        pytest.param(["-m", "shop.deep.stock"], "shop.deep.stock", marks=pytest.mark.slow),
        pytest.param(["-m", "shop"], "shop.__main__", marks=pytest.mark.slow),
        pytest.param(["-c", "import shop.stock"], "shop.stock", marks=pytest.mark.slow),
        pytest.param(["-c", "import shop.__main__"], "shop.__main__", marks=pytest.mark.slow),
        pytest.param(["script.py"], "script", marks=pytest.mark.slow),
        pytest.param(["-m", "script"], "script", marks=pytest.mark.slow),
        pytest.param(["shop/stock.py"], "stock", marks=pytest.mark.slow),
        pytest.param(["-m", "flask", "--app", "app", "routes"], "app", marks=pytest.mark.slow),
        pytest.param(["shop.pyz"], "shop_in_zip", marks=pytest.mark.slow),
        pytest.param(["-m", "shop.spawning"], "shop.spawning", marks=pytest.mark.slow),
        pytest.param(["shop/spawning.py"], "spawning", marks=pytest.mark.slow),
        (["-c", TYPE], "__main__"),
    ],
    ids=lambda value: " ".join(value).strip().partition("\n")[0] if isinstance(value, list) else value,
)
def test_a_module_that_was_started_names_its_types_as_others_import_them(
    project: Path, arguments: list[str], name: str
) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[0] == f"{name}.GetStock", done.stderr


def test_what_is_typed_in_has_no_name_that_others_could_import(project: Path) -> None:
    lines = TYPE.replace("pass\n", "pass\n\n")
    done = subprocess.run(
        [sys.executable, "-i", "-"], cwd=project, input=lines, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[0] == "__main__.GetStock", done.stderr

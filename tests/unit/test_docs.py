"""What the pages say of the code is there: links, files, names, loggers, the table of options."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from catga_sync.cli.main import main
from tests.tables import every_row

ROOT = Path(__file__).resolve().parents[2]
#: What paths in docs/architecture.md are relative to.
HOMES = (ROOT / "catga_sync", ROOT / "catga_sync" / "serialization", ROOT / "catga_sync" / "transport", ROOT)
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")]
    if path.name != "CHANGELOG.md"
)


def read(page: str | Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_row("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    text = read(page)
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(read(target))):
            lost.append(link)
    assert not lost


@every_row("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(r"`((?:catga_sync|docs|tests|benchmarks|examples)/[\w/.]*)`", read(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_file_of_the_architecture_is_there() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", read("docs/architecture.md"))
    named += re.findall(
        r"[\w/]+\.py", "".join(re.findall(r"^```.*?^```", read("docs/architecture.md"), re.DOTALL | re.MULTILINE))
    )
    assert sorted({name for name in named if not any((base / name).exists() for base in HOMES)}) == []


def test_every_class_of_the_architecture_is_where_the_pictures_show_it() -> None:
    pictures = "".join(re.findall(r"^```.*?^```", read("docs/architecture.md"), re.DOTALL | re.MULTILINE))
    shown = re.findall(r"([\w/]+\.py) +([A-Z]\w+) ", pictures)
    assert shown
    assert [(file, name) for file, name in shown if f"\nclass {name}" not in read(f"catga_sync/{file}")] == []


def test_imports_point_down_as_the_architecture_shows_it() -> None:
    picture = re.search(r"^```\n( cli/.*?)^```", read("docs/architecture.md"), re.DOTALL | re.MULTILINE)
    assert picture
    lines = [re.findall(r"(\w+)(?:/|\.py)", line) for line in picture[1].splitlines()]
    floors = {name: floor for floor, names in enumerate(lines) for name in names}
    up = []
    for path in sorted((ROOT / "catga_sync").rglob("*.py")):
        module = str(path.relative_to(ROOT / "catga_sync"))
        floor = floors.get(re.split(r"[/.]", module)[0], 0)
        imported = re.findall(r"^(?:from|import) catga_sync\.(\w+)", path.read_text("utf-8"), re.MULTILINE)
        up += [(module, name) for name in imported if floors.get(name, len(lines)) < floor]
    assert up == []
    homes = {path.name.removesuffix(".py") for path in (ROOT / "catga_sync").iterdir() if not path.name.startswith("_")}
    assert homes - {"py.typed"} == set(floors)


@every_row("page", PAGES)
def test_every_name_of_the_package_on_a_page_is_there(page: str) -> None:
    named = set(re.findall(r"`(catga_sync(?:\.\w+)+)`", read(page)))
    assert sorted(name for name in named if not is_there(name)) == []


def is_there(name: str) -> bool:
    """Say whether a name is that of a module, or of something in one."""
    module, _, attribute = name.rpartition(".")
    if importlib.util.find_spec(module) is None:
        return False
    return importlib.util.find_spec(name) is not None or hasattr(importlib.import_module(module), attribute)


@every_row("page", PAGES)
def test_every_command_on_a_page_is_there(page: str) -> None:
    code = "\n".join(re.findall(r"`([^`\n]+)`", read(page)) + re.findall(r"^\$ (.*)", read(page), re.MULTILINE))
    targets = " ".join(re.findall(r"^([a-z ]+):", read("Makefile"), re.MULTILINE)).split()
    words = re.findall(r"^make ((?:[a-z]+ ?)+)", code, re.MULTILINE)
    assert [name for word in words for name in word.split() if name not in targets] == []
    commands = set(re.findall(r"catga-sync ([a-z]+)", code))
    assert [name for name in sorted(commands) if main([name, "--help"]) != 0] == []
    files = re.findall(r"(?:python|pytest)[^\n]*? ([a-z_]+/[\w/]+\.py)", code)
    files += [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (tests\.[\w.]+)", code)]
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_page_has_the_commands_of_a_flask_app(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    commands = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert "nodes" in commands
    (listed,) = re.findall(r"- `flask catga` has [^:]*:([^.]*)\.", read("docs/flask.md"))
    # serve takes a mediator of its own
    assert set(re.findall(r"`([a-z]+)`", listed)) == set(commands) - {"serve"}


LOG_LINES = re.findall(r"^\| `([^`]+)`[^|`]* \| `(catga_sync\.[\w.]+)` \|", read("docs/operations.md"), re.MULTILINE)


@every_row(("line", "logger"), LOG_LINES)
def test_a_line_of_the_log_is_written_by_the_logger_that_the_page_names(line: str, logger: str) -> None:
    source = re.sub(r"\"\s*f?\"", "", read(f"{logger.replace('.', '/')}.py"))
    words = max(re.findall(r"[a-z]+(?: [a-z]+)*", re.sub(r"\w+[=.]\S+", "", line)), key=len)
    assert " ".join(words.split()[-3:]) in source


def test_a_command_that_finds_no_node_says_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CATGA_CLUSTER_NAME", "shop")
    main(["nodes", "--discovery", "sqlite:///ndoes.sqlite3"])
    told = capsys.readouterr().err.replace(str(tmp_path), "/srv/shop")
    assert told
    assert " ".join(told.split()) in " ".join(read("docs/operations.md").split())


def test_the_table_of_options_is_made_from_the_options() -> None:
    spec = importlib.util.spec_from_file_location("make_options", ROOT / "docs" / "make_options.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = read("docs/options.md")
    assert page == script.renewed(page), "run make docs"

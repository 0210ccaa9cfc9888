"""The files on docs/testing.md, run as they stand: a reader's services, and their tests."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE))


@pytest.fixture
def page(pytester: pytest.Pytester) -> pytest.Pytester:
    for name, text in FILES.items():
        (pytester.path / name).write_text(text, "utf-8")
    return pytester


def test_the_page_has_its_five_patterns() -> None:
    assert {name for name in FILES if name.startswith("test_")} == {
        "test_django_view.py",
        "test_faults.py",
        "test_handlers.py",
        "test_together.py",
        "test_views.py",
        "test_wire.py",
    }


@pytest.mark.slow
def test_the_tests_on_the_page_pass(page: pytest.Pytester) -> None:
    result = page.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    # One is for Django, which the environment without extras lacks.
    assert outcomes.pop("skipped", 0) == (importlib.util.find_spec("django") is None)
    assert outcomes == {"passed": outcomes["passed"]}
    assert outcomes["passed"] >= 10


@pytest.mark.slow
def test_the_error_on_the_page_is_the_one_that_a_test_gets(page: pytest.Pytester) -> None:
    page.makepyfile(
        test_error="""
            from shop_messages import CountLeft, Reserve

            def test_it(fake_mediator):
                fake_mediator.when(Reserve).returns(4)
                fake_mediator.send(CountLeft("apple"))
        """
    )
    result = page.runpytest_subprocess("-p", "no:cacheprovider", "test_error.py")
    shown = re.search(r"^    (unexpected request .*)\n    (.*)\n    (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert shown is not None
    result.stdout.fnmatch_lines([f"*{line}" for line in shown.groups()])

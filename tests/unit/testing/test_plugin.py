"""The pytest plugin, in a run of pytest of its own with the installed package."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

MESSAGES = """
    from dataclasses import dataclass
    from catga_sync import Mediator, Query

    @dataclass(frozen=True)
    class Double(Query[int]):
        number: int = 2
"""


def run(pytester: pytest.Pytester, *arguments: str, messages: str = MESSAGES, **tests: str) -> pytest.RunResult:
    """Run these tests in a process of its own, in which a warning is an error."""
    pytester.makepyfile(messages=messages)
    pytester.makepyfile(**tests)
    return pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *arguments)


# In "make test", those of docs/testing.md use them.
@pytest.mark.slow
def test_the_fixtures_are_there(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        test_it="""
            from messages import Double, Mediator

            def test_fake(fake_mediator):
                fake_mediator.when(Double).returns(4)
                assert fake_mediator.send(Double()).value == 4

            def test_local(local_cluster):
                local = Mediator()
                local.register(Double, lambda request: request.number * 2)
                local_cluster.add_node("a", local)
                assert local_cluster.add_client().send(Double()).value == 4

            def test_both(local_cluster, fake_mediator):
                assert local_cluster.add_node("a", fake_mediator).local is fake_mediator
        """,
    ).assert_outcomes(passed=3)


@pytest.mark.slow
def test_an_unexpected_request_that_the_code_swallows_fails_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        test_it="""
            from messages import Double

            def view(mediator):
                try:
                    mediator.send(Double(7))
                except Exception:
                    pass

            def test_fake(fake_mediator):
                view(fake_mediator)
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*UnexpectedRequest: unexpected request messages.Double: Double(number=7)"])


@pytest.mark.slow
def test_an_unexpected_request_that_the_test_catches_is_wanted(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        test_it="""
            import pytest
            from catga_sync.testing import UnexpectedRequest
            from messages import Double

            def test_raises(fake_mediator):
                with pytest.raises(UnexpectedRequest):
                    fake_mediator.send(Double(7))

            class TestIt:
                @pytest.mark.parametrize("number", [1])
                def test_method(self, fake_mediator, number):
                    with pytest.raises(UnexpectedRequest):
                        fake_mediator.send(Double(number))
        """,
    ).assert_outcomes(passed=2)


def test_who_does_not_use_it_does_not_import_the_package(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        messages="",
        test_it="""
            import sys

            def test_nothing():
                assert "catga_sync_pytest" in sys.modules
                assert [name for name in sys.modules if name.partition(".")[0] == "catga_sync"] == []
        """,
    ).assert_outcomes(passed=1)


@pytest.mark.slow
def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    result = run(pytester, "-p", "no:catga_sync_pytest", test_it="def test_fake(fake_mediator): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'fake_mediator' not found"])


@pytest.mark.slow
def test_the_fixtures_say_what_they_are(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--fixtures", test_it="")
    result.stdout.fnmatch_lines(
        ["*fake_mediator*", "*catga_sync.testing.FakeMediator*", "*local_cluster*", "*catga_sync.testing.LocalCluster*"]
    )

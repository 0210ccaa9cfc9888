"""What one worker of ``pytest -n`` is given at a time: a file of quick tests, and each slow test alone."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadGroupScheduling

__all__ = ["ByFile"]

#: Folders whose tests are given out one by one: most of them start processes, and take seconds.
_ONE_BY_ONE = ("apps", "examples", "external", "faults", "fuzz", "process")


class ByFile(LoadGroupScheduling):  # type: ignore[misc]  # xdist ships no types
    """
    Gives out whole files where tests take milliseconds.

    xdist gives out each test that has no group by itself. For thousands of tests that takes a twentieth of the time of
    a run: a message each, and each time it counts all that it has given out.
    """

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        if scope != nodeid or nodeid.startswith(tuple(f"tests/{folder}/" for folder in _ONE_BY_ONE)):
            return scope
        return nodeid.partition("::")[0]

    def remove_node(self, node: Any) -> str | None:
        """Take back what a worker that has died was given, but for what it has finished: else the run never ends."""
        # xdist gives the next worker one unit to begin with, and waits for the end of a test. In one that is finished
        # already there is none.
        given = self.assigned_work[node]
        for scope in [scope for scope, unit in given.items() if all(unit.values())]:
            del given[scope]
        crashed: str | None = super().remove_node(node)
        return crashed

"""What of a scenario's findings fails the battery, and what the documents name.

A plain request may run twice only where one of the documents says so:

    a behaviour on the serving node calls ``next_`` twice     docs/reliability.md, "What is not promised"
    bytes are sent twice to a node without a secret that      docs/idempotency.md, "Which store"
    keeps its ids in memory, and come to two of its
    processes: workers, or the ones before and after a
    restart
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.ledger import Execution, Finding, Verdict, findings
from tests.faults.moods import mood_of

__all__ = ["BEHAVIOUR", "MEMORY", "Outcome", "Scenario", "judge"]

BEHAVIOUR = "docs/reliability.md: what-is-not-promised"
MEMORY = "docs/idempotency.md: which-store"

#: Seconds that a call may take beyond its timeout before it is counted as late: a busy machine is no fault.
_SLACK = 1.0


@dataclass(frozen=True)
class Scenario:
    """What fails, and in which cluster. Immutable."""

    fault: str
    store: str
    signed: bool

    def __str__(self) -> str:
        return f"{self.fault} {self.store} {'signed' if self.signed else 'plain'}"

    @property
    def doubles(self) -> bool:
        """Whether the wire sends requests twice."""
        return "double" in self.fault

    @property
    def forgets(self) -> bool:
        """Whether a doubled request may come to a worker that knows nothing of the first one."""
        return self.doubles and self.store == "memory" and not self.signed


@dataclass
class Outcome:
    """What came of a scenario."""

    scenario: str
    calls: int = 0
    success: int = 0
    not_executed: int = 0
    executed: int = 0
    unknown: int = 0
    late: int = 0
    faults: int = 0
    seconds: float = 0.0
    #: Plain requests that ran twice, by the place that says they may.
    named: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def judge(scenario: Scenario, ran: Iterable[Execution], told: Iterable[Verdict]) -> Outcome:
    """Count what callers were told, and hold it against what ran."""
    told = list(told)
    kinds = {each.text: each.kind for each in told}
    outcome = Outcome(str(scenario), calls=len(told))
    for each in told:
        outcome.success += each.success
        outcome.not_executed += not each.success and each.delivery == "NOT_EXECUTED"
        outcome.executed += not each.success and each.delivery == "EXECUTED"
        outcome.unknown += not each.success and each.delivery == "UNKNOWN"
        outcome.late += each.seconds > each.timeout + _SLACK
    for found in findings(ran, told):
        place = _named(scenario, found)
        if place is None:
            outcome.violations.append(str(found))
        elif kinds[found.text] == "plain":
            outcome.named[place] += 1
    return outcome


def _named(scenario: Scenario, found: Finding) -> str | None:
    """Return where the documents say that this may be, or None."""
    if not found.runs:
        return None
    # Each try may have met the behaviour, and each may have been doubled.
    by_behaviour = found.most * (2 if mood_of(found.text) == "twice" else 1)
    by_memory = by_behaviour * (2 if scenario.forgets else 1)
    if found.runs > by_memory:
        return None
    return MEMORY if found.runs > by_behaviour else BEHAVIOUR

"""What the rows of a report add up to, in memory that does not grow with their number."""

from bisect import insort
from collections import Counter
from typing import Final

import msgspec

from batchscan.models import Outcome, RiskLevel, Row

WORST_LIMIT: Final = 10
"""How many of the worst findings are kept."""

OTHER_CODES: Final = "other"
"""Where error codes are counted once there are too many different ones."""

_CODE_LIMIT = 64
_SEVERITY = {RiskLevel.MALICIOUS: 0, RiskLevel.SUSPICIOUS: 1}


class Finding(msgspec.Struct, frozen=True):
    """One of the worst verdicts of a run. ``rule_name`` names the primary rule where it is known."""

    path: str
    verdict: RiskLevel
    score: int | None
    primary_rule: str | None
    rule_name: str | None
    sha256: str | None


class Tally:
    """Counts rows as they are written, and those that a resumed report already held.

    Attributes:
        inputs: rows added.
        outcomes: rows by outcome.
        verdicts: rows with a verdict, by level.
        errors: rows by error code; beyond 64 different codes the rest is counted as ``other``.
        engine_versions: the engines whose verdicts were added.
    """

    def __init__(self) -> None:
        self.inputs = 0
        self.outcomes: Counter[Outcome] = Counter()
        self.verdicts: Counter[RiskLevel] = Counter()
        self.errors: Counter[str] = Counter()
        self.engine_versions: set[int] = set()
        self._worst: list[tuple[tuple[int, bool, int, str], Finding]] = []

    @property
    def worst(self) -> tuple[Finding, ...]:
        """The worst findings: malicious before suspicious, then the lowest score, then by path.

        At most ten, each content once: a duplicate is counted, but stands behind its first path.
        """
        return tuple(finding for _, finding in self._worst)

    def add(self, row: Row) -> None:
        """Count one row."""
        self.inputs += 1
        self.outcomes[row.outcome] += 1
        if row.error is not None:
            self._count_error(row.error.code)
        if row.verdict is None:
            return
        self.verdicts[row.verdict] += 1
        if row.engine_version is not None:
            self.engine_versions.add(row.engine_version)
        if row.verdict in _SEVERITY and row.duplicate_of is None:
            self._rank(row, row.verdict)

    def _count_error(self, code: str) -> None:
        known = code in self.errors or len(self.errors) < _CODE_LIMIT
        self.errors[code if known else OTHER_CODES] += 1

    def _rank(self, row: Row, level: RiskLevel) -> None:
        order = (_SEVERITY[level], row.score is None, row.score or 0, row.path)
        if len(self._worst) == WORST_LIMIT and order >= self._worst[-1][0]:
            return
        rule_name = next((rule.name for rule in row.rules if rule.id == row.primary_rule), None)
        finding = Finding(row.path, level, row.score, row.primary_rule, rule_name, row.sha256)
        insort(self._worst, (order, finding), key=lambda entry: entry[0])
        del self._worst[WORST_LIMIT:]

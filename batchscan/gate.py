"""The gate of a pipeline: which findings fail a run, counted as rows are written.

A finding that was accepted, or that the baseline has, is in the report like any other and does not count.
What has no verdict is the exit code's own business (3): it comes before the gate's (1).
"""

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from batchscan.baseline import Baseline
from batchscan.models import RiskLevel, Row
from batchscan.report.gate import GateUse
from batchscan.suppressions import Suppressions

LEVELS: Final = (RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS)
"""Findings, worst first. A gate that fails on one fails on those before it."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a gate.

    Attributes:
        fail_on: the mildest verdict that fails the run; None lets every verdict pass.
        incomplete: fail with 3 also where inputs may be hidden: a directory could not be read.
        baseline: findings that were known before.
        suppressions: findings that were accepted.
        baseline_file, suppressions_file: where those are from.
    """

    fail_on: RiskLevel | None = None
    incomplete: bool = False
    baseline: Baseline | None = None
    suppressions: Suppressions | None = None
    baseline_file: Path | None = None
    suppressions_file: Path | None = None

    @property
    def asked(self) -> bool:
        """Whether there is a gate at all."""
        files = (self.baseline, self.suppressions)
        return self.fail_on is not None or self.incomplete or any(file is not None for file in files)


class GateTally:
    """Counts the findings of one run at a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._counted: Counter[RiskLevel] = Counter()
        self._known: Counter[RiskLevel] = Counter()
        self._suppressed: Counter[RiskLevel] = Counter()

    def add(self, row: Row) -> None:
        """Count a row; one that is no finding passes."""
        if row.verdict not in LEVELS:
            return
        gate, level = self._gate, row.verdict
        if gate.suppressions is not None and gate.suppressions.match(row) is not None:
            self._suppressed[level] += 1
        elif gate.baseline is not None and gate.baseline.covers(row):
            self._known[level] += 1
        else:
            self._counted[level] += 1

    def reached(self) -> bool:
        """Whether a finding that counts is bad enough to fail."""
        limit = self._gate.fail_on
        return limit is not None and any(self._counted[level] for level in LEVELS[: LEVELS.index(limit) + 1])

    def use(self) -> GateUse | None:
        """Say what was counted; None where no gate was asked for."""
        gate = self._gate
        if not gate.asked:
            return None
        return GateUse(
            fail_on=gate.fail_on,
            fail_on_incomplete=gate.incomplete,
            baseline=None if gate.baseline_file is None else str(gate.baseline_file),
            suppressions=None if gate.suppressions_file is None else str(gate.suppressions_file),
            counted=_by_level(self._counted),
            known=_by_level(self._known),
            suppressed=_by_level(self._suppressed),
            reached=self.reached(),
        )


def _by_level(counts: Counter[RiskLevel]) -> dict[RiskLevel, int]:
    return {level: counts[level] for level in LEVELS}

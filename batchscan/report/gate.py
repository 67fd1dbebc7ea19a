"""The part of a summary that is about the gate: what counted, what did not, and why not."""

from collections.abc import Iterator

import msgspec

from batchscan.models import RiskLevel


class GateUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate made of the findings, in rows by level; each finding is in one of the three.

    Attributes:
        fail_on: the mildest verdict that fails; None: no verdict does.
        fail_on_incomplete: whether what may hide inputs fails, too.
        baseline, suppressions: the files, None where none was given.
        counted: findings that are new and stand.
        known: findings that the baseline has.
        suppressed: findings that were accepted; the baseline is not asked about those.
        reached: whether one that counted is as bad as ``fail_on``. The exit code is another when some
            inputs have no verdict.
    """

    fail_on: RiskLevel | None
    fail_on_incomplete: bool
    baseline: str | None
    suppressions: str | None
    counted: dict[RiskLevel, int]
    known: dict[RiskLevel, int]
    suppressed: dict[RiskLevel, int]
    reached: bool


def gate_lines(gate: GateUse | None) -> Iterator[str]:
    """Say it for a person, on one line; nothing without a gate."""
    if gate is None:
        return
    asked = "no --fail-on" if gate.fail_on is None else f"fail on {gate.fail_on}"
    text = f"gate, {asked}: {'reached' if gate.reached else 'not reached'}; counted: {_levels(gate.counted)}"
    if gate.baseline is not None:
        text += f"; known from the baseline: {_levels(gate.known)}"
    if gate.suppressions is not None:
        text += f"; suppressed: {_levels(gate.suppressed)}"
    yield text


def _levels(counts: dict[RiskLevel, int]) -> str:
    return ", ".join(f"{count:,} {level}" for level, count in counts.items())

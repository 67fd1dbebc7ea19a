"""What changed between two reports: the decision table, and the records that tell of it. Pure, no I/O.

Absent is not fixed, and not gone either where the report lacks rows: what cannot be told is ``unknown``.
docs/decisions/compare.md has the table and its reasons.
"""

from enum import StrEnum
from typing import Final

import msgspec

from batchscan.models import Outcome, RiskLevel

COMPARISON_SCHEMA: Final = "batchscan.comparison/1"


class Change(StrEnum):
    """What became of an input. Of each pair of inputs, or input without a partner, exactly one holds."""

    NEW = "new"
    CHANGED_VERDICT = "changed-verdict"
    CHANGED_RULES = "changed-rules"
    UNKNOWN = "unknown"
    FIXED = "fixed"
    GONE = "gone"
    STILL_THERE = "still-there"
    ADDED = "added"
    UNCHANGED = "unchanged"


COUNTED_ONLY: Final = frozenset({Change.ADDED, Change.UNCHANGED})
"""What is benign now and needs no look: counted, and never listed."""


class Sight(StrEnum):
    """How one side sees an input: its verdict, or why there is none."""

    MALICIOUS = "malicious"
    SUSPICIOUS = "suspicious"
    BENIGN = "benign"
    NO_VERDICT = "no verdict"
    ABSENT = "absent"
    """The report has a row for each input of its run, and none for this one."""
    UNSEEN = "unseen"
    """There is no row, and the report lacks rows."""


class Direction(StrEnum):
    """Where a changed verdict went."""

    WORSE = "worse"
    MILDER = "milder"


class Place(StrEnum):
    """Where the input is now.

    ``copy-added``: its content is there under another name as before, and this name is new.
    ``copy-removed``: its content is there under another name still, and this name is gone.
    """

    SAME = "same"
    MOVED = "moved"
    COPY_ADDED = "copy-added"
    COPY_REMOVED = "copy-removed"


class Content(StrEnum):
    """Whether both sides saw the same bytes; ``unknown`` where one did not read them, or has no input."""

    SAME = "same"
    CHANGED = "changed"
    UNKNOWN = "unknown"


FINDINGS: Final = (Sight.MALICIOUS, Sight.SUSPICIOUS)

_M, _S, _B, _N, _A, _U = Sight
_TABLE: Final[dict[tuple[Sight, Sight], Change]] = {
    (_M, _M): Change.STILL_THERE,
    (_M, _S): Change.CHANGED_VERDICT,
    (_M, _B): Change.FIXED,
    (_M, _A): Change.GONE,
    (_S, _M): Change.CHANGED_VERDICT,
    (_S, _S): Change.STILL_THERE,
    (_S, _B): Change.FIXED,
    (_S, _A): Change.GONE,
    (_B, _M): Change.NEW,
    (_B, _S): Change.NEW,
    (_B, _B): Change.UNCHANGED,
    (_B, _A): Change.GONE,
    (_A, _M): Change.NEW,
    (_A, _S): Change.NEW,
    (_A, _B): Change.ADDED,
}


def judge(before: Sight, after: Sight, *, same_rules: bool = True) -> Change:
    """Decide what became of an input. ``same_rules``: the same rules hit on both sides."""
    change = _TABLE.get((before, after), Change.UNKNOWN)
    if change is Change.STILL_THERE and not same_rules:
        return Change.CHANGED_RULES
    return change


def is_fresh(before: Sight, after: Sight, content: Content) -> bool:
    """Whether it is a finding now that was not known before: not of this content, or milder.

    What a baseline does not cover is fresh (``baseline.Baseline``).
    """
    if after not in FINDINGS:
        return False
    known = before in FINDINGS and content is Content.SAME
    return not known or (before is Sight.SUSPICIOUS and after is Sight.MALICIOUS)


def direction_of(after: Sight) -> Direction:
    """Tell where a changed verdict went."""
    return Direction.WORSE if after is Sight.MALICIOUS else Direction.MILDER


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An input as one report has it. ``rules`` are the ids of a finding's rules, sorted."""

    path: str
    source: str
    manifest_line: int | None
    sha256: str | None
    outcome: Outcome
    verdict: RiskLevel | None
    score: int | None
    engine_version: int | None
    primary_rule: str | None
    rule_name: str | None
    rules: tuple[str, ...]
    error_code: str | None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One input, and what became of it.

    Attributes:
        fresh: a finding that was not known before, see ``is_fresh``.
        direction: of a changed verdict.
        before, after: as the two reports have it; None where there is no row. Of a copy, the other side is
            the input of the same content with the worst verdict.
    """

    change: Change
    direction: Direction | None
    fresh: bool
    place: Place
    content: Content
    before: Seen | None
    after: Seen | None
    rules_added: tuple[str, ...] = ()
    rules_removed: tuple[str, ...] = ()

    @property
    def seen(self) -> Seen:
        """The input as it was seen last."""
        found = self.after if self.place is not Place.COPY_REMOVED and self.after else self.before
        if found is None:
            raise ValueError("an item without an input")
        return found


class SideFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of a comparison is.

    Attributes:
        name: as the operator named it.
        runs: whose rows they are; endpoints, engines: who judged. At most 100 each.
        inputs: rows.
        missing: rows without a verdict.
        whole: whether there is a row for each input of its run, so that a missing one is absent.
    """

    name: str
    runs: tuple[str, ...]
    endpoints: tuple[str, ...]
    engine_versions: tuple[int, ...]
    inputs: int
    verdicts: dict[RiskLevel, int]
    missing: int
    whole: bool


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What changed, in numbers. The order of the fields is the order of the keys.

    Attributes:
        counts: inputs by what became of them.
        fresh: findings that were not known before, by verdict.
        fresh_over_finding: those of them that took the place of another finding: it has other content now.
        worse, milder: changed verdicts by direction.
        gone_findings: what is gone and was malicious or suspicious.
        moved: inputs whose content was elsewhere before; copies are not among them.
        copies_added, copies_removed: inputs whose content is also elsewhere, on both sides.
        undecided: inputs that have no verdict now, so that nobody can say what they are.
        notable: items that a person should see; the rest is still there, or benign.
        warnings: what makes the comparison weaker than it looks, as sentences.
        worst: the worst findings that are fresh, worst first; the command's JSON has all items instead.
    """

    schema: str = COMPARISON_SCHEMA
    before: SideFacts
    after: SideFacts
    counts: dict[Change, int]
    fresh: dict[RiskLevel, int]
    fresh_over_finding: int
    worse: int
    milder: int
    gone_findings: int
    moved: int
    copies_added: int
    copies_removed: int
    undecided: int
    notable: int
    warnings: tuple[str, ...]
    worst: tuple[Item, ...] = ()

    @property
    def incomplete(self) -> bool:
        """Whether anything cannot be told: nothing may look green then."""
        return bool(self.counts[Change.UNKNOWN]) or not (self.before.whole and self.after.whole)

    @property
    def changed(self) -> bool:
        """Whether a finding came, went or changed, or something cannot be told."""
        counts = self.counts
        came = any(self.fresh.values()) or counts[Change.NEW]
        changed = counts[Change.CHANGED_VERDICT] or counts[Change.CHANGED_RULES]
        return bool(came or changed or counts[Change.FIXED] or self.gone_findings or self.incomplete)

"""What the HTML page shows of a comparison with the run before. Pure."""

from typing import Final

import msgspec

from batchscan.changes import Change, Content, Item, Place
from batchscan.formats.entry import Changes, Context
from batchscan.models import RiskLevel, Row
from batchscan.pages.rendering import middle_cut, prose

_LISTED: Final = 20
_PATH: Final = 240
_LABEL: Final = 120

_Key = tuple[str, str, int | None]


class Figure(msgspec.Struct, frozen=True):
    """How many inputs something became of; ``kind`` gives the colour, ``what`` the words."""

    kind: str
    what: str
    count: int


class NewFinding(msgspec.Struct, frozen=True):
    """A finding that was not known before, and what was there then."""

    verdict: RiskLevel
    score: int | None
    path: str
    sha256: str | None
    rule: str | None
    rule_name: str | None
    before: str


class ChangesShown(msgspec.Struct, frozen=True):
    """The section of changes. ``left_out``: how many new findings are not listed in it."""

    since: float
    run_id: str
    figures: list[Figure]
    new: list[NewFinding]
    left_out: int
    incomplete: bool
    warnings: list[str]


def show_changes(changes: Changes) -> ChangesShown:
    """Take from a comparison what the page shows."""
    found = changes.comparison
    counts = found.counts
    figures = [
        Figure("malicious", "newly malicious", found.fresh[RiskLevel.MALICIOUS]),
        Figure("suspicious", "newly suspicious", found.fresh[RiskLevel.SUSPICIOUS]),
        Figure("plain", "other rules than before", counts[Change.CHANGED_RULES]),
        Figure("plain", "milder than before", found.milder),
        Figure("benign", "fixed", counts[Change.FIXED]),
        Figure("plain", "findings gone", found.gone_findings),
        Figure("missing", "cannot be told", counts[Change.UNKNOWN]),
    ]
    new = [_new(item) for item in found.worst[:_LISTED]]
    return ChangesShown(
        since=changes.started_at,
        run_id=changes.run_id,
        figures=figures,
        new=new,
        left_out=sum(found.fresh.values()) - len(new),
        incomplete=found.incomplete,
        warnings=[prose(warning, 600) or "" for warning in found.warnings],
    )


def new_keys(context: Context) -> frozenset[_Key] | None:
    """Name all findings that were not known before; None where that is not known, or they are too many."""
    if context.run is None or context.run.changes is None:
        return None
    found = context.run.changes.comparison
    if len(found.worst) < sum(found.fresh.values()):
        return None
    seen = [item.after for item in found.worst if item.after is not None]
    return frozenset((one.source, one.path, one.manifest_line) for one in seen)


def key_of(row: Row) -> _Key:
    """Name an input within a report."""
    return (row.source, row.path, row.manifest_line)


def _new(item: Item) -> NewFinding:
    seen = item.seen
    return NewFinding(
        verdict=seen.verdict or RiskLevel.SUSPICIOUS,
        score=seen.score,
        path=middle_cut(seen.path, _PATH),
        sha256=seen.sha256,
        rule=None if seen.primary_rule is None else middle_cut(seen.primary_rule, _LABEL),
        rule_name=prose(seen.rule_name, _LABEL),
        before=_before(item),
    )


def _before(item: Item) -> str:
    before = item.before
    if before is None:
        return "was not there"
    if item.place is Place.COPY_ADDED:
        return f"a copy of what was {before.verdict or 'without a verdict'}"
    moved = f", at {middle_cut(before.path, _LABEL)}" if item.place is Place.MOVED else ""
    if before.verdict is None:
        return f"had no verdict{moved}"
    other = ", other content" if item.content is Content.CHANGED else ""
    return f"{before.verdict}{other}{moved}"

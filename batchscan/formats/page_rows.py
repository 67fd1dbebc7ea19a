"""What the HTML page shows of rows, cut to what a person reads, so that a held row has a bounded size."""

from collections.abc import Container
from typing import Any, Final

import msgspec

from batchscan.formats.entry import Entry
from batchscan.formats.finding import safety_score
from batchscan.models import RiskLevel, Row, Rule
from batchscan.pages.rendering import middle_cut, prose
from batchscan.report.survey import NO_SCORE, SEVERITY
from batchscan.suppressions import Audit, Suppression
from batchscan.suppressions_file import Acceptance

SOURCE: Final = "source"
"""The detail that says where a file was found."""

JUDGE: Final = "judged by"
"""The detail that names endpoint and engine."""

_TEXT: Final = 600  # characters of a sentence that a service wrote
_LABEL: Final = 120  # of a name that it wrote
_PATH: Final = 240  # of a path where it is a heading; whole in the details
_WHOLE: Final = 8192  # of a path in the details
_DUES: Final = 20  # suppressions of one kind
_LISTED: Final = 12  # rules, notes, capabilities


class RuleShown(msgspec.Struct, frozen=True):
    """A rule that hit, as the page shows it."""

    id: str
    name: str | None
    engine: str
    description: str | None


class FindingShown(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table of findings.

    Attributes:
        rank: 0 is the worst verdict; what the page sorts by.
        new: it was not known in the run before; False also where that is not known.
        path: cut in the middle where it is very long.
        rule: the primary one, or the first.
        others: the other rules, and ``rules_left`` how many more there are.
        details: further facts, by label.
    """

    rank: int
    verdict: RiskLevel
    new: bool
    score: int | None
    path: str
    skill: str | None
    sha256: str | None
    notes: list[str]
    rule: RuleShown | None
    others: list[RuleShown]
    rules_left: int
    summary: str | None
    mitigation: str | None
    duplicate_of: str | None
    suppression: Suppression | None
    details: list[tuple[str, str]]

    def order(self) -> tuple[object, ...]:
        """Worst first: by verdict, what is open before what is accepted, by score, by path."""
        score = NO_SCORE if self.score is None else self.score
        return (self.rank, self.suppression is not None, score, self.path)


class Example(msgspec.Struct, frozen=True):
    """An input without a verdict."""

    path: str
    outcome: str
    message: str | None


class Due(msgspec.Struct, frozen=True):
    """Suppressions that somebody has to see to, for one reason."""

    what: str
    count: int
    entries: list[Acceptance]


def show_dues(audit: Audit | None) -> list[Due]:
    """Take from the audit of suppressions what the page shows; nothing where all is in order."""
    if audit is None:
        return []
    reasons = (
        ("Expired, without force now", audit.expired),
        ("About to expire", audit.expiring),
        ("Unused, no finding was met", audit.unused),
        (
            "Without force, the finding has other rules, too",
            tuple(kept.entry for kept in audit.kept),
        ),
    )
    return [Due(what, len(found), list(found[:_DUES])) for what, found in reasons if found]


def show_finding(
    entry: Entry, verdict: RiskLevel, *, new: bool = False, without: Container[str] = ()
) -> FindingShown:
    """Take from a finding what the page shows; details ``without`` those that all rows have in common."""
    row = entry.row
    rules = sorted(row.rules[: 2 * _LISTED], key=lambda rule: rule.id != row.primary_rule)
    shown = [_rule(rule) for rule in rules[:_LISTED]]
    if row.primary_rule is not None and (not shown or shown[0].id != row.primary_rule):
        shown.insert(0, RuleShown(middle_cut(row.primary_rule, _LABEL), None, "", None))
    accepted = entry.suppression
    return FindingShown(
        rank=SEVERITY.index(verdict),
        verdict=verdict,
        new=new,
        score=safety_score(row),
        path=middle_cut(row.path, _PATH),
        skill=prose(row.skill.name, _LABEL),
        sha256=row.sha256,
        notes=[middle_cut(note, _LABEL) for note in row.notes[:_LISTED]],
        rule=shown[0] if shown else None,
        others=shown[1:],
        rules_left=max(0, len(row.rules) - _LISTED),
        summary=prose(row.summary, _TEXT),
        mitigation=prose(row.mitigation, _TEXT),
        duplicate_of=None if row.duplicate_of is None else middle_cut(row.duplicate_of, _PATH),
        suppression=None
        if accepted is None
        else msgspec.structs.replace(accepted, reason=prose(accepted.reason, _TEXT) or ""),
        details=[(label, text) for label, text in _details(row) if text and label not in without],
    )


def show_example(row: Row) -> Example:
    """Take from an input without a verdict what the page shows."""
    message = None if row.error is None else prose(row.error.message, _TEXT)
    return Example(middle_cut(row.path, _PATH), row.outcome, message)


def _rule(rule: Rule) -> RuleShown:
    return RuleShown(
        middle_cut(rule.id, _LABEL),
        prose(rule.name, _LABEL),
        middle_cut(rule.engine, _LABEL),
        prose(rule.description, _TEXT),
    )


def _details(row: Row) -> list[tuple[str, str | None]]:
    capabilities = [prose(capability.name, _LABEL) or capability.id for capability in row.capabilities]
    return [
        ("whole path", row.path[:_WHOLE] if len(row.path) > _PATH else None),
        (SOURCE, middle_cut(row.source, _PATH)),
        ("line of the manifest", None if row.manifest_line is None else f"{row.manifest_line:,}"),
        ("id", _scalar(row.id)),
        ("described as", prose(row.skill.description, _TEXT)),
        ("can do", "; ".join(capabilities[:_LISTED])),
        ("size", None if row.size is None else f"{row.size:,} bytes"),
        ("files inside", None if row.skill.file_count is None else f"{row.skill.file_count:,}"),
        (JUDGE, f"{middle_cut(row.endpoint, _LABEL)}, engine {row.engine_version}"),
        ("judged at", row.scanned_at),
        ("expires", row.expires_at),
        ("outcome", row.outcome),
    ]


def _scalar(value: Any) -> str | None:  # noqa: ANN401 - any JSON value of a manifest
    return middle_cut(str(value), _LABEL) if isinstance(value, str | int) and value != "" else None

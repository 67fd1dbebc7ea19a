"""What is told of a run, ``batchscan.notice/1``: only that something changed, or that something is missing.

Pure. The texts of a notice come from outside; as JSON they are escaped, and for a chat they stand in code.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from batchscan.changes import Change, Comparison
from batchscan.models import Outcome, RiskLevel, RunState
from batchscan.report.rows import load_schema
from batchscan.report.spending import Flip
from batchscan.report.summary import Summary
from batchscan.report.text import code_span, encodable, printable_json

NOTICE_SCHEMA: Final = "batchscan.notice/1"
LISTED: Final = 20
"""How many newly malicious inputs are named."""

_LEVELS: Final = (RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS)
_MISSING: Final = (Outcome.PENDING, Outcome.FAILED, Outcome.REJECTED)
_TEXT_LIMIT = 1000
_CHAT_LIMIT = 100
_CHAT_LISTED = 10
_REFUSED = 4
_INCOMPLETE = 3


class Reason(StrEnum):
    """Why a notice is sent. One without any is not."""

    NEW_MALICIOUS = "new-malicious"
    NEW_SUSPICIOUS = "new-suspicious"
    CHANGED_VERDICT = "changed-verdict"
    FIXED = "fixed"
    GONE = "gone"
    INCOMPLETE = "incomplete"
    REFUSED = "refused"
    BUDGET = "budget"
    FAILED = "failed"


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """An input that is newly malicious."""

    path: str
    sha256: str | None
    score: int | None
    rule: str | None
    rule_name: str | None


class Trouble(msgspec.Struct, frozen=True):
    """What ended or hindered the run."""

    code: str
    message: str


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of one run. The order of the fields is the order of the keys.

    Attributes:
        at: when it was made, RFC 3339, UTC.
        run_id, state: of the run; None where it did not come to one.
        exit_code: what the process ends with.
        endpoint: who judged.
        inputs: rows of the report; verdicts: by level; missing: those without a verdict, by outcome.
        error: what ended or hindered the run.
        compared_with: the run before over the same inputs; None where there is none, and all findings count
            as new.
        new: findings that were not known, by level; worse, milder: verdicts that changed; fixed: findings
            that are benign now; gone: findings whose inputs are there no more.
        newly_malicious: the worst of them; not_named: how many more there are.
        warnings: what makes the comparison weaker than it looks.
    """

    schema: str = NOTICE_SCHEMA
    at: str
    reasons: tuple[Reason, ...]
    run_id: str | None
    state: RunState | None
    exit_code: int
    endpoint: str
    inputs: int = 0
    verdicts: dict[RiskLevel, int] = {}
    missing: dict[Outcome, int] = {}
    error: Trouble | None = None
    compared_with: str | None = None
    new: dict[RiskLevel, int] = {}
    worse: int = 0
    milder: int = 0
    fixed: int = 0
    gone: int = 0
    newly_malicious: tuple[Named, ...] = ()
    not_named: int = 0
    warnings: tuple[str, ...] = ()


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How a run differs from the one before. Fields as in a notice."""

    compared_with: str | None = None
    new: dict[RiskLevel, int]
    worse: int = 0
    milder: int = 0
    fixed: int = 0
    gone: int = 0
    newly_malicious: tuple[Named, ...] = ()
    warnings: tuple[str, ...] = ()


def compared(comparison: Comparison, before: str) -> Difference:
    """Take from a comparison with the run ``before`` what is told; it must hold the ``LISTED`` worst."""
    named = tuple(
        _named(seen.path, seen.sha256, seen.score, seen.primary_rule, seen.rule_name)
        for seen in (item.after for item in comparison.worst[:LISTED])
        if seen is not None and seen.verdict is RiskLevel.MALICIOUS
    )
    return Difference(
        compared_with=before,
        new={level: comparison.fresh[level] for level in _LEVELS},
        worse=comparison.worse,
        milder=comparison.milder,
        fixed=comparison.counts[Change.FIXED],
        gone=comparison.gone_findings,
        newly_malicious=named,
        warnings=comparison.warnings,
    )


def uncompared(summary: Summary) -> Difference:
    """Of a run that nothing came before, and of a rescan, which knows the verdicts before by itself."""
    if summary.rescan is not None:
        return _rejudged(summary.rescan.verdicts)
    named = tuple(
        _named(found.path, found.sha256, found.score, found.primary_rule, found.rule_name)
        for found in summary.worst
        if found.verdict is RiskLevel.MALICIOUS
    )
    new = {level: summary.verdicts[level] for level in _LEVELS}
    return Difference(new=new, newly_malicious=named)


def _rejudged(flips: Iterable[Flip]) -> Difference:
    new: Counter[RiskLevel] = Counter()
    worse = milder = fixed = 0
    for flip in flips:
        known = flip.before in _LEVELS
        if flip.before is flip.after:
            continue
        if flip.after is RiskLevel.MALICIOUS or (flip.after is RiskLevel.SUSPICIOUS and not known):
            new[flip.after] += flip.count
        worse += flip.count if known and flip.after is RiskLevel.MALICIOUS else 0
        milder += flip.count if known and flip.after is RiskLevel.SUSPICIOUS else 0
        fixed += flip.count if known and flip.after is RiskLevel.BENIGN else 0
    return Difference(new={level: new[level] for level in _LEVELS}, worse=worse, milder=milder, fixed=fixed)


def notice_of(summary: Summary, difference: Difference, at: datetime) -> Notice | None:
    """Make the notice of a run that has ended; None when there is nothing to tell."""
    reasons = (*_changes(difference), *_shortfalls(summary))
    if not reasons:
        return None
    error = summary.error
    named = difference.newly_malicious
    return Notice(
        at=_rfc3339(at),
        reasons=reasons,
        run_id=summary.run_id,
        state=summary.state,
        exit_code=summary.exit_code,
        endpoint=summary.endpoint,
        inputs=summary.inputs,
        verdicts=summary.verdicts,
        missing={outcome: summary.counts[outcome] for outcome in _MISSING},
        error=None if error is None else Trouble(_cut(error.code), _cut(error.message)),
        compared_with=difference.compared_with,
        new=difference.new,
        worse=difference.worse,
        milder=difference.milder,
        fixed=difference.fixed,
        gone=difference.gone,
        newly_malicious=named,
        not_named=max(0, difference.new[RiskLevel.MALICIOUS] - len(named)),
        warnings=difference.warnings,
    )


def failure(trouble: Trouble, exit_code: int, endpoint: str, at: datetime) -> Notice:
    """Make the notice of a command that ended without a summary."""
    refused = exit_code == _REFUSED
    return Notice(
        at=_rfc3339(at),
        reasons=(Reason.REFUSED if refused else Reason.FAILED,),
        run_id=None,
        state=None,
        exit_code=exit_code,
        endpoint=endpoint,
        verdicts=dict.fromkeys(RiskLevel, 0),
        missing=dict.fromkeys(_MISSING, 0),
        new=dict.fromkeys(_LEVELS, 0),
        error=Trouble(_cut(trouble.code), _cut(trouble.message)),
    )


def encode_notice(notice: Notice) -> bytes:
    """Encode as one JSON object."""
    return printable_json(msgspec.json.encode(notice))


def encode_for_slack(notice: Notice) -> bytes:
    """Encode as a message for an incoming webhook of Slack, or of a chat that takes the same."""
    text = "\n".join(_chat_lines(notice))
    return msgspec.json.encode({"text": text, "unfurl_links": False, "unfurl_media": False})


def notice_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a notice, as shipped in the package."""
    return load_schema("notice.schema.json")


def _changes(difference: Difference) -> list[Reason]:
    found = {
        Reason.NEW_MALICIOUS: difference.new[RiskLevel.MALICIOUS],
        Reason.NEW_SUSPICIOUS: difference.new[RiskLevel.SUSPICIOUS],
        Reason.CHANGED_VERDICT: difference.worse + difference.milder,
        Reason.FIXED: difference.fixed,
        Reason.GONE: difference.gone,
    }
    return [reason for reason, count in found.items() if count]


def _shortfalls(summary: Summary) -> list[Reason]:
    found = []
    missing = any(summary.counts[outcome] for outcome in _MISSING)
    if missing or summary.state is not RunState.COMPLETE or summary.exit_code == _INCOMPLETE:
        found.append(Reason.INCOMPLETE)
    if summary.error is not None:
        known = {"budget": Reason.BUDGET}
        refused = summary.exit_code == _REFUSED
        found.append(known.get(summary.error.code, Reason.REFUSED if refused else Reason.FAILED))
    return found


def _chat_lines(notice: Notice) -> list[str]:
    lines = [f"*batchscan: {', '.join(notice.reasons)}*"]
    run = "no run" if notice.run_id is None else f"run {_code(notice.run_id)} is {notice.state}"
    lines.append(f"{run}, judged by {_code(notice.endpoint)}; exit code {notice.exit_code}")
    if notice.run_id is not None:
        missing = sum(notice.missing.values())
        lines.append(f"{notice.inputs:,} inputs: {_counts(notice.verdicts)}, {missing:,} without a verdict")
        if missing:
            lines.append(f"without a verdict: {_counts(notice.missing)}")
        before = "no run before" if notice.compared_with is None else f"run {_code(notice.compared_with)}"
        lines.append(
            f"since {before}: new {_counts(notice.new)}; worse {notice.worse:,}, milder {notice.milder:,},"
            f" fixed {notice.fixed:,}, gone {notice.gone:,}"
        )
    if notice.error is not None:
        lines.append(f"{_code(notice.error.code)}: {_code(notice.error.message, 3 * _CHAT_LIMIT)}")
    for named in notice.newly_malicious[:_CHAT_LISTED]:
        rule = f", rule {_code(named.rule)}" if named.rule else ""
        score = "no score" if named.score is None else f"score {named.score}"
        lines.append(f"• {_code(named.path)} {score}{rule}")
    more = notice.not_named + max(0, len(notice.newly_malicious) - _CHAT_LISTED)
    if more:
        lines.append(f"and {more:,} more that are newly malicious")
    return lines


def _counts(counts: dict[Any, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _code(text: str, limit: int = _CHAT_LIMIT) -> str:
    """In code, and by Slack's rule: ``&``, ``<`` and ``>`` begin what it would act on."""
    return code_span(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _named(
    path: str, sha256: str | None, score: int | None, rule: str | None, rule_name: str | None
) -> Named:
    return Named(
        path=_cut(path),
        sha256=sha256,
        score=score,
        rule=None if rule is None else _cut(rule),
        rule_name=None if rule_name is None else _cut(rule_name),
    )


def _cut(text: str) -> str:
    text = encodable(text)
    return text if len(text) <= _TEXT_LIMIT else f"{text[:_TEXT_LIMIT]}…"


def _rfc3339(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")

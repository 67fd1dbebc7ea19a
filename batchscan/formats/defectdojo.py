"""DefectDojo's Generic Findings Import (JSON): one finding for each malicious or suspicious file.

Its parser refuses fields it does not know, and its page renders texts as Markdown. Title and description are
what DefectDojo compares by default to know a finding again, so they hold only what does not change from
night to night; what the engine wrote stands beside them.
"""

from datetime import date
from typing import Any, BinaryIO, Final

from batchscan import __version__
from batchscan.formats.entry import Context, Entry
from batchscan.formats.finding import (
    content_digest,
    engine,
    finding_id,
    headline,
    is_finding,
    rule_ids,
    safety_score,
    shown,
    to_json,
)
from batchscan.formats.shortfall import Shortfall, find_shortfall
from batchscan.models import RiskLevel, Row

SEVERITIES: Final = {RiskLevel.MALICIOUS: "Critical", RiskLevel.SUSPICIOUS: "Medium"}

PATH_LIMIT: Final = 4_000
"""Characters of a path that it takes."""

_ID_LIMIT = 500
_DATE = slice(0, 10)
_ACTIVE = {ord(char): f"\\{char}" for char in "\\`*_{}[]()#+!|"} | {ord("<"): "&lt;", ord("&"): "&amp;"}


class _DefectDojo:
    def __init__(self, out: BinaryIO, context: Context) -> None:
        self._out = out
        self._today = context.made_at.strftime("%Y-%m-%d")
        self._separator = b"\n"
        shortfall = find_shortfall(context)
        head = {
            "name": "batchscan",
            "type": "batchscan",
            "version": __version__,
            "description": _text(_about(context, shortfall)),
            "static_tool": True,
            "dynamic_tool": False,
        }
        self._out.write(to_json(head).removesuffix(b"}") + b',"findings":[')
        if shortfall is not None:
            self._finding(_incomplete(shortfall, self._today))

    def add(self, entry: Entry) -> None:
        if is_finding(entry.row):
            self._finding(_finding(entry, self._today))

    def finish(self) -> None:
        self._out.write(b"\n]}\n")

    def _finding(self, finding: dict[str, Any]) -> None:
        self._out.write(self._separator + to_json(finding))
        self._separator = b",\n"


def open_writer(out: BinaryIO, context: Context) -> _DefectDojo:
    """Write all that stands before the findings."""
    return _DefectDojo(out, context)


def _finding(entry: Entry, today: str) -> dict[str, Any]:
    row, suppression = entry.row, entry.suppression
    level = RiskLevel.MALICIOUS if row.verdict is RiskLevel.MALICIOUS else RiskLevel.SUSPICIOUS
    finding: dict[str, Any] = {
        "title": f"{headline(row)} in {shown(row.path, 300)}",
        "severity": SEVERITIES[level],
        "description": _description(row),
        "severity_justification": _justification(row),
        "mitigation": None if row.mitigation is None else _text(row.mitigation),
        "date": _date(row.scanned_at) or today,
        "file_path": shown(row.path, PATH_LIMIT),
        "unique_id_from_tool": finding_id(row),
        "vuln_id_from_tool": None if row.primary_rule is None else shown(row.primary_rule, _ID_LIMIT),
        "static_finding": True,
        "dynamic_finding": False,
        "verified": False,
        "active": suppression is None,
        "risk_accepted": suppression is not None,
        "tags": ["batchscan", level.value],
    }
    if suppression is not None:
        accepted = f"Accepted until {suppression.expires} by {suppression.owner}: {suppression.reason}"
        finding["severity_justification"] = f"{_text(accepted)}\n\n{finding['severity_justification']}"
        finding["tags"].append("suppressed")
    return {name: value for name, value in finding.items() if value is not None}


def _description(row: Row) -> str:
    """Say what is the same every night: no run, no engine, no score, no text of the engine."""
    rule = "none named" if row.primary_rule is None else _text(headline(row).partition(": ")[2])
    lines = (
        f"Verdict: {row.verdict}",
        f"Rule: {rule}",
        f"File: {_text(row.path)}",
        f"SHA-256: {content_digest(row)}",
    )
    return "\n\n".join(lines)


def _justification(row: Row) -> str:
    score = safety_score(row)
    facts = (
        ("What was found", row.summary),
        ("Rules", ", ".join(rule_ids(row))),
        ("Safety score", None if score is None else f"{score} of 100, higher is safer"),
        ("Judged by", f"{row.endpoint}, engine {engine(row)}, at {row.scanned_at}"),
        ("Duplicate of", row.duplicate_of),
    )
    return "\n\n".join(f"{name}: {_text(value)}" for name, value in facts if value)


def _about(context: Context, shortfall: Shortfall | None) -> str:
    found = context.survey
    verdicts = ", ".join(f"{found.tally.verdicts[level]} {level.value}" for level in RiskLevel)
    told = f"{context.name}: {found.tally.inputs} inputs; {verdicts}; {found.missing()} without a verdict."
    return told if shortfall is None else f"{shortfall.text()} {told}"


def _incomplete(shortfall: Shortfall, today: str) -> dict[str, Any]:
    """Build the one finding that is not about a skill; it stays one and the same while inputs are missing."""
    return {
        "title": shortfall.title,
        "severity": "High",
        "description": _text(shortfall.advice),
        "severity_justification": _text("; ".join(shortfall.counts)),
        "date": today,
        "unique_id_from_tool": "batchscan-incomplete",
        "vuln_id_from_tool": "incomplete",
        "static_finding": True,
        "dynamic_finding": False,
        "verified": True,
        "active": True,
        "risk_accepted": False,
        "tags": ["batchscan", "incomplete"],
    }


def _date(text: str | None) -> str | None:
    """Take the day out of a time of the report; None for what is none."""
    try:
        return None if text is None else date.fromisoformat(text[_DATE]).isoformat()
    except ValueError:
        return None


def _text(text: str) -> str:
    """Show a text of others where Markdown is rendered: no link, no image, no markup."""
    return shown(text).translate(_ACTIVE)

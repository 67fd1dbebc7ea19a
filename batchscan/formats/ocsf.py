"""OCSF 1.5, class Detection Finding (2004): one event a line for each malicious or suspicious file.

Benign rows are left out: the class is for detections, and whoever pays a SIEM by the event does not want a
million lines that say nothing. What is missing is one more event, so that no night looks quiet that was not.
What OCSF has no attribute for is in ``unmapped``.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, Final

from batchscan import __version__
from batchscan.formats.entry import Context, Entry
from batchscan.formats.finding import (
    RULES_LIMIT,
    content_digest,
    engine,
    event_id,
    finding_id,
    headline,
    is_finding,
    passed_on,
    safety_score,
    shown,
    to_json,
    whole_path,
)
from batchscan.formats.shortfall import Shortfall, find_shortfall
from batchscan.models import RiskLevel, Row
from batchscan.suppressions import Suppression

VERSION: Final = "1.5.0"

_CLASS = {
    "category_uid": 2,
    "category_name": "Findings",
    "class_uid": 2004,
    "class_name": "Detection Finding",
    "type_uid": 200401,
    "type_name": "Detection Finding: Create",
    "activity_id": 1,
    "activity_name": "Create",
}
_CRITICAL = {"severity_id": 5, "severity": "Critical", "risk_level_id": 4, "risk_level": "Critical"}
_HIGH = {"severity_id": 4, "severity": "High"}
_MEDIUM = {"severity_id": 3, "severity": "Medium", "risk_level_id": 2, "risk_level": "Medium"}
_VERDICTS = {  # not True Positive: nobody has looked yet
    RiskLevel.MALICIOUS: {
        "verdict_id": 8,
        "verdict": "Security Risk",
    },
    RiskLevel.SUSPICIOUS: {"verdict_id": 4, "verdict": "Suspicious"},
}
_NEW = {"status_id": 1, "status": "New"}
_SUPPRESSED = {"status_id": 3, "status": "Suppressed"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LONG_MAX = 2**63 - 1


class _Ocsf:
    def __init__(self, out: BinaryIO, context: Context) -> None:
        self._out = out
        self._made_at = _milliseconds(context.made_at)
        shortfall = find_shortfall(context)
        if shortfall is not None:
            self._event(_incomplete(shortfall, context, self._made_at))

    def add(self, entry: Entry) -> None:
        if is_finding(entry.row):
            self._event(_detection(entry, self._made_at))

    def finish(self) -> None:
        """Nothing follows the events."""

    def _event(self, event: dict[str, Any]) -> None:
        self._out.write(to_json(event) + b"\n")


def open_writer(out: BinaryIO, context: Context) -> _Ocsf:
    """Begin; the event about what is missing comes first."""
    return _Ocsf(out, context)


def _detection(entry: Entry, made_at: int) -> dict[str, Any]:
    row, suppression = entry.row, entry.suppression
    level = RiskLevel.MALICIOUS if row.verdict is RiskLevel.MALICIOUS else RiskLevel.SUSPICIOUS
    score, file = safety_score(row), _file(row)
    event: dict[str, Any] = {
        **_CLASS,
        **(_CRITICAL if level is RiskLevel.MALICIOUS else _MEDIUM),
        **(_NEW if suppression is None else _SUPPRESSED),
        "is_alert": suppression is None,
        "time": _time(row.scanned_at) or made_at,
        "message": shown(f"{headline(row)} in {shown(row.path, 1_000)}"),
        "metadata": _metadata(event_id(row), row.run_id),
        "finding_info": _finding_info(row, level),
        "evidences": [{"file": file, **_VERDICTS[level]}],
        "resources": [_resource(row)],
        "observables": _observables(file),
        "unmapped": _unmapped(row, score, suppression),
    }
    if score is not None:
        event["risk_score"] = 100 - score  # OCSF's risk grows, the service's score is of safety
    if row.mitigation:
        event["remediation"] = {"desc": shown(row.mitigation)}
    if suppression is not None:
        event["comment"] = f"Accepted until {suppression.expires}: {shown(suppression.reason)}"
    return event


def _metadata(uid: str, run_id: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "uid": uid,
        "correlation_uid": shown(run_id, 100),
        "product": {"name": "batchscan", "vendor_name": "batchscan", "version": __version__},
    }


def _finding_info(row: Row, level: RiskLevel) -> dict[str, Any]:
    names = {rule.id: rule.name or rule.id for rule in row.rules}
    info: dict[str, Any] = {
        "uid": finding_id(row),
        "title": headline(row),
        "types": [f"{level.value} skill"],
        "data_sources": [shown(row.endpoint, 200)],
    }
    if row.summary:
        info["desc"] = shown(row.summary)
    if row.primary_rule:
        info["analytic"] = _analytic(row.primary_rule, names.get(row.primary_rule, row.primary_rule))
    others = [(rule, name) for rule, name in names.items() if rule and rule != row.primary_rule][:RULES_LIMIT]
    if others:
        info["related_analytics"] = [_analytic(rule, name) for rule, name in others]
    return info


def _analytic(rule: str, name: str) -> dict[str, Any]:
    return {"type_id": 1, "type": "Rule", "uid": shown(rule, 200), "name": shown(name, 200)}


def _file(row: Row) -> dict[str, Any]:
    path = whole_path(row)
    file: dict[str, Any] = {
        "type_id": 1,
        "type": "Regular File",
        "name": path.rstrip("/").rpartition("/")[2] or "(no name)",
        "path": path,
    }
    if digest := content_digest(row):
        file["hashes"] = [{"algorithm_id": 3, "algorithm": "SHA-256", "value": digest}]
    if row.size is not None and 0 <= row.size <= _LONG_MAX:
        file["size"] = row.size
    return file


def _resource(row: Row) -> dict[str, Any]:
    name = shown(row.skill.name or row.path, 500)
    return {"type": "agent skill", "name": name, "uid": content_digest(row) or finding_id(row)}


def _observables(file: dict[str, Any]) -> list[dict[str, Any]]:
    hashes = [
        {"name": "evidences.file.hashes.value", "type_id": 8, "type": "Hash", "value": found["value"]}
        for found in file.get("hashes", ())
    ]
    name = {"name": "evidences.file.name", "type_id": 7, "type": "File Name", "value": file["name"]}
    return [*hashes, name]


def _unmapped(row: Row, score: int | None, suppression: Suppression | None) -> dict[str, Any]:
    return {
        "verdict": row.verdict,
        "security_score": score,
        "outcome": row.outcome,
        "endpoint": shown(row.endpoint, 200),
        "engine_version": engine(row),
        "source": shown(row.source),
        "manifest_line": row.manifest_line,
        "duplicate_of": None if row.duplicate_of is None else shown(row.duplicate_of),
        "capabilities": [shown(capability.id, 100) for capability in row.capabilities[:RULES_LIMIT]],
        "notes": [shown(note, 100) for note in row.notes[:RULES_LIMIT]],
        "suppression": None
        if suppression is None
        else {
            "reason": shown(suppression.reason),
            "owner": shown(suppression.owner),
            "expires": suppression.expires,
        },
        **passed_on(row),
    }


def _incomplete(shortfall: Shortfall, context: Context, made_at: int) -> dict[str, Any]:
    """Build the one event that is not about a skill; its finding is the same while inputs are missing."""
    found = context.survey
    run_id = next(iter(found.run_ids), "")
    return {
        **_CLASS,
        **_HIGH,
        **_NEW,
        "is_alert": True,
        "time": made_at,
        "message": shown(shortfall.text()),
        "metadata": _metadata(f"batchscan-incomplete-{shown(run_id, 100)}", run_id),
        "finding_info": {
            "uid": "batchscan-incomplete",
            "title": shortfall.title,
            "desc": shown("; ".join(shortfall.counts)),
            "types": ["incomplete scan"],
        },
        "remediation": {"desc": shortfall.advice},
        "unmapped": {
            "inputs": found.tally.inputs,
            "without_verdict": found.missing(),
            "state": context.state,
        },
    }


def _time(text: str | None) -> int | None:
    """Read a time of the report; None for what is none."""
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment is None or moment.tzinfo is None else _milliseconds(moment)


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND

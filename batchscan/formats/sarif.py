"""SARIF 2.1.0 for code scanning: one result for each skill file that is malicious or suspicious.

Kept to what GitHub takes: 25,000 results a run, the worst ones; relative URIs; a region; fingerprints; texts
within their limits. GitHub reads nothing but results, so what is missing is a result, too: a file with
inputs that have no verdict is never without an error.
"""

from typing import Any, BinaryIO, Final

from batchscan import __version__
from batchscan.formats.entry import Context, Entry
from batchscan.formats.finding import (
    content_digest,
    engine,
    finding_id,
    headline,
    rule_ids,
    safety_score,
    shown,
    to_json,
    whole_path,
)
from batchscan.formats.sarif_rules import INCOMPLETE, RuleTable, describe
from batchscan.formats.shortfall import Shortfall, find_shortfall
from batchscan.formats.uris import relative_uri
from batchscan.models import Outcome, RiskLevel, Row
from batchscan.suppressions import Suppression

RESULTS_LIMIT: Final = 25_000
"""Results that GitHub takes in one run; it shows the 5,000 worst of them."""

SCHEMA_URI: Final = "https://json.schemastore.org/sarif-2.1.0.json"

_TEXT_LIMIT = 1_000  # of summary and of mitigation: 25,000 results must stay below GitHub's 10 MB, zipped
_ROOT = "%SRCROOT%"
_REPORT_URI = "batchscan-report"  # the same every night, so that it stays one alert
_ACTIVE = str.maketrans({"{": "{{", "}": "}}", "[": "\\[", "]": "\\]"})
_REGION = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
_NOTIFICATIONS = [
    describe("no-verdict", "Inputs without a verdict", "Nothing is known of them; see the report.", "error"),
    describe("results-cut", "Results left out", "The mildest ones are left out, as GitHub asks.", "warning"),
    describe("rules-cut", "Rules left out", "There are more rules than can be listed.", "warning"),
]


class _Sarif:
    def __init__(self, out: BinaryIO, context: Context) -> None:
        self._out = out
        self._rules = RuleTable(context.survey)
        shortfall = find_shortfall(context)
        self._cut = context.survey.worst_first(RESULTS_LIMIT - (shortfall is not None))
        self._separator = b"\n"
        self._head(context, shortfall)
        if shortfall is not None:
            self._result(_incomplete(shortfall, self._rules))

    def add(self, entry: Entry) -> None:
        if self._cut.take(entry.row):
            self._result(_result(entry, self._rules))

    def finish(self) -> None:
        self._out.write(b"\n]}]}\n")

    def _result(self, result: dict[str, Any]) -> None:
        self._out.write(self._separator + to_json(result))
        self._separator = b",\n"

    def _head(self, context: Context, shortfall: Shortfall | None) -> None:
        left_out = self._cut.left_out
        run = {
            "tool": {
                "driver": {
                    "name": "batchscan",
                    "version": __version__,
                    "rules": self._rules.descriptors(),
                    "notifications": _NOTIFICATIONS,
                }
            },
            "invocations": [
                {
                    "executionSuccessful": shortfall is None,
                    "endTimeUtc": context.made_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "toolExecutionNotifications": _notifications(shortfall, left_out, context),
                }
            ],
            "originalUriBaseIds": {_ROOT: {"description": {"text": "Where the scan was started."}}},
            "properties": _summary(context, left_out),
        }
        head = to_json({"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]})
        self._out.write(head.removesuffix(b"}]}") + b',"results":[')


def open_writer(out: BinaryIO, context: Context) -> _Sarif:
    """Write all that stands before the results."""
    return _Sarif(out, context)


def _result(entry: Entry, rules: RuleTable) -> dict[str, Any]:
    row = entry.row
    rule_id, index = rules.find(row)
    score = safety_score(row)
    result: dict[str, Any] = {
        "ruleId": rule_id,
        "ruleIndex": index,
        "level": "error" if row.verdict is RiskLevel.MALICIOUS else "warning",
        "message": {"text": _message(row, score)},
        "locations": [_location(relative_uri(row))],
        "partialFingerprints": {  # GitHub reads the first one
            "primaryLocationLineHash": f"{content_digest(row) or finding_id(row)}:1",
            "batchscanFinding/v1": finding_id(row),
        },
        "properties": _properties(row, score),
    }
    if score is not None:
        result["rank"] = float(100 - score)
    if entry.suppression is not None:
        result["suppressions"] = [_suppression(entry.suppression)]
    return result


def _message(row: Row, score: int | None) -> str:
    sentences = [headline(row) + ("" if score is None else f", safety score {score} of 100") + "."]
    if row.summary:
        sentences.append(shown(row.summary, _TEXT_LIMIT))
    if row.mitigation:
        sentences.append("What to do: " + shown(row.mitigation, _TEXT_LIMIT))
    return _plain(" ".join(sentences))


def _properties(row: Row, score: int | None) -> dict[str, Any]:
    return {
        "path": whole_path(row),
        "sha256": content_digest(row),
        "verdict": row.verdict,
        "score": score,
        "outcome": row.outcome,
        "primaryRule": None if row.primary_rule is None else shown(row.primary_rule, 100),
        "rules": rule_ids(row),
        "skill": None if row.skill.name is None else shown(row.skill.name, 200),
        "duplicateOf": None if row.duplicate_of is None else shown(row.duplicate_of),
        "endpoint": shown(row.endpoint, 200),
        "engineVersion": engine(row),
        "scannedAt": None if row.scanned_at is None else shown(row.scanned_at, 40),
    }


def _suppression(suppression: Suppression) -> dict[str, Any]:
    return {
        "kind": "external",
        "status": "accepted",
        "justification": shown(suppression.reason),
        "properties": {"owner": shown(suppression.owner), "expires": suppression.expires},
    }


def _location(uri: str) -> dict[str, Any]:
    return {"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": _ROOT}, "region": _REGION}}


def _incomplete(shortfall: Shortfall, rules: RuleTable) -> dict[str, Any]:
    """Build the one result that is not about a skill."""
    rule_id, index = rules.place(INCOMPLETE)
    return {
        "ruleId": rule_id,
        "ruleIndex": index,
        "level": "error",
        "message": {"text": _plain(shortfall.text())},
        "locations": [_location(_REPORT_URI)],
        "partialFingerprints": {"primaryLocationLineHash": f"{INCOMPLETE}:1"},
    }


def _notifications(shortfall: Shortfall | None, left_out: int, context: Context) -> list[dict[str, Any]]:
    told = []
    if shortfall is not None:
        told.append(("no-verdict", "error", shortfall.text()))
    if left_out:
        told.append(
            (
                "results-cut",
                "warning",
                f"{left_out} findings are left out; the {RESULTS_LIMIT} worst are here.",
            )
        )
    if context.survey.cut:
        told.append(("rules-cut", "warning", "There are more rules than can be listed; see the report."))
    return [
        {"descriptor": {"id": name}, "level": level, "message": {"text": _plain(text)}}
        for name, level, text in told
    ]


def _summary(context: Context, left_out: int) -> dict[str, Any]:
    found = context.survey
    return {
        "report": shown(context.name, 255),
        "runIds": [shown(name, 100) for name in list(found.run_ids)[:10]],
        "endpoints": [shown(name, 200) for name in list(found.endpoints)[:10]],
        "engineVersions": [shown(str(version), 40) for version in sorted(found.tally.engine_versions)[:100]],
        "inputs": found.tally.inputs,
        "outcomes": {name.value: found.tally.outcomes[name] for name in Outcome},
        "verdicts": {name.value: found.tally.verdicts[name] for name in RiskLevel},
        "withoutVerdict": found.missing(),
        "suppressed": found.suppressed[RiskLevel.MALICIOUS] + found.suppressed[RiskLevel.SUSPICIOUS],
        "suppressionsToLookAt": None if context.audit is None else context.audit.counts(),
        "resultsLeftOut": left_out,
    }


def _plain(text: str) -> str:
    """Keep a reader of SARIF from seeing placeholders (3.11.5) or links (3.11.6) in it."""
    return text.translate(_ACTIVE)

"""JUnit XML: one test case for each input, for whatever shows test results.

JUnit knows passed and three ways not to. Malicious and suspicious are failures, told apart by their type: a
finding that passes would not be seen anywhere. An input that could not be scanned is an error. One whose
verdict is still to come, or whose finding was accepted, is skipped. Skipped tests are green, so the first
case is about the report: it is an error while a verdict is missing.

Readers drop the second of two cases of one name, so where there are several sources a name begins with its
source. No character is written that does not print, so none that XML 1.0 forbids.
"""

from datetime import datetime
from html import escape
from typing import BinaryIO, Final

from batchscan.formats.entry import Context, Entry
from batchscan.formats.finding import (
    content_digest,
    engine,
    headline,
    is_finding,
    rule_ids,
    safety_score,
    shown,
)
from batchscan.formats.shortfall import Shortfall, find_shortfall
from batchscan.models import Outcome, RiskLevel, Row
from batchscan.report.survey import Survey

WHOLE: Final = "every input has a verdict"
"""The name of the case that is about the report."""

_SUITE = "batchscan"
_PATH_LIMIT = 4_096


class _JUnit:
    def __init__(self, out: BinaryIO, context: Context) -> None:
        self._out = out
        found, shortfall = context.survey, find_shortfall(context)
        self._several = len(found.sources) > 1
        counts = _counts(found, shortfall)
        skipped = found.tally.outcomes[Outcome.PENDING] + _accepted(found)
        self._line('<?xml version="1.0" encoding="UTF-8"?>')
        self._line(f'<testsuites name="{_SUITE}" {counts}>')
        time = _timestamp(context.made_at)
        self._line(f'<testsuite name="{_SUITE}" {counts} skipped="{skipped}" timestamp="{time}">')
        self._line(f"<properties>{_properties(context)}</properties>")
        problem = (
            "" if shortfall is None else _element("error", "incomplete", shortfall.title, shortfall.text())
        )
        self._case(WHOLE, _SUITE, problem)

    def add(self, entry: Entry) -> None:
        path = shown(entry.row.path, _PATH_LIMIT)
        name = f"{shown(entry.row.source, _PATH_LIMIT)}: {path}" if self._several else path
        self._case(name or "(no name)", _class_name(path), _trouble(entry))

    def finish(self) -> None:
        self._line("</testsuite>")
        self._line("</testsuites>")

    def _case(self, name: str, class_name: str, trouble: str) -> None:
        start = f'<testcase classname="{escape(class_name)}" name="{escape(name)}"'
        self._line(f"{start}>{trouble}</testcase>" if trouble else f"{start}/>")

    def _line(self, text: str) -> None:
        self._out.write(text.encode() + b"\n")


def open_writer(out: BinaryIO, context: Context) -> _JUnit:
    """Write the head with its counts, and the case that is about the report."""
    return _JUnit(out, context)


def _counts(found: Survey, shortfall: Shortfall | None) -> str:
    outcomes = found.tally.outcomes
    incomplete = shortfall is not None
    failures = found.findings() - _accepted(found)
    errors = outcomes[Outcome.REJECTED] + outcomes[Outcome.FAILED] + incomplete
    return f'tests="{found.tally.inputs + 1}" failures="{failures}" errors="{errors}"'


def _accepted(found: Survey) -> int:
    return found.suppressed[RiskLevel.MALICIOUS] + found.suppressed[RiskLevel.SUSPICIOUS]


def _trouble(entry: Entry) -> str:
    """Say what is not as it should be; nothing for a benign skill."""
    row, suppression = entry.row, entry.suppression
    if is_finding(row):
        verdict = str(row.verdict)
        if suppression is None:
            return _element("failure", verdict, headline(row), _details(row))
        told = (
            f"Accepted until {suppression.expires} by {shown(suppression.owner, 200)}:"
            f" {shown(suppression.reason, 1_000)}"
        )
        return _element("skipped", f"suppressed-{verdict}", told, f"{headline(row)}\n{_details(row)}")
    if row.verdict is RiskLevel.BENIGN:
        return ""
    kind = "skipped" if row.outcome is Outcome.PENDING else "error"
    code = "unknown" if row.error is None else shown(row.error.code, 200)
    message = "" if row.error is None else shown(row.error.message, 1_000)
    return _element(kind, row.outcome.value, f"{row.outcome.value}: {code}", message)


def _details(row: Row) -> str:
    score = safety_score(row)
    facts = (
        ("what was found", row.summary),
        ("what to do", row.mitigation),
        ("rules", ", ".join(rule_ids(row))),
        ("safety score", None if score is None else f"{score} of 100"),
        ("sha256", content_digest(row)),
        ("judged by", f"{row.endpoint}, engine {engine(row)}"),
    )
    return "\n".join(f"{name}: {shown(value)}" for name, value in facts if value)


def _element(name: str, kind: str, message: str, text: str) -> str:
    return f'<{name} type="{escape(kind)}" message="{escape(message)}">{escape(text)}</{name}>'


def _class_name(path: str) -> str:
    """Group by directory, as readers group by package: ``team/a.zip`` is of ``batchscan.team``."""
    directory = path.rpartition("/")[0].strip("/")
    return f"{_SUITE}.{directory.replace('/', '.')}" if directory else _SUITE


def _properties(context: Context) -> str:
    found = context.survey
    facts = {
        "report": shown(context.name, 255),
        "run_ids": " ".join(shown(name, 100) for name in list(found.run_ids)[:10]),
        "endpoints": " ".join(shown(name, 200) for name in list(found.endpoints)[:10]),
        "without_verdict": str(found.missing()),
        "suppressed": str(_accepted(found)),
    }
    if context.audit is not None:
        facts |= {f"suppressions_{name}": str(count) for name, count in context.audit.counts().items()}
    facts |= {level.value: str(found.tally.verdicts[level]) for level in RiskLevel}
    return "".join(f'<property name="{name}" value="{escape(value)}"/>' for name, value in facts.items())


def _timestamp(made_at: datetime) -> str:
    return made_at.strftime("%Y-%m-%dT%H:%M:%S")  # readers take UTC for granted, and no zone

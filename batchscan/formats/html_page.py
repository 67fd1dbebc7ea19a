"""HTML: one file that a person opens. It needs no network and no script, and holds a bounded number of rows.

All counts are those of the whole report. Of the findings, the worst ``FINDINGS_LIMIT`` are held and
shown, and the page tells how many it left out. Links to the service's own reports are left out: whoever
has one can read the report, and a page is passed on.
"""

import shlex
from collections import Counter
from datetime import datetime
from typing import Any, BinaryIO, Final

from batchscan import __version__
from batchscan.formats import page_charts
from batchscan.formats.entry import Context, Entry
from batchscan.formats.page_changes import key_of, new_keys, show_changes
from batchscan.formats.page_headline import make_headline, missing_by_code
from batchscan.formats.page_rows import (
    JUDGE,
    SOURCE,
    Example,
    FindingShown,
    show_dues,
    show_example,
    show_finding,
)
from batchscan.models import RiskLevel
from batchscan.pages.judges import Judge, judge_of
from batchscan.pages.rendering import asset, content_policy, environment, middle_cut, minute, plural
from batchscan.report.survey import SEVERITY
from batchscan.report.tally import OTHER_CODES
from batchscan.report.text import duration, printable

FINDINGS_LIMIT: Final = 2000
"""Findings on a page; see docs/reports.md for what that costs a browser."""

_EXAMPLES: Final = 5  # inputs named for each error code
_NAMED: Final = 20  # sources, endpoints, engines that are named


class _HtmlPage:
    def __init__(self, out: BinaryIO, context: Context) -> None:
        self._out = out
        self._context = context
        self._cut = context.survey.worst_first(FINDINGS_LIMIT)
        self._new = new_keys(context)
        self._common = _common(context)
        self._findings: list[FindingShown] = []
        self._examples: dict[str, list[Example]] = {code: [] for code in context.survey.tally.errors}

    def add(self, entry: Entry) -> None:
        row = entry.row
        if row.error is not None:
            code = row.error.code if row.error.code in self._examples else OTHER_CODES
            held = self._examples.setdefault(code, [])
            if len(held) < _EXAMPLES:
                held.append(show_example(row))
        if row.verdict is not None and self._cut.take(row):
            new = self._new is not None and key_of(row) in self._new
            self._findings.append(show_finding(entry, row.verdict, new=new, without=self._common))

    def finish(self) -> None:
        self._findings.sort(key=FindingShown.order)
        page = environment().get_template("report.html")
        for text in page.generate(self._content()):
            self._out.write(text.encode())

    def _content(self) -> dict[str, Any]:
        styles, script = asset("style.css"), asset("table.js")
        survey = self._context.survey
        changes = None if self._context.run is None else self._context.run.changes
        return {
            "styles": styles,
            "script": script,
            "policy": content_policy(styles, script),
            "version": __version__,
            "headline": make_headline(self._context),
            "judges": _judges(self._context),
            "engines": [str(engine) for engine in sorted(survey.tally.engine_versions)[-_NAMED:]],
            "figures": page_charts.figures(self._context),
            "bar": page_charts.verdict_bar(self._context),
            "missing": [
                (missing, self._examples.get(missing.code, [])) for missing in missing_by_code(self._context)
            ],
            "scores": page_charts.scores(self._context),
            "rules": page_charts.rules(self._context),
            "rules_left": max(0, len(survey.rules) - page_charts.RULES_SHOWN),
            "outcomes": page_charts.outcomes(self._context),
            "trend": page_charts.trend(self._context),
            "changes": None if changes is None else show_changes(changes),
            "dues": show_dues(self._context.audit),
            "any_new": any(finding.new for finding in self._findings),
            "findings": self._findings,
            "found": survey.findings(),
            "accepted": survey.suppressed.total(),
            "left_out": self._left_out(),
            "rest": f"batchscan report {_report_name(self._context)} --format csv -o findings.csv",
            "facts": [(label, text) for label, text in _facts(self._context) if text],
            "when": minute(
                self._context.made_at if self._context.run is None else self._context.run.started_at
            ),
            "run_id": _run_id(self._context),
            "name": middle_cut(self._context.name, 120),
        }

    def _left_out(self) -> str:
        """Say in words which findings are beyond the limit; empty where none is."""
        shown = Counter(finding.verdict for finding in self._findings)
        found = self._context.survey.tally.verdicts
        left = [(level, found[level] - shown[level]) for level in SEVERITY if level is not RiskLevel.BENIGN]
        return " and ".join(f"{number:,} {level}" for level, number in left if number)


def open_writer(out: BinaryIO, context: Context) -> _HtmlPage:
    """Begin a page."""
    return _HtmlPage(out, context)


def _common(context: Context) -> frozenset[str]:
    """Name the details that are the same in every row; the page says them once."""
    survey = context.survey
    one_judge = len(survey.endpoints) == 1 and len(survey.tally.engine_versions) == 1
    one_source = len(survey.sources) == 1
    return frozenset(name for name, alike in ((JUDGE, one_judge), (SOURCE, one_source)) if alike)


def _judges(context: Context) -> list[Judge]:
    summary = None if context.run is None else context.run.summary
    endpoints = list(context.survey.endpoints) or ([summary.endpoint] if summary else [])
    return [judge_of(endpoint) for endpoint in endpoints[:_NAMED]]


def _facts(context: Context) -> list[tuple[str, str | None]]:
    run, survey = context.run, context.survey
    summary, ended = (None, None) if run is None else (run.summary, run.finished_at)
    sources = [middle_cut(source, 240) for source in list(survey.sources)[:_NAMED]]
    more = len(survey.sources) - len(sources)
    return [
        ("run", _run_id(context) or "none"),
        ("report", middle_cut(context.name, 240)),
        ("state", context.state or "not known to this ledger"),
        ("sources", ", ".join(sources) + (f" and {more:,} more" if more else "")),
        ("started", None if run is None else minute(run.started_at)),
        ("ended", None if ended is None else minute(ended)),
        ("working time", None if summary is None else duration(summary.elapsed_s)),
        ("billed", None if summary is None else plural(summary.billed_files, "file")),
        ("exit code", None if ended is None or summary is None else str(summary.exit_code)),
        (
            "verdicts from",
            None if survey.scanned is None else " to ".join(dict.fromkeys(map(_minute, survey.scanned))),
        ),
        ("page made", minute(context.made_at)),
    ]


def _run_id(context: Context) -> str | None:
    if context.run is not None:
        return context.run.run_id
    ids = list(context.survey.run_ids)
    return middle_cut(ids[0], 120) if len(ids) == 1 else None


def _report_name(context: Context) -> str:
    known = context.name if context.run is None else context.run.run_id
    return shlex.quote(printable(known))


def _minute(text: str) -> str:
    """Shorten a time of a row; what is none stays as it is."""
    try:
        return minute(datetime.fromisoformat(text))
    except ValueError:
        return middle_cut(text, 60)

"""Markdown: a comment for a pull request or a chat. What is missing first, then the worst findings.

Whatever comes from outside stands in a code span, printable and without a character that could end the span:
in there no renderer sees markup, a link, a mention or a reference. Nothing from outside begins a line or
stands in a table, where a ``|`` would count.
"""

from bisect import insort
from collections.abc import Iterator
from typing import BinaryIO, Final

from batchscan.formats.entry import Context, Entry
from batchscan.models import Outcome, RiskLevel, Row
from batchscan.report.survey import SEVERITY
from batchscan.report.text import code_span
from batchscan.suppressions import Suppression

FINDINGS_LIMIT: Final = 20
"""Findings that are shown, each content once; the others are counted."""

SIZE_LIMIT: Final = 65_000
"""Bytes of a document; a comment on GitHub ends at 65,536 characters."""

_CODES_LIMIT: Final = 8
_NAME_LIMIT: Final = 160
_TEXT_LIMIT: Final = 100
_NO_VERDICT: Final = (Outcome.PENDING, Outcome.FAILED, Outcome.REJECTED)
_ENDED: Final = frozenset({None, "complete"})

Order = tuple[bool, int, bool, int, str]


class _Comment:
    def __init__(self, out: BinaryIO, context: Context) -> None:
        self._out = out
        self._context = context
        self._worst: list[tuple[Order, Entry]] = []
        self._contents: set[tuple[str | None, bool]] = set()

    def add(self, entry: Entry) -> None:
        row = entry.row
        if row.verdict is None or row.verdict is RiskLevel.BENIGN:
            return
        order = _order(row, row.verdict, suppressed=entry.suppression is not None)
        content = _content(entry)
        if content in self._contents or (len(self._worst) == FINDINGS_LIMIT and order >= self._worst[-1][0]):
            return
        insort(self._worst, (order, entry), key=lambda ranked: ranked[0])
        self._contents.add(content)
        for _, dropped in self._worst[FINDINGS_LIMIT:]:
            self._contents.discard(_content(dropped))
        del self._worst[FINDINGS_LIMIT:]

    def finish(self) -> None:
        """Write it all: only now the worst findings are known."""
        lines = [*self._head(), *self._findings(), *self._foot()]
        document = ("\n".join(lines) + "\n").encode()
        if len(document) > SIZE_LIMIT:
            raise AssertionError  # every part of it is bounded
        self._out.write(document)

    def _head(self) -> Iterator[str]:
        survey, state = self._context.survey, self._context.state
        tally = survey.tally
        missing, ended = survey.missing(), state in _ENDED
        counts = ", ".join(f"{tally.verdicts[level]:,} {level}" for level in SEVERITY)
        whole = "" if ended and not missing and not self._context.gaps.any else "incomplete: "
        yield f"### batchscan: {whole}{counts}, {missing:,} without a verdict"
        yield ""
        if not ended:
            yield f"**The run has not ended** (it is {state}): inputs may have no row here."
            yield ""
        gaps = self._context.gaps.told()
        if gaps:
            yield f"**Not everything has a row:** {' and '.join(gaps)}."
            yield ""
        if missing:
            outcomes = ", ".join(f"{tally.outcomes[o]:,} {o}" for o in _NO_VERDICT if tally.outcomes[o])
            yield (
                f"**{missing:,} of {tally.inputs:,} inputs have no verdict** ({outcomes}): not looked at is"
                f" not harmless. {self._codes()}"
            )
        elif tally.inputs:
            yield f"Every one of {tally.inputs:,} inputs in the report has a verdict."
        else:
            yield "**The report has no input:** nothing was judged."
        yield ""
        suppressed = survey.suppressed.total()
        if suppressed:
            yield f"Suppressed findings, counted above all the same: {suppressed:,}."
            yield ""
        audit = self._context.audit
        if audit is not None and audit.told():
            yield audit.told()
            yield ""

    def _codes(self) -> str:
        counted = self._context.survey.tally.errors.most_common()
        shown = ", ".join(
            f"{code_span(code, _TEXT_LIMIT)} {count:,}" for code, count in counted[:_CODES_LIMIT]
        )
        rest = len(counted) - _CODES_LIMIT
        return f"Reasons: {shown}" + (f", and {rest} more." if rest > 0 else ".")

    def _findings(self) -> Iterator[str]:
        if not self._worst:
            return
        yield "Worst first:"
        yield ""
        for _, entry in self._worst:
            yield _finding(entry)
        yield ""
        left = self._context.survey.findings() - len(self._worst)
        if left:
            yield f"Not shown: {left:,} more findings, duplicates among them. The report has them all."
            yield ""

    def _foot(self) -> Iterator[str]:
        context = self._context
        runs = _some(context.survey.run_ids)
        judges = _some(context.survey.endpoints)
        known = "" if context.state is not None else "; whether its run has ended is not known here"
        yield (
            f"Report {code_span(context.name, _NAME_LIMIT)} of run {runs}, judged by {judges}{known}."
            f" Written {context.made_at:%Y-%m-%d %H:%M} UTC."
        )


def open_writer(out: BinaryIO, context: Context) -> _Comment:
    """Begin a comment."""
    return _Comment(out, context)


def _order(row: Row, level: RiskLevel, *, suppressed: bool) -> Order:
    return (suppressed, SEVERITY.index(level), row.score is None, row.score or 0, row.path)


def _content(entry: Entry) -> tuple[str | None, bool]:
    return entry.row.sha256, entry.suppression is not None


def _finding(entry: Entry) -> str:
    row = entry.row
    score = "no score" if row.score is None else f"score {row.score}"
    rule = next((rule.name for rule in row.rules if rule.id == row.primary_rule), None)
    named = ", ".join(code_span(part, _TEXT_LIMIT) for part in (row.primary_rule, rule) if part)
    parts = [f"- **{row.verdict}**, {score}: {code_span(row.path, _NAME_LIMIT)}"]
    parts += [f"rule {named}"] if named else []
    parts += [_suppression(entry.suppression)] if entry.suppression is not None else []
    return ", ".join(parts)


def _suppression(suppression: Suppression) -> str:
    until, by, why = (
        code_span(text, _TEXT_LIMIT) for text in (suppression.expires, suppression.owner, suppression.reason)
    )
    return f"suppressed until {until} by {by}: {why}"


def _some(names: dict[str, None]) -> str:
    shown = list(names)[:3]
    text = ", ".join(code_span(name, _TEXT_LIMIT) for name in shown) or "(none)"
    return text + (f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else "")

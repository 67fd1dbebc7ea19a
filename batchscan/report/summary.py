"""The end of a run in one record, and as a person reads it.

Nothing is green while a verdict is missing: a run that could not tell must not look like one that found
nothing.
"""

from typing import Any, Final

import msgspec
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from batchscan.models import SUMMARY_SCHEMA, Outcome, Problem, RiskLevel, RunState
from batchscan.report.gate import GateUse, gate_lines
from batchscan.report.rows import load_schema
from batchscan.report.spending import BudgetUse, Rescan, spending_lines
from batchscan.report.tally import Finding
from batchscan.report.text import displayable, duration, printable_json

UNREAD: Final = "unreadable-directory"
"""The one reason to skip that may hide inputs."""

_PIPE_WIDTH = 10_000  # wide enough for any path, so that nothing is folded
_NARROW_WIDTH = 60  # below, paths get lines of their own
_STYLES = {RiskLevel.MALICIOUS: "bold red", RiskLevel.SUSPICIOUS: "yellow", RiskLevel.BENIGN: ""}
_RESUMABLE = frozenset({RunState.RUNNING, RunState.INTERRUPTED, RunState.INCOMPLETE})


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run, ``batchscan.summary/1``. The order of the fields is the order of the keys.

    Attributes:
        state: where the run stands.
        exit_code: what the process ends with.
        report: path of the JSONL report, None when none was written.
        endpoint: who judged.
        engine_versions: the engines whose verdicts stand in the report, ascending.
        counts: rows by outcome; outcomes that are left out are filled in as 0.
        verdicts: rows with a verdict by level, filled in likewise.
        billed_files: files inside the ZIPs that this run had scanned.
        requests: API calls by action.
        throttled: calls refused with a rate limit.
        retries: calls made again after a failure.
        elapsed_s: wall time of this process on the run, seconds.
        error: what ended or hindered the whole run.
        inputs: inputs discovered.
        skipped: things in a source that are no inputs, by reason.
        worst: the worst findings, worst first.
        new_engine_versions: engines that the service had not named before, in the order it named them.
        budget: how far it was used; None without one.
        rescan: how verdicts changed; None in a scan.
        gate: which findings counted for the exit code; None without a gate.
    """

    schema: str = SUMMARY_SCHEMA
    run_id: str
    state: RunState
    exit_code: int
    report: str | None
    endpoint: str
    engine_versions: list[int]
    counts: dict[Outcome, int]
    verdicts: dict[RiskLevel, int]
    billed_files: int
    requests: dict[str, int]
    throttled: int
    retries: int
    elapsed_s: float
    error: Problem | None = None
    inputs: int
    skipped: dict[str, int]
    worst: tuple[Finding, ...] = ()
    new_engine_versions: tuple[int, ...] = ()
    budget: BudgetUse | None = None
    rescan: Rescan | None = None
    gate: GateUse | None = None

    def __post_init__(self) -> None:
        """Give every outcome and every level a number, in the order of their definition."""
        counts = {outcome: self.counts.get(outcome, 0) for outcome in Outcome}
        verdicts = {level: self.verdicts.get(level, 0) for level in RiskLevel}
        msgspec.structs.force_setattr(self, "counts", counts)
        msgspec.structs.force_setattr(self, "verdicts", verdicts)


def encode_summary(summary: Summary) -> bytes:
    """Encode as one JSON object on one line."""
    return printable_json(msgspec.json.encode(summary)) + b"\n"


def decode_summary(document: str) -> Summary:
    """Read what ``encode_summary`` wrote, also that of an earlier version.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return msgspec.json.decode(document, type=Summary)


def summary_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a summary, as shipped in the package."""
    return load_schema("summary.schema.json")


def render(summary: Summary, console: Console) -> None:
    """Print the summary for a person.

    In a pipe nothing is folded or cut; on a terminal long paths are folded. What a file name could do
    to the terminal is escaped.
    """
    _Page(summary, console).render()


class _Page:
    """One rendering; knows the console's width and encoding."""

    def __init__(self, summary: Summary, console: Console) -> None:
        self._summary = summary
        self._console = console
        self._piped = not console.is_terminal
        self._narrow = not self._piped and console.width < _NARROW_WIDTH

    def render(self) -> None:
        summary = self._summary
        engines = ", ".join(str(version) for version in summary.engine_versions)
        self._line(f"run {summary.run_id} {summary.state}: {summary.inputs:,} inputs", "bold")
        self._line(f"endpoint {summary.endpoint}" + (f", engine {engines}" if engines else ""))
        self._line()
        self._print(self._counts())
        self._line()
        if summary.worst:
            self._findings()
            self._line()
        self._facts()
        self._line(*conclusion(summary))

    def _counts(self) -> Table:
        table = self._table("outcome", "inputs", "verdict", "inputs")
        outcomes, levels = list(self._summary.counts.items()), list(self._summary.verdicts.items())
        for i, (outcome, count) in enumerate(outcomes):
            level, found = levels[i] if i < len(levels) else ("", None)
            style = _STYLES.get(RiskLevel(level), "") if found else ""
            table.add_row(
                self._cell(outcome),
                self._cell(f"{count:,}"),
                self._cell(level, style),
                self._cell("" if found is None else f"{found:,}", style),
            )
        return table

    def _findings(self) -> None:
        table = (
            self._table("worst", "score", "rule")
            if self._narrow
            else self._table("worst", "score", "path", "rule")
        )
        for finding in self._summary.worst:
            rule = " ".join(part for part in (finding.primary_rule, finding.rule_name) if part)
            verdict = self._cell(finding.verdict, _STYLES[finding.verdict])
            score = self._cell("-" if finding.score is None else str(finding.score))
            path = [] if self._narrow else [self._cell(finding.path)]
            table.add_row(verdict, score, *path, self._cell(rule or "-"))
        self._print(table)
        if self._narrow:
            for finding in self._summary.worst:
                self._line(finding.path)

    def _facts(self) -> None:
        summary = self._summary
        calls = ", ".join(
            f"{action} {count:,}" for action, count in sorted(summary.requests.items()) if count
        )
        extra = [f"{summary.throttled:,} throttled"] if summary.throttled else []
        extra += [f"{summary.retries:,} retried"] if summary.retries else []
        total = f"{sum(summary.requests.values()):,}"
        detail = "; ".join(part for part in (calls, ", ".join(extra)) if part)
        self._line(f"billed files: {summary.billed_files:,}")
        for line in spending_lines(summary.budget, summary.rescan, summary.new_engine_versions):
            self._line(line)
        for line in gate_lines(summary.gate):
            self._line(line)
        self._line(f"API calls: {total}" + (f" ({detail})" if detail else ""))
        if summary.skipped:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(summary.skipped.items()))
            self._line(f"skipped, no inputs: {reasons}")
        self._line(f"elapsed: {duration(summary.elapsed_s)}")
        self._line("report: " + (summary.report if summary.report is not None else "none was written"))
        if summary.error is not None:
            self._line(f"error: {summary.error.code}: {summary.error.message}", "bold red")

    def _table(self, *headings: str) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for heading in headings:
            folds = heading in {"path", "rule"}
            justify: JustifyMethod = "right" if heading in {"inputs", "score"} else "left"
            table.add_column(heading, justify=justify, no_wrap=not folds, overflow="fold")
        return table

    def _cell(self, text: str, style: str = "") -> Text:
        return Text(displayable(text, self._console.encoding), style=style)

    def _line(self, text: str = "", style: str = "") -> None:
        self._print(self._cell(text, style))

    def _print(self, renderable: RenderableType) -> None:
        shown = _Unfolded(renderable) if self._piped else renderable
        self._console.print(shown, crop=False, overflow="fold", highlight=False)


class _Unfolded:
    """Renders as wide as it gets: a pipe has no width."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._renderable, options.update(max_width=_PIPE_WIDTH))


def conclusion(summary: Summary) -> tuple[str, str]:
    """Say in a sentence what the run came to and what to do next, and the style to say it in."""
    counts = summary.counts
    resume = f"`batchscan resume {summary.run_id}`"
    rowless = max(0, summary.inputs - sum(counts.values()))
    missing = [
        f"{count:,} {what}"
        for count, what in (
            (counts[Outcome.PENDING], "pending"),
            (counts[Outcome.FAILED], "failed"),
            (counts[Outcome.REJECTED], "rejected"),
            (rowless, "without a row yet"),
        )
        if count
    ]
    if summary.state in _RESUMABLE or rowless:
        what = f"inputs have no verdict ({', '.join(missing)})" if missing else "the run has not ended"
        return f"Incomplete: {what}. Go on with {resume}.", "bold red"
    if missing:
        what = ", ".join(missing)
        return (
            f"Inputs without a verdict: {what}. The report's `error` says why for each; fix and scan again.",
            "red",
        )
    if summary.inputs == 0:
        return (
            "No input was found, so nothing was judged. Check the sources and the include patterns.",
            "yellow",
        )
    unread = summary.skipped.get(UNREAD, 0)
    hidden = f" {unread:,} directories could not be read; see the log." if unread else ""
    found = {level: n for level, n in summary.verdicts.items() if n and level is not RiskLevel.BENIGN}
    if found:
        what = " and ".join(f"{count:,} {level}" for level, count in found.items())
        style = "bold red" if RiskLevel.MALICIOUS in found else "yellow"
        return f"Every input has a verdict; {what}. Look at those in the report.{hidden}", style
    if unread:
        return f"Every input has a verdict, but{hidden}", "yellow"
    style = "" if summary.exit_code or summary.error else "green"
    return "Every input has a verdict, and nothing was found.", style

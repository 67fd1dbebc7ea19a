"""A comparison as a person reads it on a terminal: what weakens it, the counts, the worst, the conclusion."""

from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchscan.changes import Change, Comparison, Item
from batchscan.compare import Compared
from batchscan.comparison_output import conclusion, notes_of, side_line, verdicts_of
from batchscan.models import RiskLevel
from batchscan.report.text import displayable

_PIPE_WIDTH = 10_000  # wide enough for any path, so that nothing is folded
_MEANINGS = {
    Change.NEW: "a finding that was not there before",
    Change.CHANGED_VERDICT: "a finding then and now, of another level",
    Change.CHANGED_RULES: "the same verdict by other rules",
    Change.UNKNOWN: "no verdict on one side, or not in a report that may lack rows",
    Change.FIXED: "a finding before, benign now",
    Change.GONE: "not there any more",
    Change.STILL_THERE: "a finding as before",
    Change.ADDED: "not there before, and benign",
    Change.UNCHANGED: "benign as before",
}
_STYLES = {RiskLevel.MALICIOUS: "bold red", RiskLevel.SUSPICIOUS: "yellow"}


def render(compared: Compared, console: Console, limit: int) -> None:
    """Print a comparison, with at most ``limit`` items; in a pipe nothing is folded or cut."""
    _Page(compared, console).render(limit)


class _Page:
    def __init__(self, compared: Compared, console: Console) -> None:
        self._compared = compared
        self._comparison: Comparison = compared.comparison
        self._console = console
        if not console.is_terminal:
            console.width = _PIPE_WIDTH

    def render(self, limit: int) -> None:
        comparison = self._comparison
        for when, facts in (("before", comparison.before), ("after ", comparison.after)):
            self._line(f"{when}  {facts.name}: {side_line(facts)}", "" if facts.whole else "bold red")
        for warning in comparison.warnings:
            self._line(f"careful: {warning}", "yellow")
        self._line()
        self._print(self._counts())
        self._line()
        items = list(islice(self._compared.notable(), limit))
        if items:
            self._items(items)
            self._line()
        left = comparison.notable - len(items)
        if left:
            self._line(f"not shown: {left:,} more; --limit shows more of them, --json all", "yellow")
        self._line(*conclusion(comparison))

    def _counts(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("change", no_wrap=True)
        table.add_column("inputs", no_wrap=True, justify="right")
        table.add_column("meaning", overflow="fold")
        for change, count in self._comparison.counts.items():
            style = "bold red" if count and change in {Change.NEW, Change.UNKNOWN} else ""
            extra = self._extra(change)
            meaning = _MEANINGS[change] + (f" ({extra})" if extra else "")
            table.add_row(self._cell(change, style), self._cell(f"{count:,}", style), self._cell(meaning))
        return table

    def _extra(self, change: Change) -> str:
        comparison = self._comparison
        parts = {
            Change.CHANGED_VERDICT: ((comparison.worse, "worse"), (comparison.milder, "milder")),
            Change.UNKNOWN: ((comparison.undecided, "without a verdict now"),),
            Change.GONE: ((comparison.gone_findings, "findings"),),
        }.get(change, ())
        return ", ".join(f"{count:,} {what}" for count, what in parts if count)

    def _items(self, items: list[Item]) -> None:
        """Print a line for each, and on a terminal another one for what is noted of it."""
        shown = [(item.change, verdicts_of(item), _score(item)) for item in items]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        apart = "\n    " if self._console.is_terminal else "  "
        for item, (change, verdict, score) in zip(items, shown, strict=True):
            seen = item.seen
            style = _STYLES.get(seen.verdict, "") if item.fresh and seen.verdict else ""
            line = Text()
            line.append(f"{change:<{widths[0]}}  {verdict:<{widths[1]}}  ", style)
            line.append(f"{score:>{widths[2]}}  ").append(self._cell(seen.path))
            rule = " ".join(part for part in (seen.primary_rule, seen.rule_name) if part)
            notes = [rule, *(f"{words} {name}".strip() for words, name in notes_of(item))]
            note = self._cell("; ".join(filter(None, notes)), "dim")
            self._print(line.append(apart).append(note) if note else line)

    def _cell(self, text: str, style: str = "") -> Text:
        return Text(displayable(text, self._console.encoding), style=style)

    def _line(self, text: str = "", style: str = "") -> None:
        self._print(self._cell(text, style))

    def _print(self, renderable: Text | Table) -> None:
        self._console.print(renderable, crop=False, overflow="fold", highlight=False)


def _score(item: Item) -> str:
    return "-" if item.seen.score is None else str(item.seen.score)

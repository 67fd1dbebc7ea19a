"""A comparison for programs (one JSON document) and for a comment (Markdown); the table is beside this.

Both are written as the items are read; none is held.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO, Final

import msgspec

from batchscan.changes import Change, Comparison, Content, Item, Place, Seen, SideFacts
from batchscan.compare import Compared
from batchscan.models import RiskLevel
from batchscan.report.rows import load_schema
from batchscan.report.text import code_span, printable_json

_NAME_LIMIT: Final = 160
_TEXT_LIMIT: Final = 100
_RULES_LIMIT: Final = 5


def comparison_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a comparison, as shipped in the package."""
    return load_schema("comparison.schema.json")


def write_json(out: BinaryIO, compared: Compared, exit_code: int) -> None:
    """Write one JSON object on one line, with all items that are not counted only."""
    facts = msgspec.structs.asdict(compared.comparison)
    del facts["worst"]
    head = msgspec.json.encode(facts | {"exit_code": exit_code})
    out.write(printable_json(head[:-1]) + b',"items":[')
    items = (printable_json(msgspec.json.encode(item)) for item in compared.items())
    out.write(next(items, b""))
    out.writelines(b"," + item for item in items)
    out.write(b"]}\n")


def write_markdown(out: BinaryIO, compared: Compared, limit: int) -> None:
    """Write a comment: what is missing first, then at most ``limit`` of the worst items.

    What comes from outside stands in code spans, as in the Markdown of a report.
    """
    out.write(("\n".join(_comment(compared, limit)) + "\n").encode())


def conclusion(comparison: Comparison) -> tuple[str, str]:
    """Say in a sentence what it comes to, and the style to say it in; green when all is known and well."""
    fresh = " and ".join(f"{n:,} {level}" for level, n in comparison.fresh.items() if n)
    over = comparison.fresh_over_finding
    fresh += f" ({over:,} in the place of another finding)" if over else ""
    found = f"{fresh} that the older report does not have" if fresh else "nothing that is newly bad"
    if comparison.incomplete:
        what = f"{comparison.counts[Change.UNKNOWN]:,} inputs are unknown"
        return f"Incomplete: {what}, so this is not all there is. Among what is known: {found}.", "bold red"
    if fresh:
        return f"Found: {found}.", "bold red" if comparison.fresh[RiskLevel.MALICIOUS] else "yellow"
    counts = comparison.counts
    left = counts[Change.STILL_THERE] + counts[Change.CHANGED_RULES] + counts[Change.CHANGED_VERDICT]
    if left:
        return f"Nothing is newly bad; {left:,} findings of before are still there.", ""
    return "Nothing is newly bad, and no finding is left.", "" if comparison.warnings else "green"


def verdicts_of(item: Item) -> str:
    """Say what the verdict was and is: ``suspicious -> malicious``, ``malicious``, ``malicious -> gone``."""
    before, after = _verdict(item.before), _verdict(item.after)
    if item.after is None:
        return f"{before} -> {'not in the report' if item.change is Change.UNKNOWN else 'gone'}"
    if item.before is None or before == after:
        return after
    return f"{before} -> {after}"


def notes_of(item: Item) -> Iterator[tuple[str, str]]:
    """Say what else there is to an item, as words and a name from outside, either may be empty."""
    before, after = item.before, item.after
    if item.place is Place.MOVED and before is not None:
        yield "moved from", before.path
    elif item.place is Place.COPY_ADDED and before is not None:
        yield "a copy of", before.path
    elif item.place is Place.COPY_REMOVED and after is not None:
        yield "removed; the same content is still at", after.path
    if item.content is Content.CHANGED:
        yield "content changed", ""
    for when, seen in (("then", before), ("now", after)):
        if seen is not None and seen.verdict is None:
            yield f"{seen.outcome} {when}:", seen.error_code or "no reason given"
    if item.change is Change.UNKNOWN and before is None:
        yield "not in the older report, which may lack rows", ""
    for words, rules in (("rules added", item.rules_added), ("rules gone", item.rules_removed)):
        if rules and item.before and item.after and item.change not in {Change.NEW, Change.FIXED}:
            more = f" and {len(rules) - _RULES_LIMIT} more" if len(rules) > _RULES_LIMIT else ""
            yield words, ", ".join(rules[:_RULES_LIMIT]) + more


def side_line(facts: SideFacts) -> str:
    """Say what one side is, without its name."""
    engines = f", engine {', '.join(map(str, facts.engine_versions))}" if facts.engine_versions else ""
    judges = f", {', '.join(facts.endpoints)}" if facts.endpoints else ""
    missing = f", {facts.missing:,} without a verdict" if facts.missing else ""
    lacks = "" if facts.whole else ", and it may LACK ROWS"
    return f"{facts.inputs:,} inputs{judges}{engines}{missing}{lacks}"


def _verdict(seen: Seen | None) -> str:
    if seen is None:
        return "-"
    return seen.verdict if seen.verdict is not None else "no verdict"


def _comment(compared: Compared, limit: int) -> Iterator[str]:
    comparison = compared.comparison
    counts = ", ".join(f"{n:,} {change}" for change, n in comparison.counts.items() if n)
    yield f"### batchscan compare: {'incomplete, ' if comparison.incomplete else ''}{_fresh(comparison)}"
    yield ""
    yield f"**{conclusion(comparison)[0]}**"
    yield ""
    for warning in comparison.warnings:
        yield f"- Careful: {code_span(warning, 2 * _NAME_LIMIT)}"
    yield from [""] if comparison.warnings else []
    items = list(islice(compared.notable(), limit))
    for item in items:
        yield _bullet(item)
    yield from [""] if items else []
    left = comparison.notable - len(items)
    if left:
        yield f"Not shown: {left:,} more. `batchscan compare --json` has them all."
        yield ""
    yield f"Inputs: {counts or 'none'}."
    for when, facts in (("Before", comparison.before), ("After", comparison.after)):
        yield f"{when}: {code_span(facts.name, _NAME_LIMIT)}, {code_span(side_line(facts), 2 * _NAME_LIMIT)}."


def _fresh(comparison: Comparison) -> str:
    return ", ".join(f"{n:,} newly {level}" for level, n in comparison.fresh.items())


def _bullet(item: Item) -> str:
    score = "" if item.seen.score is None else f", score {item.seen.score}"
    rule = item.seen.rule_name or item.seen.primary_rule
    parts = [f"- **{item.change}**, {verdicts_of(item)}{score}: {code_span(item.seen.path, _NAME_LIMIT)}"]
    parts += [f"rule {code_span(rule, _TEXT_LIMIT)}"] if rule else []
    parts += [f"{words} {code_span(name, _TEXT_LIMIT)}" if name else words for words, name in notes_of(item)]
    return ", ".join(parts)

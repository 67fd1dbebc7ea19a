r"""CSV (RFC 4180) for spreadsheets: one line a row, and no cell that a spreadsheet would run or lose.

Every text is quoted and printable (a line break is ``\n``), so that a line is a row. An apostrophe stands
before what begins like a formula, at the beginning of a text and after each ``;`` in it: where that is the
separator of the reader's country, a spreadsheet begins a cell there, whatever is quoted.
"""

import re
from typing import BinaryIO, Final

from batchscan.formats.entry import Context, Entry
from batchscan.models import Row
from batchscan.report.text import printable

COLUMNS: Final = (
    "path",
    "verdict",
    "score",
    "outcome",
    "primary_rule",
    "rules",
    "summary",
    "mitigation",
    "error_code",
    "error_message",
    "suppressed",
    "suppression_reason",
    "suppression_expires",
    "skill_name",
    "file_count",
    "size",
    "sha256",
    "duplicate_of",
    "notes",
    "source",
    "manifest_line",
    "endpoint",
    "engine_version",
    "submitted_at",
    "scanned_at",
    "expires_at",
    "run_id",
)

CELL_LIMIT: Final = 32_000
"""Characters of a cell. Spreadsheets end at 32,767 and let the rest spill into cells of its own."""

BYTE_ORDER_MARK: Final = "\ufeff".encode()
"""Without it, spreadsheets read the file in the code page of their country: no name would be right."""

_QUOTE: Final = '"'

# OWASP, "CSV Injection"; what it lists besides (tab, carriage return, line feed) is not there any more
_FORMULA: Final = re.compile(r'(^ *|;[ "]*)(?=[-=+@＝＋－＠﹦﹢﹣﹫])')
_BEGINNINGS: Final = frozenset(" -=+@＝＋－＠﹦﹢﹣﹫")


class _CsvTable:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._out.write(BYTE_ORDER_MARK + _line(COLUMNS))

    def add(self, entry: Entry) -> None:
        self._out.write(_line(_cells(entry.row, entry)))

    def finish(self) -> None:
        """Nothing follows the rows."""


def open_writer(out: BinaryIO, context: Context) -> _CsvTable:  # noqa: ARG001 - as all formats are opened
    """Begin the table."""
    return _CsvTable(out)


def _cells(row: Row, entry: Entry) -> tuple[object, ...]:
    suppression = entry.suppression
    return (
        row.path,
        row.verdict,
        row.score,
        row.outcome,
        row.primary_rule,
        " ".join(dict.fromkeys(rule.id for rule in row.rules)),
        row.summary,
        row.mitigation,
        None if row.error is None else row.error.code,
        None if row.error is None else row.error.message,
        "yes" if suppression else "",
        None if suppression is None else suppression.reason,
        None if suppression is None else suppression.expires,
        row.skill.name,
        row.skill.file_count,
        row.size,
        row.sha256,
        row.duplicate_of,
        " ".join(row.notes),
        row.source,
        row.manifest_line,
        row.endpoint,
        row.engine_version,
        row.submitted_at,
        row.scanned_at,
        row.expires_at,
        row.run_id,
    )


def _line(cells: tuple[object, ...]) -> bytes:
    return (",".join(map(_cell, cells)) + "\r\n").encode()


def _cell(cell: object) -> str:
    """Write a number as it is, nothing as nothing, and a text so that it stays that text."""
    if not isinstance(cell, str):
        return "" if cell is None else str(cell)
    text = printable(cell)
    if len(text) > CELL_LIMIT:
        text = f"{text[:CELL_LIMIT]}... (cut, {len(text):,} characters)"
    if ";" in text or text[:1] in _BEGINNINGS:  # few are, and the others need no search
        text = _FORMULA.sub(r"\1'", text)
    return f'"{text.replace(_QUOTE, _QUOTE * 2)}"'

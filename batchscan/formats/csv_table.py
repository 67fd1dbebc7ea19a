"""CSV (RFC 4180): one line a row, for spreadsheets. A cell that a spreadsheet would run is neutralised."""

import csv
import io
from typing import BinaryIO, Final

from batchscan.formats.entry import Context, Entry
from batchscan.models import Row
from batchscan.report.text import encodable

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

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # full-width ones count too


class _CsvTable:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._text = io.StringIO()
        self._csv = csv.writer(self._text)
        self._write(COLUMNS)

    def add(self, entry: Entry) -> None:
        self._write(_cells(entry.row, entry))

    def finish(self) -> None:
        """Nothing follows the rows."""

    def _write(self, cells: tuple[object, ...]) -> None:
        self._csv.writerow([_neutral(cell) for cell in cells])
        self._out.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


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


def _neutral(cell: object) -> object:
    """Make a text that a spreadsheet would take for a formula a plain text, by OWASP's rule."""
    if not isinstance(cell, str):
        return cell
    cell = encodable(cell)
    return "'" + cell if cell.startswith(_FORMULA) else cell

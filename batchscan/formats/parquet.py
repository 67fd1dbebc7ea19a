"""Parquet: typed columns for a warehouse, named and nested as ``batchscan.result/1`` is, and ``suppression``.

Row groups are written as they fill, so that memory does not grow with the report. ``id`` and ``metadata``
may be any JSON and are JSON texts. The service's report links, which open without a password, stay in the
report.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, BinaryIO, Final

import msgspec
import pyarrow as pa
from pyarrow import parquet

from batchscan.errors import ReportError, UsageError
from batchscan.formats.entry import Context, Entry
from batchscan.models import ROW_SCHEMA, Row
from batchscan.report.text import encodable

# Its own pool keeps some megabytes for each of a dozen threads, for tables that take kilobytes.
pa.set_memory_pool(pa.system_memory_pool())

GROUP_ROWS: Final = 8192
GROUP_CHARACTERS: Final = 8 << 20
"""A row group ends at whichever comes first: the rows, or the characters of its longer texts."""

_TIME: Final = pa.timestamp("ms", tz="UTC")
_TEXT: Final = pa.string()
_COUNT: Final = pa.int64()


def _struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct([pa.field(name, kind) for name, kind in fields.items()])


Column = tuple[pa.DataType, Callable[[Row], object]]

_COLUMNS: Final[dict[str, Column]] = {
    "run_id": (_TEXT, lambda row: row.run_id),
    "path": (_TEXT, lambda row: encodable(row.path)),
    "source": (_TEXT, lambda row: encodable(row.source)),
    "manifest_line": (_COUNT, lambda row: row.manifest_line),
    "id": (_TEXT, lambda row: _json(row.id)),
    "metadata": (_TEXT, lambda row: _json(row.metadata)),
    "size": (_COUNT, lambda row: row.size),
    "sha256": (_TEXT, lambda row: row.sha256),
    "outcome": (_TEXT, lambda row: row.outcome),
    "duplicate_of": (_TEXT, lambda row: row.duplicate_of),
    "verdict": (_TEXT, lambda row: row.verdict),
    "score": (pa.int16(), lambda row: row.score),
    "endpoint": (_TEXT, lambda row: row.endpoint),
    "engine_version": (_COUNT, lambda row: row.engine_version),
    "skill": (_struct(name=_TEXT, description=_TEXT, file_count=_COUNT), lambda row: _fields(row.skill)),
    "primary_rule": (_TEXT, lambda row: row.primary_rule),
    "rules": (
        pa.list_(_struct(id=_TEXT, name=_TEXT, engine=_TEXT, description=_TEXT)),
        lambda row: [_fields(rule) for rule in row.rules],
    ),
    "capabilities": (
        pa.list_(_struct(id=_TEXT, name=_TEXT)),
        lambda row: [_fields(capability) for capability in row.capabilities],
    ),
    "summary": (_TEXT, lambda row: row.summary),
    "mitigation": (_TEXT, lambda row: row.mitigation),
    "notes": (pa.list_(_TEXT), lambda row: row.notes),
    "error": (_struct(code=_TEXT, message=_TEXT, request_id=_TEXT), lambda row: _fields(row.error)),
    "attempts": (_COUNT, lambda row: row.attempts),
    "polls": (_COUNT, lambda row: row.polls),
    "submitted_at": (_TIME, lambda row: _time(row.submitted_at)),
    "scanned_at": (_TIME, lambda row: _time(row.scanned_at)),
    "expires_at": (_TIME, lambda row: _time(row.expires_at)),
}
_SUPPRESSION: Final = pa.field("suppression", _struct(reason=_TEXT, owner=_TEXT, expires=_TEXT))

SCHEMA: Final = pa.schema(
    [*(pa.field(name, kind) for name, (kind, _) in _COLUMNS.items()), _SUPPRESSION],
    metadata={"batchscan.schema": ROW_SCHEMA},
)


class _Sink:
    """Takes what is written between two calls of the table for lost.

    A writer that is given up writes the table's end all the same, when it is collected: half a table
    would look whole.
    """

    closed = False

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.taking = True

    def write(self, content: bytes) -> int:
        return self._out.write(content) if self.taking else len(content)

    def flush(self) -> None:
        """Whoever opened the file does."""


class _Table:
    def __init__(self, out: BinaryIO, context: Context) -> None:
        self._name = context.name
        self._sink = _Sink(out)
        self._writer = parquet.ParquetWriter(self._sink, SCHEMA, compression="zstd")
        self._sink.taking = False
        self._begin()

    def add(self, entry: Entry) -> None:
        row = entry.row
        try:
            for values, (_, value) in zip(self._values, _COLUMNS.values(), strict=True):
                values.append(value(row))
        except ValueError as error:
            raise self._untyped(str(error)) from error
        self._suppressions.append(_fields(entry.suppression))
        self._characters += len(row.summary or "") + len(row.mitigation or "") + len(row.path)
        self._characters += sum(len(rule.description) for rule in row.rules)
        if len(self._suppressions) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
            self._write()

    def finish(self) -> None:
        """Write the last rows and the footer."""
        if self._suppressions:
            self._write()
        self._sink.taking = True
        self._writer.close()

    def _begin(self) -> None:
        self._values: list[list[object]] = [[] for _ in _COLUMNS]
        self._suppressions: list[object] = []
        self._characters = 0

    def _write(self) -> None:
        arrays = [
            self._array(name, values, kind)
            for (name, (kind, _)), values in zip(_COLUMNS.items(), self._values, strict=True)
        ]
        arrays.append(pa.array(self._suppressions, _SUPPRESSION.type))
        self._sink.taking = True
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        self._sink.taking = False
        self._begin()

    def _array(self, name: str, values: list[object], kind: pa.DataType) -> pa.Array:
        try:
            return pa.array(values, kind)
        except (pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError) as error:
            raise self._untyped(f"{name}: {error}") from error

    def _untyped(self, why: str) -> ReportError:
        return ReportError(
            f"{self._name}: a value does not fit its column ({why}); batchscan wrote no such row"
        )


def open_writer(out: BinaryIO, context: Context) -> _Table:
    """Begin the table.

    Raises:
        UsageError: the output is a terminal.
    """
    if out.isatty():
        raise UsageError("--format parquet: is binary and not for a terminal; name an --output")
    return _Table(out, context)


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _fields(record: msgspec.Struct | None) -> dict[str, Any] | None:
    return None if record is None else msgspec.structs.asdict(record)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

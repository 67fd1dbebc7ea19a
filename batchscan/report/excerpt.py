"""An excerpt of a report: the rows that somebody asks for, a page at a time, however long the report is.

A page is read from where the one before ended, up to a limit of bytes, and tells how far it came: nothing is
held but its rows. Rows that cannot be meant are passed over by their bytes, without being parsed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from batchscan.errors import ReportError, UsageError
from batchscan.models import ROW_SCHEMA, RiskLevel, Row
from batchscan.report.lines import LineSplitter, decode_row, read_failure

ROWS: Final = 50
"""Rows on a page."""

MOST_BYTES: Final = 128 << 20
"""What is read for one page at most: a quarter of a second where rows are passed over, about one if not."""

NO_VERDICT: Final = "none"

_BLOCK: Final = 1 << 20


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows: those that are all of this.

    Attributes:
        verdicts: one of these, ``NO_VERDICT`` for rows without one; empty: any.
        rule: the id of a rule that hit.
        words: each is somewhere in path, name, hash, rules, summary, notes or error; in lower case.
    """

    verdicts: frozenset[str] = frozenset()
    rule: str | None = None
    words: tuple[str, ...] = ()


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """A page of rows.

    Attributes:
        rows: in the order of the report.
        after: where the next page begins, bytes; None at the report's end.
        looked_at: rows that were read for it.
        size: of the report, bytes.
    """

    rows: list[Row]
    after: int | None
    looked_at: int
    size: int


def read_excerpt(
    report: Path, run_id: str, wanted: Wanted, *, start: int = 0, most_bytes: int = MOST_BYTES
) -> Excerpt:
    """Read a page; blocks.

    Args:
        report: its path; it may still be growing.
        run_id: whose report it must be.
        wanted: which rows.
        start: the ``after`` of the page before.
        most_bytes: to read for it.

    Raises:
        UsageError: there is no such file, or no row begins at ``start``.
        ReportError: it is not the report of the run, or damaged.
    """
    try:
        with report.open("rb", buffering=0) as file:
            size = file.seek(0, 2)
            if start:
                file.seek(min(start, size) - 1)
                if start > size or file.read(1) != b"\n":
                    raise UsageError("the report has changed since that page; begin at the first one")
            else:
                file.seek(0)
            return _read(file.read, report, run_id, wanted, (start, size, most_bytes))
    except FileNotFoundError as error:
        raise UsageError(f"run {run_id} has no report: nothing was written yet, or it is gone") from error
    except OSError as error:
        raise read_failure(report, error) from error


def _read(
    read: Callable[[int], bytes], report: Path, run_id: str, wanted: Wanted, extent: tuple[int, int, int]
) -> Excerpt:
    start, size, most_bytes = extent
    splitter = LineSplitter(report)
    begins = msgspec.json.encode({"schema": ROW_SCHEMA, "run_id": run_id})[:-1]
    markers = _markers(wanted)
    place, looked_at, taken, rows = start, 0, 0, list[Row]()
    # at least one row, however long it is: each page is a step
    while (taken < most_bytes or place == start) and (block := read(_BLOCK)):
        taken += len(block)
        for line in splitter.feed(block):
            place += len(line) + 1
            looked_at += 1
            if not line.startswith(begins):
                raise ReportError(f"{report}: is not the report of run {run_id} any more")
            if markers and not any(marker in line for marker in markers):
                continue
            row = decode_row(line, report, looked_at)
            if _is_meant(row, wanted):
                rows.append(row)
                if len(rows) == ROWS:
                    return Excerpt(rows=rows, after=_next(place, size), looked_at=looked_at, size=size)
    # a line without its end is being written, or was cut off: it is no row yet
    ended = place + len(splitter.rest) >= size
    return Excerpt(rows=rows, after=None if ended else place, looked_at=looked_at, size=size)


def _next(place: int, size: int) -> int | None:
    return None if place >= size else place


def _markers(wanted: Wanted) -> list[bytes]:
    """One of these is in every row that is meant; the encoder writes no blanks. Empty: no telling."""
    if not wanted.verdicts:
        return []
    levels = [level for level in RiskLevel if level in wanted.verdicts]
    none = [b'"verdict":null'] if NO_VERDICT in wanted.verdicts else []
    return [f'"verdict":"{level}"'.encode() for level in levels] + none


def _is_meant(row: Row, wanted: Wanted) -> bool:
    verdict = NO_VERDICT if row.verdict is None else row.verdict
    if wanted.verdicts and verdict not in wanted.verdicts:
        return False
    if wanted.rule is not None and wanted.rule not in {row.primary_rule, *(rule.id for rule in row.rules)}:
        return False
    if not wanted.words:
        return True
    text = "\n".join(_texts(row)).lower()
    return all(word in text for word in wanted.words)


def _texts(row: Row) -> list[str]:
    texts = [row.path, row.skill.name, row.sha256, row.primary_rule, row.summary, *row.notes]
    for rule in row.rules:
        texts += [rule.id, rule.name, rule.description]
    if row.error is not None:
        texts += [row.error.code, row.error.message]
    return [text for text in texts if text]

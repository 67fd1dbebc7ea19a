"""The lines of a report, read in bounded memory. Rows are parsed here and nowhere else."""

import re
from collections.abc import Callable, Generator
from pathlib import Path

import msgspec

from batchscan.errors import ReportError, UsageError
from batchscan.models import ROW_SCHEMA, Outcome, Row
from batchscan.report.text import printable

BLOCK_BYTES = 1 << 20
"""How much of a file is read at a time."""

_LINE_LIMIT_BYTES = 64 << 20
_DIGEST_BYTES = 32

_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch
_decoder = msgspec.json.Decoder(Row)


class CutOffError(ReportError):
    """A report ends within a line: its run was killed, and it lacks rows."""


def read_rows(path: Path) -> Generator[Row, None, None]:
    """Yield the rows of a report, one after the other.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        CutOffError: the last line is cut off because its run was killed; the rows before it were yielded.
        ReportError: a line is not a row; the rows before it were yielded.
    """
    number = 0
    splitter = LineSplitter(path)
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); name the report of a run") from error
    with file:
        while block := _read(file.read, path):
            for line in splitter.feed(block):
                number += 1
                yield decode_row(line, path, number)
    if splitter.rest:
        raise CutOffError(
            f"{path}, line {number + 1}: is cut off; complete the report with `batchscan resume`"
        )


class LineSplitter:
    """Cuts blocks into lines; what has no line's end yet waits for the next block.

    Attributes:
        rest: the beginning of the next line.
    """

    def __init__(self, path: Path) -> None:
        self.rest = b""
        self._path = path
        self._number = 0

    def feed(self, block: bytes) -> list[bytes]:
        """Return the lines that ``block`` completes, without their ends.

        Raises:
            ReportError: a line is longer than 64 MiB.
        """
        *lines, self.rest = (self.rest + block).split(b"\n")
        self._number += len(lines)
        if len(self.rest) > _LINE_LIMIT_BYTES:
            raise ReportError(
                f"{self._path}, line {self._number + 1}: is longer than {_LINE_LIMIT_BYTES >> 20} MiB; "
                "this is not a report of batchscan"
            )
        return lines


def decode_row(line: bytes, path: Path, number: int) -> Row:
    """Parse one line.

    Raises:
        ReportError: it is not a row of a schema that is known here; names ``path`` and the line.
    """
    try:
        row = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReportError(
            f"{path}, line {number}: is not a row of a report ({error}); move the file away and run again: "
            "verdicts that were paid for are in the ledger"
        ) from error
    if row.schema != ROW_SCHEMA:
        raise ReportError(
            f"{path}, line {number}: is of schema {row.schema!r}, not {ROW_SCHEMA!r}; "
            "read it with the version of batchscan that wrote it"
        )
    if (row.verdict is not None) != (row.outcome is Outcome.SCANNED or row.outcome is Outcome.REUSED):
        raise ReportError(
            f"{path}, line {number}: is {row.outcome} and {'has a' if row.verdict else 'has no'} verdict;"
            " batchscan writes no such row"
        )
    if row.verdict is not None and row.error is not None:
        raise ReportError(
            f"{path}, line {number}: is {row.outcome} and has an error; batchscan writes no such row"
        )
    if row.sha256 is not None and not _DIGEST(row.sha256):
        raise ReportError(
            f"{path}, line {number}: has {printable(row.sha256)!r} for a SHA-256;"
            " batchscan writes no such row"
        )
    return row


def digest_of(row: Row) -> bytes | None:
    """Return the 32 bytes of a row's SHA-256; None where the content was not read.

    Raises:
        ReportError: it is none, so this is no report that batchscan wrote.
    """
    if row.sha256 is None:
        return None
    try:
        digest = bytes.fromhex(row.sha256)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise ReportError(
            f"the row of {printable(row.path)} has {printable(row.sha256)!r} for a SHA-256;"
            " this is not a report of batchscan"
        )
    return digest


def read_failure(path: Path, error: OSError) -> ReportError:
    """Say that a report could not be read."""
    return ReportError(f"{path}: the report could not be read ({error.strerror}); check the disk")


def _read(read: Callable[[int], bytes | None], path: Path) -> bytes | None:
    try:
        return read(BLOCK_BYTES)
    except OSError as error:
        raise read_failure(path, error) from error

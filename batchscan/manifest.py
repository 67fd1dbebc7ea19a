"""Read manifests: lists of inputs as plain lines, NUL-separated names, JSONL or CSV.

Rule: every line that is neither blank nor a comment becomes exactly one ``Candidate``; one that cannot
be understood has the problem ``bad-manifest-line``. Nothing read is longer than a line's limit, so a
file without line ends costs no memory.
"""

# pathlib cannot hold names that are not text; the paths here are raw bytes
# ruff: noqa: PTH109, PTH118, PTH120, PTH122

import csv
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
from msgspec.structs import replace

from batchscan.errors import UsageError
from batchscan.models import Candidate, Problem
from batchscan.walk import OUTSIDE, Filters, absolute, as_candidate, display_path, is_open_inside, look

MAX_LINE_BYTES = 1 << 20
"""A longer line (CSV: record) is a broken one."""
MAX_SHOWN_BYTES = 4096
"""What a row shows of a line; no path is longer (PATH_MAX)."""
MAX_DEPTH = 32
"""Nesting of ``id`` and ``metadata``: what is passed on can be written again."""

_BLOCK_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = f"longer than {MAX_LINE_BYTES} bytes"
_NOT_UTF8 = "not valid UTF-8"


class _Line(NamedTuple):
    number: int
    raw: bytes
    cut: bool


class _Record(NamedTuple):
    """One line understood, or the fault in it; ``raw`` is the path, or what stands there instead."""

    line: int
    raw: bytes
    fault: str | None = None
    id: Any = None
    metadata: Any = None


class _Fields(msgspec.Struct):
    path: str
    id: Any = None
    metadata: Any = None


class _BadLineError(Exception):
    """A line that the CSV reader must not see. Never leaves this module."""


_json: msgspec.json.Decoder[_Fields | str] = msgspec.json.Decoder(_Fields | str)


def check(name: str, content: Path, *, nul: bool, roots: Container[bytes] | None = None) -> None:
    """Find out before the run whether a manifest can be used.

    Raises:
        UsageError: it cannot be read, is not below the real directories ``roots``, or is a CSV whose header
            has not exactly one ``path`` column.
    """
    with _opened(name, content, roots) as file:
        if not nul and _suffix(name) == ".csv":
            _header(name, _Rows(_lines(file, lambda: None)))


def read(
    name: str, content: Path, *, nul: bool, filters: Filters, skipped: Counter[str], check: Callable[[], None]
) -> Iterator[Candidate]:
    """The inputs that a manifest lists.

    Args:
        name: the manifest as the operator wrote it, ``-`` for standard input. Its suffix gives the format
            and its directory is what relative paths start from (``-``: the working directory).
        content: where to read it.
        nul: names that end in a NUL byte, nothing else.
        filters: applied to the paths as they are written; the manifest, too, must be below its roots.
        skipped: counts what is no input, by reason.
        check: called for each line; raises to end the reading.

    Raises:
        UsageError: as in ``check``, or the file system failed in the middle.
    """
    source = display_path(os.fsencode(name))
    directory = os.getcwdb() if name == "-" else absolute(os.path.dirname(os.fsencode(name)) or b".")
    with _opened(name, content, filters.roots) as file:
        try:
            for record in _records(name, file, check, nul=nul):
                # no file has a longer path, and a pattern's cost grows with the square of its depth
                matched = record.fault is None and len(record.raw) <= MAX_SHOWN_BYTES
                if matched and not filters.wanted(record.raw):
                    skipped["filtered"] += 1
                else:
                    yield _candidate(source, directory, record)
        except OSError as error:
            raise UsageError(f"cannot read on in the manifest {source}: {error.strerror}") from error


def _opened(name: str, content: Path, roots: Container[bytes] | None) -> BinaryIO:
    """Open what is to be read, then look where it is: it may have been swapped for a link since the order."""
    shown = display_path(os.fsencode(name))
    try:
        file = open(content, "rb", opener=_at_once)  # noqa: SIM115 - Path.open takes no opener; closed by the caller
    except OSError as error:
        raise UsageError(f"cannot read the manifest {shown}: {error.strerror}") from error
    if name == "-":
        return file  # our own copy
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UsageError(f"cannot read the manifest {shown}: it is no regular file")
    if roots is not None and not is_open_inside(file.fileno(), roots):
        file.close()
        raise UsageError(f"cannot read the manifest {shown}: {OUTSIDE.message}")
    return file


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO that took the file's place must not hang


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _records(name: str, file: BinaryIO, check: Callable[[], None], *, nul: bool) -> Iterator[_Record]:
    if nul:
        return (_named(line, line.raw) for line in _nul_lines(file, check) if line.raw)
    suffix = _suffix(name)
    if suffix == ".csv":
        return _csv_records(name, _Rows(_lines(file, check)))
    is_json = suffix in {".jsonl", ".ndjson"} or _looks_like_json(file, check)
    parse = _json_record if is_json else _plain_record
    return (
        parse(line)
        for line in _lines(file, check)
        if (text := line.raw.strip()) and not text.startswith(b"#")
    )


def _looks_like_json(file: BinaryIO, check: Callable[[], None]) -> bool:
    for line in _lines(file, check):
        text = line.raw.strip()
        if text and not text.startswith(b"#"):
            break
    else:
        text = b""
    file.seek(0)
    return text.startswith(b"{")


def _lines(file: BinaryIO, check: Callable[[], None]) -> Iterator[_Line]:
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        check()
        number += 1
        cut = len(raw) > MAX_LINE_BYTES and not raw.endswith(b"\n")
        rest = raw if cut else b""
        while rest and not rest.endswith(b"\n"):
            check()
            rest = file.readline(_BLOCK_BYTES)
        yield _Line(number, raw.removeprefix(_BOM) if number == 1 else raw, cut)


def _nul_lines(file: BinaryIO, check: Callable[[], None]) -> Iterator[_Line]:
    number, held, cut = 0, b"", False
    while block := file.read(_BLOCK_BYTES):
        check()
        *names, rest = block.split(b"\0")
        for name in names:
            number += 1
            yield _Line(number, held + name, cut or len(held) + len(name) > MAX_LINE_BYTES)
            held, cut = b"", False
        held += rest
        if len(held) > MAX_LINE_BYTES:
            held, cut = held[:MAX_LINE_BYTES], True
    if held:
        yield _Line(number + 1, held, cut)


def _plain_record(line: _Line) -> _Record:
    raw = line.raw.removesuffix(b"\n").removesuffix(b"\r")
    return _named(line, raw)


def _named(line: _Line, path: bytes, id_: Any = None, metadata: Any = None) -> _Record:  # noqa: ANN401 - JSON
    fault = None
    if line.cut:
        fault = _TOO_LONG
    elif not path:
        fault = "the path is empty"
    elif b"\0" in path:
        fault = "a path cannot hold a NUL byte (is this UTF-16, or a list for -0?)"
    return _Record(line.number, path, fault, id_, metadata)


def _json_record(line: _Line) -> _Record:
    raw = line.raw.strip()
    if line.cut:
        return _Record(line.number, raw, _TOO_LONG)
    try:
        fields = _json.decode(raw.decode())
    except UnicodeDecodeError:
        return _Record(line.number, raw, _NOT_UTF8)
    except (msgspec.DecodeError, RecursionError) as error:
        return _Record(line.number, raw, f"not a JSON object with a path, nor a string: {error}")
    if isinstance(fields, str):
        return _named(line, fields.encode())
    if _is_deeper((fields.id, fields.metadata), MAX_DEPTH):
        return _Record(line.number, raw, f"id or metadata nest deeper than {MAX_DEPTH} levels")
    return _named(line, fields.path.encode(), fields.id, fields.metadata)


def _is_deeper(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    if not isinstance(value, list | tuple):
        return False
    return levels < 0 or any(_is_deeper(item, levels - 1) for item in value)


class _Rows:
    """CSV records with the lines they came from. After a broken one, reading goes on at its second line.

    So an unmatched quote costs one line, not all lines up to the next quote.
    """

    def __init__(self, lines: Iterator[_Line]) -> None:
        self._lines = lines
        self._again: deque[_Line] = deque()
        self._taken: list[_Line] = []
        self._held = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """The next physical line, for ``csv.reader``."""
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        self._held += len(line.raw)
        if line.cut or self._held > MAX_LINE_BYTES:
            raise _BadLineError(_TOO_LONG)
        try:
            return line.raw.decode()
        except UnicodeDecodeError:
            raise _BadLineError(_NOT_UTF8) from None

    def records(self) -> Iterator[tuple[_Line, list[str] | str]]:
        """The first line of each record that is not blank, and its cells or what is wrong with it."""
        while True:
            self._taken, self._held = [], 0
            cells: list[str] | str
            try:
                cells = next(csv.reader(self, strict=True))
            except StopIteration:
                return
            except (csv.Error, _BadLineError) as error:
                self._again.extendleft(reversed(self._taken[1:]))
                cells = f"broken CSV: {error}"
            if self._taken[0].raw.strip():
                yield self._taken[0], cells


def _header(name: str, rows: _Rows) -> list[str]:
    shown = display_path(os.fsencode(name))
    for _, cells in rows.records():
        header = [cell.strip().lower() for cell in cells] if isinstance(cells, list) else []
        if header.count("path") != 1:
            found = f"it has {', '.join(header)[:200]!r}" if header else str(cells)
            raise UsageError(f"the manifest {shown} needs a header line with one column 'path'; {found}")
        return header
    raise UsageError(f"the manifest {shown} is empty; a CSV needs a header line with a column 'path'")


def _csv_records(name: str, rows: _Rows) -> Iterator[_Record]:
    header = _header(name, rows)
    for line, cells in rows.records():
        if isinstance(cells, str):
            yield _Record(line.number, line.raw.rstrip(b"\r\n"), cells)
        elif len(cells) > len(header):
            fault = f"{len(cells)} cells, but the header has {len(header)}"
            yield _Record(line.number, line.raw.rstrip(b"\r\n"), fault)
        else:
            fields = dict(zip(header, cells, strict=False))
            path, id_ = fields.pop("path", ""), fields.pop("id", None)
            metadata = fields.get("metadata") if "metadata" in header else fields
            yield _named(line, path.encode(), id_ or None, metadata or None)


def _candidate(source: str, directory: bytes, record: _Record) -> Candidate:
    shown = display_path(record.raw[:MAX_SHOWN_BYTES])
    if record.fault is not None:
        problem = Problem("bad-manifest-line", f"line {record.line}: {record.fault}")
        return Candidate(source=source, path=shown, problem=problem, line=record.line)
    location = os.path.join(directory, record.raw)
    if b"/." in location or b"//" in location:
        location = absolute(location)
    candidate = as_candidate(source, shown, location, look(partial(os.stat, location)))
    return replace(candidate, line=record.line, id=record.id, metadata=record.metadata)

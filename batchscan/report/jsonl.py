"""The report file: one JSON row a line, only ever appended to, by one process at a time.

A line counts once its end is written. What a killed process left behind it is cut off when the file is
opened again; whole lines are never touched, and neither is a file that is not this run's report.
"""

import asyncio
import io
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import aiofiles
import msgspec
from aiofiles.threadpool import wrap

from batchscan.errors import ReportError
from batchscan.models import ROW_SCHEMA, Row
from batchscan.report import outfile
from batchscan.report.lines import BLOCK_BYTES, LineSplitter, decode_row, read_failure, read_rows
from batchscan.report.rows import encode_row

__all__ = ["Mode", "ReportWriter", "open_report", "read_rows"]

T = TypeVar("T")


class Mode(StrEnum):
    """What to do about a file that is there.

    ``new``: refuse it. ``resume``: go on with it; a missing one is created. ``replace``: keep it until
    ``finish``, and write ``<name>.<run_id>.partial`` beside it, which is gone on with if it is there; a
    file that this run has already put in place is gone on with as with ``resume``.
    """

    NEW = "new"
    RESUME = "resume"
    REPLACE = "replace"


@asynccontextmanager
async def open_report(
    path: Path, *, mode: Mode, run_id: str, private: bool = False
) -> AsyncIterator["ReportWriter"]:
    """Open a report and keep every other run off it until the block ends; ``private``: for its owner alone.

    Leaving the block only lets go of the file: a report is whole after ``finish``, and can be resumed
    before.

    Raises:
        UsageError: the file exists (``new``), cannot be written, is no regular file, has no directory,
            or another live run writes it.
        ReportError: what is there is not the report of ``run_id``, or the disk failed.
    """
    writer = ReportWriter(path, mode=mode, run_id=run_id, private=private)
    try:
        await _to_the_end(asyncio.to_thread(writer._open))  # noqa: SLF001 - only this pair opens and closes
        yield writer
    finally:
        await _to_the_end(asyncio.to_thread(writer._close))  # noqa: SLF001 - see above


class ReportWriter:
    """Appends rows to a locked report. Made by ``open_report``; tasks may share it.

    A cancelled call still runs to its end before the cancellation goes on, so that the file never ends
    within a line because of it.
    """

    def __init__(self, path: Path, *, mode: Mode, run_id: str, private: bool) -> None:
        self._shown = path  # as the operator wrote it: for messages
        self._target = Path(os.path.realpath(path))  # a symlink stays one; what it leads to is replaced
        self._mode = mode
        self._private = private
        self._run_id = run_id
        self._path = Path(f"{self._target}.{run_id}.partial") if mode is Mode.REPLACE else self._target
        self._successor = Path(f"{self._target}.{run_id}.rewrite")
        self._start = msgspec.json.encode({"schema": ROW_SCHEMA, "run_id": run_id})[:-1]  # of every line
        self._descriptors: list[int] = []  # locked; the last one is written
        self._end = 0  # bytes of whole lines
        self._torn = False
        self._unsynced: OSError | None = None
        self._written = 0
        self._turn = asyncio.Lock()

    @property
    def written(self) -> int:
        """Rows appended through this writer; those of an earlier process are not counted."""
        return self._written

    async def write(self, rows: Iterable[Row]) -> None:
        """Append rows, all or none, in one write. They are durable after ``sync``.

        Raises:
            ReportError: they could not be written. The file ends with the last whole line as before;
                where not even that was possible, it is cut there before anything else is written.
        """
        lines = [encode_row(row) for row in rows]
        if lines:
            async with self._turn:
                await _to_the_end(self._append(b"".join(lines), len(lines)))

    async def sync(self) -> None:
        """Make all rows written so far survive a power cut.

        Raises:
            ReportError: the disk failed. It stays failed: the kernel forgets what it could not write,
                and a second try would succeed without having done anything.
        """
        async with self._turn:
            await _to_the_end(asyncio.to_thread(self._sync))

    async def finish(self) -> None:
        """Sync, and with ``replace`` rename over the old report. The lock stays until the block ends.

        Raises:
            ReportError: the disk failed; an old report is still there.
        """
        async with self._turn:
            await _to_the_end(asyncio.to_thread(self._finish))

    async def existing(self, batch: int = 1000) -> AsyncGenerator[list[Row], None]:
        """Yield the rows that are there now, at most ``batch`` at a time. Close it if you leave early.

        Raises:
            ReportError: a line is no row of this run; the message names the line.
        """
        number = 0
        async with aclosing(self._blocks()) as blocks:
            async for lines in blocks:
                for start in range(0, len(lines), batch):
                    chunk = lines[start : start + batch]
                    yield [self._decode(line, i) for i, line in enumerate(chunk, number + 1)]
                    number += len(chunk)

    async def drop(self, unwanted: Callable[[Row], bool]) -> int:
        """Take rows out: rewrite the file without them beside it, then rename. Returns how many.

        Lines that stay are copied byte for byte.

        Raises:
            ReportError: a line is no row of this run, or the disk failed; the file is as it was.
            UsageError: no file can be made beside it; the file is as it was.
        """
        async with self._turn:
            return await _to_the_end(self._rewrite(unwanted))

    # what follows runs in turn, or before and after all turns

    async def _append(self, content: bytes, count: int) -> None:
        if self._torn:
            await asyncio.to_thread(self._cut)
        try:
            await _write_all(self._descriptors[-1], content)
        except OSError as error:
            self._torn = True
            with suppress(ReportError):  # the failed write is the news; the next one cuts first
                await asyncio.to_thread(self._cut)
            raise outfile.write_failure(self._shown, error) from error
        self._end += len(content)
        self._written += count

    def _cut(self) -> None:
        """Cut behind the last whole line."""
        try:
            os.ftruncate(self._descriptors[-1], self._end)
        except OSError as error:
            raise outfile.write_failure(self._shown, error) from error
        self._torn = False

    def _sync(self) -> None:
        if self._torn:
            self._cut()
        if self._unsynced is None:
            try:
                os.fsync(self._descriptors[-1])
            except OSError as error:
                self._unsynced = error
        if self._unsynced is not None:
            raise outfile.write_failure(self._shown, self._unsynced) from self._unsynced

    def _finish(self) -> None:
        self._sync()
        try:
            if self._path != self._target:
                self._path.replace(self._target)
                self._path = self._target
            outfile.sync_directory(self._target)
        except OSError as error:
            raise outfile.write_failure(self._shown, error) from error

    async def _blocks(self) -> AsyncGenerator[list[bytes], None]:
        """Yield the whole lines that are there now, without their ends, about a mebibyte at a time."""
        left = self._end
        splitter = LineSplitter(self._shown)
        try:
            async with aiofiles.open(self._path, "rb", buffering=0) as file:
                while left > 0 and (block := await file.read(min(left, BLOCK_BYTES))):
                    left -= len(block)
                    yield splitter.feed(block)
        except OSError as error:
            raise read_failure(self._shown, error) from error

    def _decode(self, line: bytes, number: int) -> Row:
        row = decode_row(line, self._shown, number)
        if row.run_id != self._run_id:
            raise self._foreign(number)
        return row

    async def _rewrite(self, unwanted: Callable[[Row], bool]) -> int:
        descriptor = await asyncio.to_thread(outfile.create_successor, self._successor, self._descriptors[-1])
        try:
            dropped, end = await self._copy(descriptor, unwanted)
            if dropped:
                await asyncio.to_thread(self._adopt, descriptor, end)
        except OSError as error:
            raise outfile.write_failure(self._shown, error) from error
        finally:
            if descriptor not in self._descriptors:
                os.close(descriptor)
                with suppress(OSError):  # the next open removes it
                    self._successor.unlink(missing_ok=True)
        return dropped

    async def _copy(self, descriptor: int, unwanted: Callable[[Row], bool]) -> tuple[int, int]:
        """Copy the lines that stay; return how many did not, and the bytes of those that did."""
        dropped = number = end = 0
        async with aclosing(self._blocks()) as blocks:
            async for lines in blocks:
                kept = [
                    line + b"\n"
                    for i, line in enumerate(lines, number + 1)
                    if not unwanted(self._decode(line, i))
                ]
                number += len(lines)
                dropped += len(lines) - len(kept)
                content = b"".join(kept)
                await _write_all(descriptor, content)
                end += len(content)
        return dropped, end

    def _adopt(self, descriptor: int, end: int) -> None:
        """Put the successor, locked since it was made, in the place of the file."""
        os.fsync(descriptor)
        self._successor.replace(self._path)
        os.close(self._descriptors.pop())
        self._descriptors.append(descriptor)
        self._end, self._torn = end, False
        outfile.sync_directory(self._path)

    def _open(self) -> None:
        exclusive, private = self._mode is Mode.NEW, self._private
        self._descriptors.append(outfile.open_locked(self._target, exclusive=exclusive, private=private))
        try:
            if self._has_replaced():
                self._path = self._target
            if self._path != self._target:
                self._descriptors.append(outfile.open_locked(self._path))
            descriptor = self._descriptors[-1]
            outfile.copy_permissions(self._descriptors[0], descriptor)
            outfile.sync_directory(self._target)
            self._end = outfile.end_of_lines(descriptor)
            self._check_ours(descriptor)
            self._cut()
            self._successor.unlink(missing_ok=True)  # left by a process that died in ``drop``
        except OSError as error:
            raise outfile.write_failure(self._shown, error) from error

    def _has_replaced(self) -> bool:
        """Tell whether an earlier process came as far as the rename: then there is nothing to replace."""
        start = os.pread(self._descriptors[-1], len(self._start), 0)
        return start == self._start and not self._path.exists()

    def _check_ours(self, descriptor: int) -> None:
        """Make sure that the file is this run's report, as far as its start says, before it is cut."""
        start = os.pread(descriptor, len(self._start), 0)
        if not self._end:
            start = start.rstrip(b"\0")  # a power cut can leave the length of a line without its content
        if not self._start.startswith(start):
            raise self._foreign(1)

    def _foreign(self, number: int) -> ReportError:
        return ReportError(
            f"{self._shown}, line {number}: is not a row of run {self._run_id}; "
            "name another output file, or replace this one with --overwrite"
        )

    def _close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


async def _write_all(descriptor: int, content: bytes) -> None:
    """Append everything; the disk's own error tells why a write came out short."""
    file = wrap(io.FileIO(descriptor, "ab", closefd=False))
    rest = memoryview(content)
    while rest:
        rest = rest[await file.write(rest) :]


async def _to_the_end(work: Awaitable[T]) -> T:
    """Await ``work``; when cancelled meanwhile, let it end first, then go on with the cancellation."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        while not task.done():
            with suppress(asyncio.CancelledError):  # raised again below, once
                await asyncio.wait({task})
        if task.cancelled():
            raise
        raise cancelled from task.exception()

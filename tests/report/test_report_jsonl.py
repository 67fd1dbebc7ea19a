"""The report file, on a real disk: what is whole stays, what is torn goes, and only one run writes."""

import asyncio
import os
import resource
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest
from report_samples import RUN, judged, unjudged

from batchscan.errors import ReportError, UsageError
from batchscan.models import Outcome, Row
from batchscan.report import outfile
from batchscan.report.jsonl import Mode, ReportWriter, open_report, read_rows
from batchscan.report.rows import encode_row

OTHER_RUN = "20260619T080000-d4e5f6"
ROWS = [judged(f"skills/{i}.zip") for i in range(4)] + [unjudged("技能/é.zip")]
WHOLE = b"".join(encode_row(row) for row in ROWS)


async def existing(writer: ReportWriter, batch: int = 1000) -> list[Row]:
    return [row async for rows in writer.existing(batch) for row in rows]


async def test_new_writes_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    async with open_report(path, mode=Mode.NEW, run_id=RUN) as report:
        await report.write(ROWS[:2])
        await report.write([])
        await report.write(iter(ROWS[2:]))
        await report.sync()
        assert report.written == 5
        assert await existing(report) == ROWS
        await report.finish()
    assert path.read_bytes() == WHOLE
    assert list(read_rows(path)) == ROWS
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644 & ~umask
    assert os.listdir(tmp_path) == ["report.jsonl"]  # noqa: PTH208 - names only


async def test_new_refuses_what_exists_and_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"report\.jsonl: exists; .*--overwrite"):
        async with open_report(path, mode=Mode.NEW, run_id=RUN):
            pass
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("mode", Mode)
async def test_places_where_no_report_can_be(tmp_path: Path, mode: Mode) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("none/report.jsonl", "its directory does not exist"),
        (".", "is a directory|exists"),
        ("file/report.jsonl", "cannot be written"),
        ("fifo", "is not a regular file|exists"),
        ("loop", "cannot be written|exists"),
        ("x" * 300, "cannot be written"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            async with open_report(tmp_path / name, mode=mode, run_id=RUN):
                pass
        assert str(tmp_path / name) in str(caught.value)
        assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="/: "):
        async with open_report(Path("/"), mode=mode, run_id=RUN):
            pass


@pytest.mark.parametrize("second", [Mode.RESUME, Mode.REPLACE])
@pytest.mark.parametrize("first", Mode)
async def test_one_run_at_a_time(tmp_path: Path, first: Mode, second: Mode) -> None:
    path = tmp_path / "report.jsonl"
    async with open_report(path, mode=first, run_id=RUN) as report:
        await report.write(ROWS)
        with pytest.raises(UsageError, match="another run is writing"):
            async with open_report(path, mode=second, run_id=RUN):
                pass
        await report.drop(lambda row: row.outcome is Outcome.PENDING)
        with pytest.raises(UsageError, match="another run is writing"):
            async with open_report(path, mode=second, run_id=RUN):
                pass
        await report.finish()  # with replace, the path leads to another file from here on
        with pytest.raises(UsageError, match="another run is writing"):
            async with open_report(path, mode=second, run_id=RUN):
                pass
    async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
        assert await existing(report) == ROWS[:4]


async def test_the_new_report_is_locked_from_the_moment_it_takes_the_place(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    async with open_report(path, mode=Mode.REPLACE, run_id=RUN) as report:
        await report.write(ROWS)
        await report.finish()
        with pytest.raises(UsageError, match="another run is writing"):
            async with open_report(path, mode=Mode.RESUME, run_id=RUN):
                pass


async def test_a_lock_on_a_file_that_was_replaced_meanwhile_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        assert outfile._lock(descriptor, path)
        path.rename(tmp_path / "aside")
        assert not outfile._lock(descriptor, path)
        path.touch()
        assert not outfile._lock(descriptor, path)
    finally:
        os.close(descriptor)


async def test_a_torn_tail_is_cut_at_every_byte_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    ends = [i + 1 for i, byte in enumerate(WHOLE) if byte == ord("\n")]
    for length in range(ends[-3], len(WHOLE) + 1):
        path.write_bytes(WHOLE[:length])
        complete = sum(end <= length for end in ends)
        async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
            assert path.stat().st_size == ends[complete - 1]
            await report.write(ROWS[complete:])
        assert path.read_bytes() == WHOLE


async def test_a_torn_tail_longer_than_a_block_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_bytes(WHOLE + encode_row(judged("x" * 200_000))[:-1])
    async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
        assert await existing(report) == ROWS
    assert path.read_bytes() == WHOLE


async def test_a_torn_first_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    line = encode_row(ROWS[0])
    for length in range(len(line)):
        for content in (line[:length], *([line[:length] + bytes(40)] if length < 40 else [])):
            path.write_bytes(content)
            async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
                assert await existing(report) == []
            assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "content",
    [
        b"dear diary",
        b'{"schema": 1}',
        encode_row(judged(run_id=OTHER_RUN)),
        b"\n",
        encode_row(ROWS[0])[1:],
        bytes(9) + b"x",
    ],
)
async def test_what_is_not_this_runs_report_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=rf"diary\.txt, line 1: is not a row of run {RUN}"):
        async with open_report(path, mode=Mode.RESUME, run_id=RUN):
            pass
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 3: is not a row of a report"),
        (b"", "line 3: is not a row of a report"),
        (bytes(30), "line 3: is not a row of a report"),
        (b'"\xff"', "line 3: is not a row of a report"),
        (b"[" * 5000, "line 3: is not a row of a report"),
        (
            encode_row(judged()).rstrip().replace(b"result/1", b"result/2"),
            "line 3: is of schema 'batchscan.result/2'",
        ),
        (encode_row(judged(run_id=OTHER_RUN)).rstrip(), f"line 3: is not a row of run {RUN}"),
    ],
)
async def test_a_broken_line_within_the_file_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "report.jsonl"
    content = encode_row(ROWS[0]) + encode_row(ROWS[1]) + line + b"\n" + encode_row(ROWS[2])
    path.write_bytes(content)
    async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
        with pytest.raises(ReportError, match=message):
            await existing(report, batch=1)
        with pytest.raises(ReportError, match=message):
            await report.drop(lambda row: row.path == ROWS[0].path)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["report.jsonl"]  # noqa: PTH208 - names only


async def test_existing_rows_come_in_batches_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    rows = [judged(f"{i}.zip") for i in range(2500)]  # more than a block of a mebibyte
    path.write_bytes(b"".join(encode_row(row) for row in rows))
    assert path.stat().st_size > 1 << 20
    async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
        batches = [batch async for batch in report.existing(1000)]
        assert max(len(batch) for batch in batches) <= 1000
        assert [row for batch in batches for row in batch] == rows
        async with aclosing(report.existing(1)) as begun:
            assert await anext(begun) == rows[:1]
        seen = 0
        async for batch in report.existing(1):
            seen += len(batch)
            if seen == 1:
                await report.write([unjudged("later")])
        assert seen == 2500  # those that were there when it began
        assert report.written == 1


async def test_resume_creates_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
        await report.write(ROWS)
    assert path.read_bytes() == WHOLE


async def test_replace_keeps_the_old_report_until_the_end_and_can_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    partial = tmp_path / f"report.jsonl.{RUN}.partial"
    path.write_bytes(b"of yesterday\n")
    path.chmod(0o600)
    async with open_report(path, mode=Mode.REPLACE, run_id=RUN) as report:
        await report.write(ROWS[:3])
    assert path.read_bytes() == b"of yesterday\n"
    with partial.open("ab") as file:
        file.write(encode_row(ROWS[3])[:-1])
    async with open_report(path, mode=Mode.REPLACE, run_id=RUN) as report:
        assert await existing(report) == ROWS[:3]
        await report.write(ROWS[3:])
        assert path.read_bytes() == b"of yesterday\n"
        await report.finish()
        assert path.read_bytes() == WHOLE
        await report.finish()
    assert path.read_bytes() == WHOLE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["report.jsonl"]  # noqa: PTH208 - names only


async def test_replace_goes_on_with_what_it_has_put_in_place(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_bytes(b"of yesterday\n")
    async with open_report(path, mode=Mode.REPLACE, run_id=RUN) as report:
        await report.write(ROWS)
        await report.finish()
    async with open_report(path, mode=Mode.REPLACE, run_id=RUN) as report:
        assert await existing(report) == ROWS
        assert await report.drop(lambda row: row.outcome is Outcome.PENDING) == 1
        await report.write([judged("技能/é.zip", digest=bytes(32))])
        await report.finish()
    assert [row.outcome for row in read_rows(path)] == [Outcome.SCANNED] * 5
    assert os.listdir(tmp_path) == ["report.jsonl"]  # noqa: PTH208 - names only


async def test_replace_follows_a_symlink(tmp_path: Path) -> None:
    real = tmp_path / "real.jsonl"
    real.write_bytes(b"of yesterday\n")
    link = tmp_path / "latest"
    link.symlink_to("real.jsonl")
    async with open_report(link, mode=Mode.REPLACE, run_id=RUN) as report:
        await report.write(ROWS)
        await report.finish()
    assert link.is_symlink()
    assert real.read_bytes() == WHOLE


async def test_drop_takes_out_rows_and_copies_the_others(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    odd = encode_row(ROWS[1]).replace(b'","', b'", "').replace(b"}\n", b',"added_later":1}\n')
    path.write_bytes(encode_row(ROWS[4]) + odd + encode_row(ROWS[4]) + encode_row(ROWS[0]))
    path.chmod(0o640)
    (tmp_path / f"report.jsonl.{RUN}.rewrite").write_bytes(b"left by a killed process")
    async with open_report(path, mode=Mode.RESUME, run_id=RUN) as report:
        assert os.listdir(tmp_path) == ["report.jsonl"]  # noqa: PTH208 - names only
        (tmp_path / f"report.jsonl.{RUN}.rewrite").write_bytes(b"could not be removed")
        assert await report.drop(lambda row: row.outcome is Outcome.PENDING) == 2
        assert path.read_bytes() == odd + encode_row(ROWS[0])
        inode = path.stat().st_ino
        assert await report.drop(lambda row: row.outcome is Outcome.PENDING) == 0
        assert path.stat().st_ino == inode
        await report.write([ROWS[4]])
    assert path.read_bytes() == odd + encode_row(ROWS[0]) + encode_row(ROWS[4])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["report.jsonl"]  # noqa: PTH208 - names only


async def test_a_short_write_leaves_whole_lines_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    first = encode_row(ROWS[0])
    assert len(WHOLE) > len(first) + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with open_report(path, mode=Mode.NEW, run_id=RUN) as report:
        await report.write([ROWS[4], ROWS[0]])
        await report.drop(lambda row: row.outcome is Outcome.PENDING)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(first) + 100, hard))  # the disk is full from here on
        try:
            with pytest.raises(
                ReportError, match=r"report\.jsonl: the report could not be written .*make room"
            ):
                await report.write(ROWS[1:])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == first
        assert report.written == 2
        await report.write(ROWS[1:])
    assert path.read_bytes() == WHOLE


async def test_a_tail_that_could_not_be_cut_is_cut_before_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    async with open_report(path, mode=Mode.NEW, run_id=RUN) as report:
        await report.write(ROWS[:1])
        descriptor = report._descriptors[-1]
        kept = os.dup(descriptor)
        os.close(descriptor)  # the file is out of reach: neither written nor cut
        with pytest.raises(ReportError, match="check the disk"):
            await report.write(ROWS[1:])
        with path.open("ab") as file:
            file.write(encode_row(ROWS[1])[:50])
        os.dup2(kept, descriptor)
        os.close(kept)
        await report.write(ROWS[1:])
        assert report.written == 5
    assert path.read_bytes() == WHOLE


async def test_a_failed_sync_stays_failed(tmp_path: Path) -> None:
    async with open_report(tmp_path / "report.jsonl", mode=Mode.NEW, run_id=RUN) as report:
        await report.write(ROWS)
        descriptor = report._descriptors[-1]
        kept = os.dup(descriptor)
        os.close(descriptor)
        with pytest.raises(ReportError, match="could not be written"):
            await report.sync()
        os.dup2(kept, descriptor)
        os.close(kept)
        with pytest.raises(ReportError, match="could not be written"):
            await report.sync()
        with pytest.raises(ReportError, match="could not be written"):
            await report.finish()


async def test_a_cancelled_write_is_written_before_the_cancellation_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    gate = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with open_report(path, mode=Mode.NEW, run_id=RUN) as report:
        blocked = asyncio.ensure_future(asyncio.to_thread(gate.wait, 10))
        task = asyncio.create_task(report.write(ROWS))
        for _ in range(10):
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert path.read_bytes() == WHOLE
        assert report.written == 5
        await blocked


async def test_writes_of_many_tasks_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    rows = [judged(f"{i}.zip") for i in range(60)]
    async with open_report(path, mode=Mode.NEW, run_id=RUN) as report:
        await asyncio.gather(*(report.write(rows[i : i + 3]) for i in range(0, 60, 3)))
    assert sorted(row.path for row in read_rows(path)) == sorted(row.path for row in rows)


def test_read_rows_of_nothing_and_of_a_run_that_was_killed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none: cannot be read"):
        list(read_rows(tmp_path / "none"))
    path = tmp_path / "report.jsonl"
    path.write_bytes(WHOLE[:-1])
    rows = read_rows(path)
    assert [next(rows) for _ in range(4)] == ROWS[:4]
    with pytest.raises(ReportError, match="line 5: is cut off"):
        next(rows)


def test_read_rows_of_a_directory_and_of_no_lines_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_rows(tmp_path))
    monkeypatch.setattr("batchscan.report.lines._LINE_LIMIT_BYTES", 1000)
    (tmp_path / "zeros").write_bytes(bytes(5000))
    with pytest.raises(ReportError, match="zeros, line 1: is longer than"):
        list(read_rows(tmp_path / "zeros"))

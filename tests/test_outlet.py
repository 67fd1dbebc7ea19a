"""The outlet: on real pipes that are full, slow, broken, or not to be waited for; nobody who writes waits."""

import fcntl
import os
import select
import threading
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

import pytest

from batchscan import outlet
from batchscan.outlet import WAITING_BYTES, WAITING_WRITES, Outlet, aside
from batchscan.report.progress import Progress
from batchscan.stats import Stats


class Pipe:
    """A pipe of one page, and what was read from it."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        self.stream: TextIO = os.fdopen(writing, "w", encoding="utf-8")

    def read(self, until: bytes, *, step: int = 65536) -> str:
        """Read until this text has come."""
        found = b""
        while until not in found:
            found += os.read(self.reading, step)
        return found.decode()


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    monkeypatch.setattr(outlet, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(outlet, "_outlets", {})
    made = Pipe()
    yield made
    os.close(made.reading)  # a thread that still carries has its error now
    made.stream.close()


def counted(shown: str) -> tuple[Counter[str], int]:
    """Lines by their first word, and how many were dropped by what is told of it."""
    lines = Counter(line.split()[0] for line in shown.splitlines())
    told = [line.split()[1] for line in shown.splitlines() if line.startswith("batchscan:")]
    return lines, sum(map(int, told))


def test_what_nobody_reads_is_bounded_by_count_and_its_newest_is_kept(pipe: Pipe) -> None:
    out = Outlet(pipe.stream)
    total = 3 * WAITING_WRITES
    most = 0
    for number in range(total):
        out.write(f"line {number:08}\n")
        most = max(most, len(out._waiting))
    assert most == WAITING_WRITES
    assert out.behind
    assert not out.settle()  # told, after a wait that has an end
    shown = pipe.read(f"line {total - 1:08}\n".encode())
    assert out.settle()
    lines, dropped = counted(shown)
    assert lines["line"] + dropped == total
    assert dropped > WAITING_WRITES
    numbers = [line for line in shown.splitlines() if line.startswith("line")]
    assert numbers == sorted(numbers)


def test_what_nobody_reads_is_bounded_by_bytes(pipe: Pipe) -> None:
    out = Outlet(pipe.stream)
    for number in range(40):
        out.write(f"{number:02} {'x' * (WAITING_BYTES // 10)}\n")
    held = sum(map(len, out._waiting))
    assert out._bytes == held <= WAITING_BYTES
    out.write("y" * WAITING_BYTES * 3 + "\n")  # one alone may be larger
    assert len(out._waiting) == 1
    shown = pipe.read(b"y\n")
    lines, dropped = counted(shown)
    assert lines.total() - lines["batchscan:"] + dropped == 41


def test_a_slow_reader_gets_everything_and_is_waited_for(pipe: Pipe) -> None:
    out = Outlet(pipe.stream)
    text = "".join(f"line {number:08}\n" for number in range(2000))
    for line in text.splitlines(keepends=True)[:WAITING_WRITES]:
        out.write(line)
    found: list[str] = []
    last = f"line {WAITING_WRITES - 1:08}\n".encode()
    reader = threading.Thread(target=lambda: found.append(pipe.read(last, step=100)))
    reader.start()
    assert out.settle()
    reader.join(10)
    assert text.startswith(found[0])


def test_a_pipe_that_must_not_be_waited_for_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)  # it is shared with others, and one of them did so
    out = Outlet(pipe.stream)
    out.write("x" * 50_000 + "\n")
    out.write("end\n")
    assert len(pipe.read(b"end\n")) == 50_005
    assert out.settle()


def test_who_writes_after_the_reader_went_is_told_and_nobody_waits(pipe: Pipe) -> None:
    out = Outlet(pipe.stream)
    other = os.dup(pipe.reading)
    os.dup2(os.open(os.devnull, os.O_RDONLY), pipe.reading)
    os.close(other)
    out.write("lost\n")
    assert not out.settle()
    with pytest.raises(BrokenPipeError):
        out.write("more\n")


def test_one_outlet_for_a_stream_and_none_without_a_file(pipe: Pipe) -> None:
    import io

    assert aside(pipe.stream) is aside(pipe.stream)
    assert outlet.current(pipe.stream) is aside(pipe.stream)
    text = io.StringIO()
    assert aside(text) is text
    assert outlet.current(text) is text


async def test_progress_adds_nothing_to_what_waits_to_be_read(pipe: Pipe) -> None:
    now = 0.0
    stream = aside(pipe.stream)
    async with Progress(Stats(found=1), stream=stream, clock=lambda: now) as progress:
        stream.write("x" * 100_000)  # more than the pipe takes
        stream.write("y")
        assert isinstance(stream, Outlet)
        for _ in range(100):
            now += 60
            progress.refresh()
        assert "progress" not in b"".join(stream._waiting).decode()
        pipe.read(b"y")
        now += 60
        progress.refresh()
        assert pipe.read(b"\n").startswith("progress: found 1")
    assert select.select((pipe.reading,), (), (), 0)[0] == []

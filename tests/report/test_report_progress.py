"""Progress, on a real terminal pair and on real files: informative, and never in the way."""

import asyncio
import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from batchscan import logs
from batchscan.models import Outcome, RiskLevel
from batchscan.report.progress import Progress, describe, remaining_submissions
from batchscan.stats import Stats


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A pseudo terminal of 100 columns, and what was written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._shown: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                block = os.read(self._master, 65536)
            except OSError:  # EIO: the other side is closed
                return
            self._shown.append(block)

    def close(self) -> str:
        if not self.stream.closed:
            self.stream.close()
        self._reader.join(10)
        os.close(self._master)
        return b"".join(self._shown).decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    yield terminal
    if not terminal.stream.closed:
        terminal.close()


def busy() -> Stats:
    return Stats(
        found=1200,
        discovery_done=True,
        outcomes=Counter({Outcome.SCANNED: 90, Outcome.REUSED: 10, Outcome.FAILED: 1}),
        verdicts=Counter({RiskLevel.BENIGN: 100}),
        submitted=150,
        waiting=1099,
        rate=19.8,
    )


async def test_a_file_gets_a_line_every_thirty_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    async with Progress(busy(), stream=stream, clock=clock) as progress:
        progress.refresh()
        clock.now += 29.9
        progress.refresh()
        assert stream.getvalue() == ""
        clock.now += 0.2
        progress.refresh()
        progress.refresh()
        assert stream.getvalue() == (
            "progress: found 1,200, submitted 150, verdicts 100, without verdict 1, waiting 1,099, "
            "at least 52.5 s to go\n"
        )
        clock.now += 30
        progress.refresh()
    assert stream.getvalue().count("\n") == 2
    assert progress._timer is not None
    assert progress._timer.cancelled()
    clock.now += 60
    progress.refresh()
    assert stream.getvalue().count("\n") == 2


async def test_the_timer_of_the_loop_drives_it() -> None:
    times = iter((0.0, 0.0))  # for the start, and for the first look

    def clock() -> float:
        return next(times, 100.0)

    class Stream(io.StringIO):
        written = asyncio.Event()

        def write(self, text: str) -> int:
            self.written.set()
            return super().write(text)

    stream = Stream()
    async with Progress(busy(), stream=stream, clock=clock):
        await asyncio.wait_for(stream.written.wait(), 10)
    assert "found 1,200" in stream.getvalue()


async def test_quiet_and_no_stream_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    async with Progress(busy(), stream=stream, quiet=True, clock=clock) as progress:
        clock.now += 60
        progress.refresh()
    assert stream.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", None)
    async with Progress(busy(), clock=clock) as progress:
        progress.refresh()


async def test_a_terminal_gets_bars_and_is_left_as_it_was(terminal: Terminal) -> None:
    async with Progress(busy(), stream=terminal.stream) as progress:
        progress.refresh()
    shown = terminal.close()
    for text in (
        "found",
        "1,200",
        "submitted",
        "150, at least 52.5 s to go",
        "verdicts",
        "100, waiting 1,099",
    ):
        assert text in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back


async def test_log_lines_are_printed_above_the_bars(terminal: Terminal) -> None:
    logs.configure("info", json=False, stream=terminal.stream)
    import structlog

    async with Progress(busy(), stream=terminal.stream) as progress:
        progress.refresh()
        structlog.get_logger("batchscan").warning("above [red]it", where="a" * 150)
        progress.refresh()
    assert logs._LineHandler.diverted is None
    structlog.get_logger("batchscan").warning("after it")
    shown = terminal.close()
    above = shown.index("above [red]it")
    assert "\x1b[2K" in shown[:above].rpartition("waiting")[2]  # the bars were cleared for it
    assert "waiting" in shown[above:]  # and drawn again
    assert "a" * 150 in shown
    assert "waiting" not in shown[shown.index("after it") :]


async def test_a_dumb_terminal_gets_lines(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    clock = Clock()
    async with Progress(busy(), stream=terminal.stream, clock=clock) as progress:
        clock.now += 31
        progress.refresh()
    shown = terminal.close()
    assert shown.startswith("progress: found")
    assert "\x1b" not in shown


async def test_a_stream_that_is_closed_before_or_meanwhile(terminal: Terminal) -> None:
    clock, stream = Clock(), io.StringIO()
    async with Progress(busy(), stream=stream, clock=clock) as progress:
        stream.close()
        clock.now += 31
        progress.refresh()
    async with Progress(busy(), stream=stream, clock=clock) as progress:
        progress.refresh()
    async with Progress(busy(), stream=terminal.stream) as progress:
        terminal.stream.close()
        progress.refresh()
        elsewhere = io.StringIO()
        logs.configure("info", json=False, stream=elsewhere)
        import structlog

        structlog.get_logger("batchscan").warning("still told")
    assert "still told" in elsewhere.getvalue()


async def test_a_pipe_whose_reader_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    clock = Clock()
    stream = os.fdopen(writer, "w")
    async with Progress(busy(), stream=stream, clock=clock) as progress:
        clock.now += 31
        progress.refresh()
        clock.now += 31
        progress.refresh()
    with pytest.raises(BrokenPipeError):
        stream.close()


async def test_an_error_of_the_run_goes_through_and_the_terminal_is_restored(terminal: Terminal) -> None:
    with pytest.raises(RuntimeError, match="of the run"):
        async with Progress(busy(), stream=terminal.stream):
            raise RuntimeError("of the run")
    assert terminal.close().count("\x1b[?25h") == 1


def test_what_remains_is_a_lower_bound() -> None:
    stats = busy()
    assert remaining_submissions(stats) == 1099 - 60
    assert "at least 52.5 s to go" in describe(stats)
    stats.rate = None
    assert "to go" not in describe(stats)
    stats.rate, stats.waiting = 19.8, 60
    assert remaining_submissions(stats) == 0
    assert "to go" not in describe(stats)
    stats.discovery_done = False
    assert "found 1,200+," in describe(stats)


def test_importing_it_loads_neither_rich_nor_structlog() -> None:
    code = (
        "import sys, batchscan.logs, batchscan.report.progress\n"
        "print([name for name in ('rich.progress', 'structlog') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"

"""Progress on stderr: bars on a terminal, a line now and then in a log file, nothing when quiet.

Reads the run's counters and decides nothing. It is driven by a timer of the event loop, so that it needs no
task and shows nothing that is half written. Whatever happens to stderr, the run goes on.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from batchscan import logs
from batchscan.models import Outcome
from batchscan.outlet import Outlet
from batchscan.report.text import duration
from batchscan.stats import Stats

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_INTERVAL_S = 30.0
"""How often a line is printed where there is no terminal."""

_BARS_TICK_S = 0.25
_LINES_TICK_S = 1.0


class Progress:
    """Shows the progress of one run while its ``async with`` block runs."""

    def __init__(
        self,
        stats: Stats,
        *,
        stream: TextIO | None = None,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Choose what to show; nothing is written before the block is entered.

        Args:
            stats: the counters of the run.
            stream: where to, by default ``sys.stderr`` as it is now.
            quiet: show nothing at all.
            clock: seconds that only grow.
        """
        self._stats = stats
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._clock = clock
        self._display: _Display | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Start to show."""
        if not self._quiet and self._stream is not None:
            stream = self._stream
            self._guarded(lambda: self._start(stream))
            self._tick()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and leave the terminal as it was."""
        if self._timer is not None:
            self._timer.cancel()
        if self._display is not None:
            self._guarded(self._display.stop)
            self._display = None

    def refresh(self) -> None:
        """Show the counters as they are now, if it is time to, and what was shown before has been taken."""
        behind = isinstance(self._stream, Outlet) and self._stream.behind
        if self._display is not None and not behind:
            display = self._display
            self._guarded(lambda: display.show(self._stats))

    def _start(self, stream: TextIO) -> None:
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._display = _Bars(stream) if terminal else _Lines(stream, self._clock)
        self._display.start()

    def _tick(self) -> None:
        self.refresh()
        if self._display is not None:
            self._timer = asyncio.get_running_loop().call_later(self._display.tick_s, self._tick)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OSError, ValueError):  # stderr is gone or closed: nobody is left to be shown anything
            self._display = None
            logs.divert(None)


class _Display(Protocol):
    tick_s: float

    def start(self) -> None: ...

    def show(self, stats: Stats) -> None: ...

    def stop(self) -> None: ...


class _Lines:
    """One plain line every 30 seconds; a run that ends before prints none."""

    tick_s = _LINES_TICK_S

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._due = 0.0

    def start(self) -> None:
        self._due = self._clock() + LINE_INTERVAL_S

    def show(self, stats: Stats) -> None:
        now = self._clock()
        if now < self._due:
            return
        self._due = now + LINE_INTERVAL_S
        self._stream.write(f"progress: {describe(stats)}\n")
        self._stream.flush()

    def stop(self) -> None:
        """Nothing to clear away."""


class _Bars:
    """Live bars; log lines are printed above them."""

    tick_s = _BARS_TICK_S

    def __init__(self, stream: TextIO) -> None:
        from rich.progress import BarColumn, TextColumn  # noqa: PLC0415 - only a terminal pays for it
        from rich.progress import Progress as RichProgress  # noqa: PLC0415 - as above

        from batchscan.report.console import open_console  # noqa: PLC0415 - as above

        self._console = open_console(stream)
        self._progress = RichProgress(
            TextColumn("{task.description:<9}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._found, self._submitted, self._rows = (self._bar(n) for n in ("found", "submitted", "verdicts"))

    def _bar(self, name: str) -> "TaskID":
        return self._progress.add_task(name, total=None, note="")

    def start(self) -> None:
        self._progress.start()
        logs.divert(self._print_above)

    def show(self, stats: Stats) -> None:
        left = remaining_submissions(stats)
        rows = sum(stats.outcomes.values())
        verdicts = sum(stats.verdicts.values())
        total = stats.found if stats.discovery_done else None
        self._progress.update(self._found, completed=stats.found, total=total, note=f"{stats.found:,}")
        self._progress.update(
            self._submitted,
            completed=stats.submitted,
            total=stats.submitted + left or None,
            note=f"{stats.submitted:,}" + _eta(stats),
        )
        note = f"{verdicts:,}, waiting {stats.waiting:,}"
        self._progress.update(self._rows, completed=rows, total=total, note=note)
        self._progress.refresh()

    def stop(self) -> None:
        logs.divert(None)
        self._progress.stop()

    def _print_above(self, line: str) -> None:
        from rich.text import Text  # noqa: PLC0415 - loaded with the bars

        self._console.print(Text.from_ansi(line), soft_wrap=True)


def describe(stats: Stats) -> str:
    """Write the counters as one line of text."""
    more = "" if stats.discovery_done else "+"
    verdicts = sum(stats.verdicts.values())
    unjudged = sum(stats.outcomes[outcome] for outcome in (Outcome.REJECTED, Outcome.FAILED, Outcome.PENDING))
    return (
        f"found {stats.found:,}{more}, submitted {stats.submitted:,}, verdicts {verdicts:,}, "
        f"without verdict {unjudged:,}, waiting {stats.waiting:,}{_eta(stats)}"
    )


def remaining_submissions(stats: Stats) -> int:
    """Count the inputs that wait and are not with the service already."""
    in_flight = max(0, stats.submitted - stats.outcomes[Outcome.SCANNED])
    return max(0, stats.waiting - in_flight)


def _eta(stats: Stats) -> str:
    """Say how long the cap alone makes the rest take: a lower bound, so it says "at least"."""
    left = remaining_submissions(stats)
    if not stats.rate or not left:
        return ""
    return f", at least {duration(left / stats.rate)} to go"

"""What a format is given: first what is known of the whole report, then its rows one by one."""

from collections.abc import Callable
from datetime import datetime
from typing import BinaryIO, Final, Protocol

import msgspec

from batchscan.changes import Comparison
from batchscan.models import Row
from batchscan.report.gaps import Gaps
from batchscan.report.summary import Summary
from batchscan.report.survey import Survey
from batchscan.suppressions import Audit, Suppression

PAST_RUNS: Final = 30
"""Runs over the same inputs that a page looks back at."""


class Entry(msgspec.Struct, frozen=True):
    """A row, and the suppression that holds for it today."""

    row: Row
    suppression: Suppression | None = None


class PastRun(msgspec.Struct, frozen=True):
    """How a run over the same inputs ended; ``started_at`` is epoch seconds."""

    started_at: float
    summary: Summary


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since a run over the same inputs, which started at ``started_at``, epoch seconds."""

    run_id: str
    started_at: float
    comparison: Comparison


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of the run behind a report.

    Attributes:
        started_at, finished_at: epoch seconds; None while it has not ended.
        summary: how it last ended, None before.
        past: the ends of the latest runs over the same inputs, ``PAST_RUNS`` at most, the oldest first, up to
            this one's.
        changes: since the last complete one of them; None where there is none to compare with.
    """

    run_id: str
    started_at: float
    finished_at: float | None = None
    summary: Summary | None = None
    past: tuple[PastRun, ...] = ()
    changes: Changes | None = None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a report before its rows are written.

    Attributes:
        survey: what all rows add up to.
        name: file name of the report, without its directory.
        made_at: the time the reader will see, with its zone (UTC).
        state: where the run stands, None where the ledger does not know the report.
        gaps: what the report has no row for, as far as the ledger knows its run.
        audit: suppressions that are unused, expired, soon to expire or do not hold; None without a file.
        run: what the ledger knows of it; None likewise, and for formats that do not look back.
    """

    survey: Survey
    name: str
    made_at: datetime
    state: str | None = None
    gaps: Gaps = Gaps()
    audit: Audit | None = None
    run: RunFacts | None = None


class FormatWriter(Protocol):
    """Writes one document. Holds no more of it than the format demands."""

    def add(self, entry: Entry) -> None:
        """Take the next row, in the order of the report."""

    def finish(self) -> None:
        """Write the document's end. It stays open: whoever opened the file closes it."""


Opener = Callable[[BinaryIO, Context], FormatWriter]
"""What a format's module has, as ``open_writer``; it may write the document's head at once."""

"""Looks back from a run: at those that meant the same inputs before it, and at what changed since the last.

All of it is from the ledger and from report files; it only adds to a page, so what cannot be had is left
out with a warning.
"""

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import structlog

from batchscan.compare import changes_between, side_of
from batchscan.config import Config
from batchscan.errors import BatchscanError
from batchscan.formats.entry import PAST_RUNS, Changes, PastRun, RunFacts
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.previous import previous_run
from batchscan.report.summary import decode_summary
from batchscan.session import open_state

NAMED_LIMIT: Final = 2000
"""Findings that are new and held, to be marked as such."""

_LOOKED_AT: Final = 400  # runs of the scope: a year of nights, and then some

log = structlog.get_logger(__name__)


def look_back(config: Config, report: Path, record: RunRecord) -> RunFacts:
    """Tell what the ledger knows of a run, of those before it, and what changed since the last.

    Blocks; reads two reports to compare them.

    Raises:
        LedgerError: the ledger failed.
    """
    past, previous = asyncio.run(_before(config, record))
    own = None if record.summary is None else _ended(record.started_at, record.summary)
    return RunFacts(
        run_id=record.run_id,
        started_at=record.started_at,
        finished_at=record.finished_at,
        summary=None if own is None else own.summary,
        past=past,
        changes=None if previous is None else _changes(previous, report, record),
    )


def changes_of(config: Config, record: RunRecord) -> Changes | None:
    """Tell what changed from the last run over the same inputs to this one; None where that is not known.

    Blocks; reads the two reports.

    Raises:
        LedgerError: the ledger failed.
    """
    previous = asyncio.run(_previous(config, record))
    return None if previous is None else _changes(previous, record.report, record)


async def _previous(config: Config, record: RunRecord) -> RunRecord | None:
    async with open_state(config) as ledger:
        return await previous_run(Runs(ledger), record)


async def _before(config: Config, record: RunRecord) -> tuple[tuple[PastRun, ...], RunRecord | None]:
    like = _lasting(record.request)
    async with open_state(config) as ledger:
        runs = Runs(ledger)
        ends = await runs.ends_like(
            record,
            lambda request: like.same_inputs(_lasting(request)),
            looked_at=_LOOKED_AT,
            most=PAST_RUNS,
        )
        past = [_ended(began, summary) for began, summary in ends]
        return tuple(run for run in past if run is not None), await previous_run(runs, record)


def _changes(previous: RunRecord, report: Path, record: RunRecord) -> Changes | None:
    try:
        comparison = changes_between(
            side_of(previous.run_id, previous.report, previous),
            side_of(record.run_id, report, record),
            worst=NAMED_LIMIT,
        )
    except BatchscanError as error:
        log.warning("what changed is left out: the report before cannot be compared", error=str(error))
        return None
    return Changes(run_id=previous.run_id, started_at=previous.started_at, comparison=comparison)


def _lasting(request: RunRequest) -> RunRequest:
    """A list on standard input may have changed since, as a directory may."""
    return msgspec.structs.replace(request, stdin_sha256=None)


def _ended(began: float, summary: str) -> PastRun | None:
    """How a run ended; None where a version that is newer wrote that down."""
    try:
        return PastRun(began, decode_summary(summary))
    except msgspec.ValidationError:
        return None

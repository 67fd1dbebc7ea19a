"""Trend: how the latest runs over the same inputs ended, from the ledger alone."""

from typing import Final

import msgspec

from batchscan.formats.entry import PastRun, RunFacts
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.report.summary import decode_summary

_LOOKED_AT: Final = 400  # runs of the scope: a year of nights, and then some


async def facts_of(runs: Runs, record: RunRecord) -> RunFacts:
    """Tell what the ledger knows of a run and of those before it that meant the same.

    Raises:
        LedgerError: the ledger failed.
    """
    earlier = await runs.up_to(record, _LOOKED_AT)
    like = _lasting(record.request)
    same = [run for run in reversed(earlier) if like.same_inputs(_lasting(run.request))]
    return RunFacts(
        run_id=record.run_id,
        started_at=record.started_at,
        finished_at=record.finished_at,
        summary=None if (own := _ended(record)) is None else own.summary,
        past=tuple(past for run in same if (past := _ended(run)) is not None),
    )


def _lasting(request: RunRequest) -> RunRequest:
    """A list on standard input may have changed since, as a directory may."""
    return msgspec.structs.replace(request, stdin_sha256=None)


def _ended(record: RunRecord) -> PastRun | None:
    """How it ended; None where it has not, or a version that is newer wrote that down."""
    if record.summary is None:
        return None
    try:
        return PastRun(record.started_at, decode_summary(record.summary))
    except msgspec.ValidationError:
        return None

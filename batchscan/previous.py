"""The run that came before: the same inputs, judged by the same service, with a report that is still there.

A report file may be written again by a later run (``--overwrite``), so its first row is asked whose it is.
"""

import asyncio
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

from batchscan.errors import BatchscanError, UsageError
from batchscan.ledger.runs import RunRecord, Runs
from batchscan.report.lines import read_rows


async def previous_run(
    runs: Runs, record: RunRecord, kept: Mapping[Path, Path] = MappingProxyType({})
) -> RunRecord | None:
    """Find the newest complete run before ``record`` that it can be compared with; None without one.

    Complete means that each of its inputs has a final row. A run whose report was moved, removed, or
    replaced by a later one is passed over; but ``kept`` tells where a replaced one can still be read.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    before = record
    while (found := await runs.complete_before(before, like=record.request)) is not None:
        if await asyncio.to_thread(run_of, kept.get(found.report, found.report)) == found.run_id:
            return found
        before = found
    return None


def report_of(record: RunRecord) -> Path:
    """Return the report of a run, once it is seen that no other run has written over it. Blocks.

    Raises:
        UsageError: it holds the rows of another run.
    """
    holds = run_of(record.report)
    if holds not in {None, record.run_id}:
        raise UsageError(
            f"run {record.run_id} has no report: {record.report} holds the rows of run {holds}; name that"
            " file if it is meant, and give each run an --output of its own"
        )
    return record.report


def run_of(report: Path) -> str | None:
    """Tell which run wrote a report, by its first row; None where there is no row, or no report."""
    try:
        with closing(read_rows(report)) as rows:
            return next((row.run_id for row in rows), None)
    except BatchscanError:
        return None

"""Recollection: how the runs of each schedule ended before this process, so that alerts survive a restart."""

import msgspec
import structlog

from batchscan.ledger.queue import Queue, QueueState
from batchscan.metrics import LastRun, Metrics
from batchscan.report.summary import decode_summary
from batchscan.service.queue import schedule_of

log = structlog.get_logger(__name__)

_ENDS = tuple(state for state in QueueState if state.is_end)


async def recall(rows: Queue, metrics: Metrics) -> None:
    """Take from the ledger what is known of the last runs.

    Raises:
        LedgerError: the ledger failed.
    """
    for origin in await rows.origins():
        run = metrics.last_run(schedule_of(origin) or "")
        for found in await rows.page(before=None, limit=1, states=_ENDS, origin=origin):
            if found.queued is not None:
                run.started_at, run.ended_at = found.queued.began_at, found.queued.ended_at
            if found.record is not None and found.record.summary is not None:
                _recall(run, found.record.summary)
        for found in await rows.page(before=None, limit=1, states=[QueueState.COMPLETE], origin=origin):
            if found.queued is not None:
                run.succeeded_at = found.queued.ended_at


def _recall(run: LastRun, document: str) -> None:
    try:
        summary = decode_summary(document)
    except msgspec.ValidationError as error:
        log.warning("the summary of an earlier run cannot be read", reason=str(error))
        return
    run.exit_code, run.elapsed_s = summary.exit_code, summary.elapsed_s
    run.outcomes.update(summary.counts)
    run.verdicts.update(summary.verdicts)

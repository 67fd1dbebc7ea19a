"""Recollection: how the runs of each schedule ended before this process, so that alerts survive a restart."""

import msgspec
import structlog

from batchscan.ledger.queue import Queue, QueueState
from batchscan.metrics import LastRun, Metrics
from batchscan.report.summary import decode_summary
from batchscan.schedules.schedule import schedule_of

log = structlog.get_logger(__name__)

_ENDS = tuple(state for state in QueueState if state.is_end)


async def recall(rows: Queue, metrics: Metrics) -> None:
    """Take from the ledger what is known of the last runs.

    Raises:
        LedgerError: the ledger failed.
    """
    for origin in await rows.origins():
        run = metrics.last_run(schedule_of(origin) or "")
        ended = await rows.last_ended(origin, _ENDS)
        if ended is not None and ended.queued is not None:
            run.started_at, run.ended_at = ended.queued.began_at, ended.queued.ended_at
            if ended.record is not None and ended.record.summary is not None:
                _recall(run, ended.record.summary)
        complete = await rows.last_ended(origin, [QueueState.COMPLETE])
        if complete is not None and complete.queued is not None:
            run.succeeded_at = complete.queued.ended_at


def _recall(run: LastRun, document: str) -> None:
    try:
        summary = decode_summary(document)
    except msgspec.ValidationError as error:
        log.warning("the summary of an earlier run cannot be read", reason=str(error))
        return
    run.exit_code, run.elapsed_s = summary.exit_code, summary.elapsed_s
    run.outcomes.update(summary.counts)
    run.verdicts.update(summary.verdicts)

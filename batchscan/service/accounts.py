"""Accounts: who hears how far the runs are, and how they ended: event streams, metrics, probes."""

import asyncio
import time
from typing import Final

from batchscan.errors import BatchscanError
from batchscan.metrics import LastRun, Metrics
from batchscan.models import RunState
from batchscan.report.summary import Summary
from batchscan.schedules.schedule import schedule_of
from batchscan.service.documents import progress_of
from batchscan.service.events import PROGRESS, EventBroker
from batchscan.service.executor import UnderWay
from batchscan.service.health import Pulse

_TELL_S: Final = 1.0


class Accounts:
    """Tells of runs.

    Args:
        broker: hands it to event streams.
        metrics: have it for Prometheus.
        pulse: of the dispatcher.
    """

    def __init__(self, broker: EventBroker, metrics: Metrics, pulse: Pulse) -> None:
        self._broker = broker
        self._metrics = metrics
        self.pulse = pulse

    async def follow(self, under_way: UnderWay) -> None:
        """Publish how far a run is, whenever that has changed, until this is cancelled."""
        self._last(under_way).began(time.time())
        told = None
        while True:
            await asyncio.sleep(_TELL_S)
            now = progress_of(under_way.stats)
            if now != told:
                told = now
                self._broker.publish(PROGRESS, under_way.run.run_id, now.model_dump(mode="json"))

    def ended(self, under_way: UnderWay, summary: Summary) -> None:
        """Note how a run has ended or stopped."""
        complete = summary.state is RunState.COMPLETE and summary.error is None
        if summary.state in (RunState.COMPLETE, RunState.INCOMPLETE):
            last = self._last(under_way)
            last.ended(time.time(), summary.exit_code, under_way.stats, complete=complete)

    def failed(self, under_way: UnderWay, error: Exception) -> None:
        """Note that a run failed."""
        code = error.exit_code if isinstance(error, BatchscanError) else BatchscanError.exit_code
        self._last(under_way).ended(time.time(), code, under_way.stats, complete=False)

    def _last(self, under_way: UnderWay) -> LastRun:
        return self._metrics.last_run(schedule_of(under_way.run.origin) or "")

"""The executor: carries out one run of the queue, from its beginning or from where it stopped."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from batchscan.conclusion import Terms
from batchscan.config import Config
from batchscan.connect import EMBEDDED
from batchscan.errors import LedgerError, NothingMatchedError
from batchscan.gate import Gate
from batchscan.ledger.queue import QueuedRun
from batchscan.ledger.runs import Runs
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import RunState
from batchscan.report.summary import Summary, decode_summary
from batchscan.service.orders import Orders
from batchscan.service.stations import Stations
from batchscan.session import Session, report_place
from batchscan.stats import Stats


class UnderWay:
    """A run that is being carried out.

    Attributes:
        run: as it was when it began.
        stats: how far it is.
        cancelled: somebody asked for its end.
        draining: nothing more of it is begun.
    """

    def __init__(self, run: QueuedRun) -> None:
        self.run = run
        self.stats = Stats()
        self.cancelled = False
        self.draining = False
        self._session: Session | None = None

    def attach(self, session: Session) -> None:
        """Note what carries it out."""
        self._session = session
        if self.draining:
            session.drain()

    def drain(self) -> None:
        """Begin nothing more of it."""
        self.draining = True
        if self._session is not None:
            self._session.drain()

    def cancel(self) -> None:
        """End it."""
        self.cancelled = True
        self.drain()


class Executor:
    """Carries runs out, each in a session of its own.

    Args:
        runs: of the ledger.
        stations: where they are carried out.
        orders: knows their settings.
    """

    def __init__(self, runs: Runs, stations: Stations, orders: Orders) -> None:
        self._runs = runs
        self._stations = stations
        self._orders = orders

    async def execute(self, under_way: UnderWay) -> Summary:
        """Carry a run out, as far as it gets.

        Raises:
            BatchscanError: it could not be finished; what was recorded stays recorded.
        """
        run, stats = under_way.run, under_way.stats
        config = await asyncio.to_thread(self._orders.config, run.run_id, run.work)
        stats.rate = config.create_rate
        session = await self._stations.session(config, stats, run.priority)
        under_way.attach(session)
        terms = Terms(wait=run.work.wait, gate=Gate(fail_on=run.work.fail_on), budget=run.work.budget)
        try:
            summary = await self._made(session, run, terms, config.state_dir)
        finally:
            await self._tidy(config, run.run_id)
        if summary.billed_files and config.endpoint != EMBEDDED:
            await session.note_quota()
        return summary

    async def _tidy(self, config: Config, run_id: str) -> None:
        """Drop what this process kept of the run's inputs: a process of months makes many runs."""
        with suppress(LedgerError):
            record = await self._runs.get(run_id)
            if record is not None:
                station = await self._stations.at(config)
                await WaitingInputs(station.ledger, record.id).begin_anew()

    async def abandon(self, run_id: str) -> None:
        """Let go of a run that is not gone on with: nothing waits for it any more.

        Raises:
            LedgerError: the ledger failed.
        """
        await self._runs.abandon(run_id, now=time.time())

    async def _made(self, session: Session, run: QueuedRun, terms: Terms, state_dir: Path) -> Summary:
        record = await self._runs.get(run.run_id)
        if record is None:
            report = await asyncio.to_thread(report_place, state_dir, run.run_id)
            return await session.scan(
                run.work.request,
                terms,
                spool=None,
                output=report,
                overwrite=False,
                run_id=run.run_id,
            )
        if record.state is not RunState.COMPLETE:
            return await session.resume(record, terms)
        if record.summary is None:
            raise NothingMatchedError("nothing to scan: the sources held no input")
        return decode_summary(record.summary)  # a kill came before the queue was told

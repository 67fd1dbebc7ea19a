"""The dispatcher: carries out the queue's runs, the most urgent first, a bounded number at a time.

A run that fails is ``failed`` and says why; the others go on. Only a defect of the dispatcher itself ends it,
and with it the service. When all places are taken and something more urgent waits, the least urgent run
is drained and waits for its turn again: what it has submitted goes on at the service meanwhile.
"""

import asyncio
from contextlib import suppress
from typing import Final

import structlog

from batchscan.conclusion import Terms
from batchscan.errors import BatchscanError, LedgerError, NothingMatchedError, ServiceError
from batchscan.gate import Gate
from batchscan.ledger.queue import QueuedRun, QueueState
from batchscan.ledger.runs import Runs
from batchscan.logs import scrub
from batchscan.models import Problem, RunState
from batchscan.report.summary import Summary, decode_summary
from batchscan.service.documents import progress_of
from batchscan.service.events import PROGRESS, EventBroker
from batchscan.service.orders import Orders
from batchscan.service.queue import RunQueue
from batchscan.service.stations import Stations
from batchscan.session import REPORTS_DIRECTORY, Session
from batchscan.stats import Stats

log = structlog.get_logger(__name__)

_LOOK_S: Final = 5.0
_TELL_S: Final = 1.0
_AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_ENDS: Final = {RunState.COMPLETE: QueueState.COMPLETE, RunState.INCOMPLETE: QueueState.INCOMPLETE}


class UnderWay:
    """A run that is being carried out.

    Attributes:
        run: as it was when it began.
        stats: how far it is.
        cancelled: somebody asked for its end.
    """

    def __init__(self, run: QueuedRun, rate: float | None) -> None:
        self.run = run
        self.stats = Stats(rate=rate)
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


class Dispatcher:
    """Carries runs out.

    Args:
        queue: where they come from.
        runs: of the ledger.
        stations: where they are carried out.
        orders: knows their settings.
        broker: is told how far they are.
        max_runs: how many at a time.

    Attributes:
        under_way: what is being carried out.
        idle: set while nothing is.
    """

    def __init__(
        self,
        queue: RunQueue,
        runs: Runs,
        stations: Stations,
        orders: Orders,
        broker: EventBroker,
        *,
        max_runs: int,
    ) -> None:
        self._queue = queue
        self._runs = runs
        self._stations = stations
        self._orders = orders
        self._broker = broker
        self._max_runs = max_runs
        self._stopping = False
        self.under_way: dict[str, UnderWay] = {}
        self.idle = asyncio.Event()
        self.idle.set()

    async def run(self) -> None:
        """Serve until ``drain``; then return when all runs have stopped."""
        for run in await self._queue.take_back():
            log.warning("a run goes on that was not ended", run_id=run.run_id, state=run.state)
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping:
                self._queue.changed.clear()
                await self._fill(tasks)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._queue.changed.wait()

    def drain(self) -> None:
        """Begin nothing more, and let what runs stop; it goes on at the next start."""
        self._stopping = True
        for under_way in self.under_way.values():
            under_way.drain()
        self._queue.changed.set()

    async def cancel(self, run_id: str) -> QueuedRun | None:
        """Ask for a run's end; None when it has ended, or is not known.

        Raises:
            LedgerError: the ledger failed.
        """
        cancelled = await self._queue.cancel(run_id)
        under_way = self.under_way.get(run_id)
        if cancelled is not None and under_way is not None:
            under_way.cancel()
        return cancelled

    async def _fill(self, tasks: asyncio.TaskGroup) -> None:
        """Begin what there is a place for; make a place where something more urgent waits."""
        for waiting in await self._queue.rows.next(self._max_runs):
            if self._stopping:
                return
            if len(self.under_way) >= self._max_runs:
                self._displace(waiting.priority)
                return
            begun = await self._queue.begin(waiting.run_id)
            if begun is not None:
                under_way = self.under_way[begun.run_id] = UnderWay(begun, None)
                self.idle.clear()
                telling = tasks.create_task(self._tell(under_way), name=f"progress {begun.run_id}")
                tasks.create_task(self._carry_out(under_way, telling), name=f"run {begun.run_id}")

    def _displace(self, priority: int) -> None:
        if any(each.draining for each in self.under_way.values()):
            return  # a place is about to be free
        least = min(self.under_way.values(), key=lambda each: each.run.priority)
        if least.run.priority < priority:
            log.info("a run makes place", run_id=least.run.run_id, priority=least.run.priority)
            least.drain()

    async def _carry_out(self, under_way: UnderWay, telling: "asyncio.Task[None]") -> None:
        run_id = under_way.run.run_id
        try:
            with structlog.contextvars.bound_contextvars(run_id=run_id):
                try:
                    summary = await self._execute(under_way)
                    await self._settle(run_id, _state_after(summary, under_way), summary.error)
                except BatchscanError as error:
                    log.error("run failed", reason=str(error))  # noqa: TRY400 - foreseen: the message says all
                    await self._settle(run_id, QueueState.FAILED, _problem(error))
                except Exception as error:
                    log.exception("run failed: this is a defect of batchscan, please report it")
                    text = scrub(f"{type(error).__name__}: {error}")
                    await self._settle(run_id, QueueState.FAILED, Problem("internal-error", text))
        finally:
            telling.cancel()
            del self.under_way[run_id]
            if not self.under_way:
                self.idle.set()
            self._queue.changed.set()

    async def _execute(self, under_way: UnderWay) -> Summary:
        run = under_way.run
        config = await asyncio.to_thread(self._orders.config, run.run_id, run.work)
        under_way.stats.rate = config.create_rate
        session = await self._stations.session(config, under_way.stats, run.priority)
        under_way.attach(session)
        now = await self._queue.rows.get(run.run_id)
        if now is not None and now.cancelled:  # between its beginning and its being under way
            under_way.cancel()
        record = await self._runs.get(run.run_id)
        gate = Gate(fail_on=run.work.fail_on)
        terms = Terms(wait=run.work.wait, gate=gate, budget=run.work.budget)
        if record is None:
            reports = config.state_dir / REPORTS_DIRECTORY
            await asyncio.to_thread(reports.mkdir, mode=0o700, exist_ok=True)
            return await session.scan(
                run.work.request,
                terms,
                spool=None,
                output=reports / f"{run.run_id}.jsonl",
                overwrite=False,
                run_id=run.run_id,
            )
        if record.state is RunState.COMPLETE:  # only the queue had not been told before a kill
            if record.summary is None:
                raise NothingMatchedError("nothing to scan: the sources held no input")
            return decode_summary(record.summary)
        return await session.resume(record, terms)

    async def _settle(self, run_id: str, state: QueueState | None, problem: Problem | None) -> None:
        """Note how it ended; a ledger that fails for a while is tried again, until the service stops."""
        for wait_s in (*_AGAIN_S, None):
            try:
                if state is not None:
                    await self._queue.end(run_id, state, problem)
                elif not self._stopping:
                    await self._queue.put_back(run_id)
                return
            except LedgerError as error:
                log.error("the end of a run could not be noted", run_id=run_id, reason=str(error))  # noqa: TRY400 - as above
                if wait_s is None or self._stopping:
                    return
                await asyncio.sleep(wait_s)

    async def _tell(self, under_way: UnderWay) -> None:
        """Publish how far it is, when that has changed."""
        told = None
        while True:
            await asyncio.sleep(_TELL_S)
            now = progress_of(under_way.stats)
            if now != told:
                told = now
                self._broker.publish(PROGRESS, under_way.run.run_id, now.model_dump(mode="json"))


def _state_after(summary: Summary, under_way: UnderWay) -> QueueState | None:
    """Tell how a run ended; None when it only stopped, to go on later."""
    end = _ENDS.get(summary.state)
    if end is not None:
        return end
    return QueueState.CANCELLED if under_way.cancelled else None


def _problem(error: BatchscanError) -> Problem:
    code = error.code if isinstance(error, ServiceError) else _CODES.get(type(error), "failed")
    return Problem(code, scrub(str(error)))


_CODES: Final[dict[type[BatchscanError], str]] = {NothingMatchedError: "nothing-matched"}

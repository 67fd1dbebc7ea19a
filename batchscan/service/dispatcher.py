"""The dispatcher: carries out the queue's runs, the most urgent first, a bounded number at a time.

A run that fails is ``failed`` and says why; the others go on. Only a defect of the dispatcher itself ends it,
and with it the service. When all places are taken and something more urgent waits, the least urgent run
is drained and waits for its turn again: what it has submitted goes on at the service meanwhile.
"""

import asyncio
from contextlib import suppress
from itertools import chain, repeat
from typing import Final

import structlog

from batchscan.errors import BatchscanError, LedgerError, NothingMatchedError, ServiceError
from batchscan.ledger.queue import QueuedRun, QueueState
from batchscan.logs import scrub
from batchscan.models import Problem, RunState
from batchscan.report.summary import Summary
from batchscan.service.accounts import Accounts
from batchscan.service.executor import Executor, UnderWay
from batchscan.service.queue import RunQueue

log = structlog.get_logger(__name__)

PART: Final = "dispatcher"
_LOOK_S: Final = 5.0
_BEAT_S: Final = 120.0
"""Longer than the ledger may be locked by another process."""

_AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_ABANDONED: Final = (QueueState.CANCELLED, QueueState.FAILED)
_ENDS: Final = {RunState.COMPLETE: QueueState.COMPLETE, RunState.INCOMPLETE: QueueState.INCOMPLETE}


class Dispatcher:
    """Carries runs out.

    Args:
        queue: where they come from.
        executor: carries out one.
        accounts: are told how far they are.
        max_runs: how many at a time.

    Attributes:
        under_way: what is being carried out.
        idle: set while nothing is.
    """

    def __init__(self, queue: RunQueue, executor: Executor, accounts: Accounts, *, max_runs: int) -> None:
        self._queue = queue
        self._executor = executor
        self._accounts = accounts
        self._max_runs = max_runs
        self._stopping = asyncio.Event()
        self.under_way: dict[str, UnderWay] = {}
        self.idle = asyncio.Event()
        self.idle.set()

    async def run(self) -> None:
        """Serve until ``drain``; then return when all runs have stopped."""
        self._accounts.pulse.beat(PART, within_s=_BEAT_S)
        for run in await self._queue.take_back():
            log.warning("a run goes on that was not ended", run_id=run.run_id, state=run.state)
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping.is_set():
                self._accounts.pulse.beat(PART, within_s=_BEAT_S)
                self._queue.changed.clear()
                await self._fill(tasks)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._queue.changed.wait()
            self._accounts.pulse.end(PART)

    def drain(self) -> None:
        """Begin nothing more, and let what runs stop; it goes on at the next start."""
        self._stopping.set()
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
        try:
            for waiting in await self._queue.rows.next(self._max_runs):
                if self._stopping.is_set():
                    return
                if len(self.under_way) >= self._max_runs:
                    self._displace(waiting.priority)
                    return
                begun = await self._queue.begin(waiting.run_id)
                if begun is not None:
                    self._begin(begun, tasks)
        except LedgerError as error:
            # runs say so themselves; it is looked at again soon
            log.error("the queue cannot be read", reason=str(error))  # noqa: TRY400 - foreseen: the message says all

    def _begin(self, run: QueuedRun, tasks: asyncio.TaskGroup) -> None:
        under_way = self.under_way[run.run_id] = UnderWay(run)
        self.idle.clear()
        following = tasks.create_task(self._accounts.follow(under_way), name=f"progress {run.run_id}")
        tasks.create_task(self._carry_out(under_way, following), name=f"run {run.run_id}")

    def _displace(self, priority: int) -> None:
        if any(each.draining for each in self.under_way.values()):
            return  # a place is about to be free
        least = min(self.under_way.values(), key=lambda each: each.run.priority)
        if least.run.priority < priority:
            log.info("a run makes place", run_id=least.run.run_id, priority=least.run.priority)
            least.drain()

    async def _carry_out(self, under_way: UnderWay, following: "asyncio.Task[None]") -> None:
        run_id = under_way.run.run_id
        try:
            with structlog.contextvars.bound_contextvars(run_id=run_id):
                state, problem = await self._executed(under_way)
            await self._settle(run_id, state, problem)
        finally:
            following.cancel()
            del self.under_way[run_id]
            if not self.under_way:
                self.idle.set()
            self._queue.changed.set()

    async def _executed(self, under_way: UnderWay) -> tuple[QueueState | None, Problem | None]:
        """Carry a run out; tell how it ended, None when it only stopped, to go on later."""
        try:
            now = await self._queue.rows.get(under_way.run.run_id)
            if now is not None and now.cancelled:  # between its beginning and its being under way
                under_way.cancel()
            summary = await self._executor.execute(under_way)
        except BatchscanError as error:
            # whoever asked for what is not there is told so; it is no fault of the service
            tell = log.warning if isinstance(error, NothingMatchedError) else log.error
            tell("run failed", reason=str(error))
            self._accounts.failed(under_way, error)
            return QueueState.FAILED, _problem(error)
        except Exception as error:
            log.exception("run failed: this is a defect of batchscan, please report it")
            self._accounts.failed(under_way, error)
            return QueueState.FAILED, Problem("internal-error", scrub(f"{type(error).__name__}: {error}"))
        self._accounts.ended(under_way, summary)
        return _state_after(summary, under_way), summary.error

    async def _settle(self, run_id: str, state: QueueState | None, problem: Problem | None) -> None:
        """Note how it ended; a ledger that fails for a while is tried again, until the service stops."""
        for wait_s in chain(_AGAIN_S, repeat(_AGAIN_S[-1])):
            try:
                if state in _ABANDONED:
                    await self._executor.abandon(run_id)
                if state is not None:
                    await self._queue.end(run_id, state, problem)
                elif not self._stopping.is_set():
                    await self._queue.put_back(run_id)
                return
            except LedgerError as error:
                log.error("the end of a run could not be noted", run_id=run_id, reason=str(error))  # noqa: TRY400 - as above
                if self._stopping.is_set():
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._stopping.wait()


def _state_after(summary: Summary, under_way: UnderWay) -> QueueState | None:
    end = _ENDS.get(summary.state)
    if end is not None:
        return end
    return QueueState.CANCELLED if under_way.cancelled else None


def _problem(error: BatchscanError) -> Problem:
    code = error.code if isinstance(error, ServiceError) else _CODES.get(type(error), "failed")
    return Problem(code, scrub(str(error)))


_CODES: Final[dict[type[BatchscanError], str]] = {NothingMatchedError: "nothing-matched"}

"""The pipeline: wires one run and owns its tasks.

Three tasks: the producer discovers and admits, the scheduler wakes due digests for the stages, the
settler writes the rows of digests that are finished. They meet only in the ledger and in one bounded
queue of digests. A task that dies ends the run, loudly.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog
from structlog.contextvars import bound_contextvars

from batchscan.admit import Admitter
from batchscan.budget import unaffordable_in, why_unsent
from batchscan.errors import BatchscanError, ReportError
from batchscan.ledger.budget import Leftover
from batchscan.ledger.owners import is_alive
from batchscan.ledger.scans import Scans
from batchscan.ledger.standing import Freshness, Waiting
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import Candidate, Problem, Stage
from batchscan.outage import RunStoppedError
from batchscan.record import Recorder
from batchscan.scheduler import Scheduler, Wake
from batchscan.settlement import Settlement
from batchscan.stages import GivenUp, Gone, Next, Settled, Stages
from batchscan.stats import Stats

log = structlog.get_logger(__name__)

_SWEEP_S = 5.0
_SWEEP_REST = 20.0
"""After a sweep, rest this many times as long as it took."""

_BEHIND_S = 60.0
"""By the time that the ledger is looked at, other processes may have set wake-ups so much later than now."""

_TICK_S = 0.2
_DRAIN_S = 8.0


class CoverageError(BatchscanError):
    """Rows and inputs do not match: a defect of batchscan, told instead of a wrong total."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does and does not do.

    Attributes:
        wait: poll for verdicts; else the run ends when all is submitted.
        max_age_s: reuse only verdicts scanned within these seconds; None reuses all that live.
        submits, polls: calls of each stage at the same time.
    """

    wait: bool = True
    max_age_s: float | None = None
    submits: int = 16
    polls: int = 32


class Ending(msgspec.Struct, frozen=True):
    """How a run ended.

    Attributes:
        drained: it was told to stop; rows are missing, and it can be resumed.
        stopped: the service refused it.
        pending: inputs that have a row but no verdict yet.
        unaffordable: what the budget did not reach, None when it reached all.
    """

    drained: bool
    stopped: RunStoppedError | None
    pending: int
    unaffordable: Leftover | None = None


class Pipeline:
    """One run, from candidates to rows.

    Args:
        run: the run's number in the ledger.
        candidates: batches of inputs.
        admitter, scans, waiting, stages, recorder: the rooms it wires.
        owners: directory of the owner locks.
        resumed: candidates may have a row already.
    """

    def __init__(  # noqa: PLR0913 - the wiring: everything meets here, and only here
        self,
        *,
        run: int,
        candidates: AsyncGenerator[list[Candidate], None],
        admitter: Admitter,
        scans: Scans,
        waiting: WaitingInputs,
        stages: Stages,
        recorder: Recorder,
        stats: Stats,
        owners: Path,
        policy: Policy,
        resumed: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run = run
        self._candidates = candidates
        self._admitter = admitter
        self._backlog = scans.backlog
        self._budget = scans.budget
        self._chooses = scans.budget is not None and scans.budget.chooses
        self._waiting = waiting
        self._stages = stages
        self._recorder = recorder
        self._stats = stats
        self._owners = owners
        self._policy = policy
        self._resumed = resumed
        self._clock = clock
        self._settlement = Settlement(waiting, recorder, admitter, self._fresh)
        self._changed = asyncio.Event()
        self._draining = False
        self._discovered = False
        self._inputs = recorder.tally.inputs + stats.waiting  # what a resumed run has taken up
        self._stopped: RunStoppedError | None = None
        self._unwritten: ReportError | None = None
        limits = {Stage.SUBMIT: policy.submits}
        if policy.wait:
            limits[Stage.POLL] = policy.polls
        self._scheduler = Scheduler(self._due, self._act, limits, clock=clock)

    def drain(self) -> None:
        """Begin nothing more; what is under way ends, and the run can be resumed."""
        self._draining = True
        self._changed.set()

    async def run(self) -> Ending:
        """Serve until every input has its row, or as far as the service and the operator let it.

        Raises:
            BatchscanError: the ledger or the report failed; what is recorded stays recorded.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                producer = tasks.create_task(self._in_order(self._produce))
                settler = tasks.create_task(self._in_order(self._settlement.run))
                scheduler = tasks.create_task(self._scheduler.run())
                await self._in_order(self._watch)
                producer.cancel()
                self._scheduler.stop()
                _, late = await asyncio.wait({scheduler}, timeout=_DRAIN_S)
                for task in late:
                    task.cancel()
                settled = tasks.create_task(self._settlement.drained())
                await asyncio.wait({settled, settler}, return_when=asyncio.FIRST_COMPLETED)
                settled.cancel()
                settler.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        if self._unwritten is not None:
            raise self._unwritten
        return await self._end()

    async def _in_order(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let a report that cannot be written end the run in order: answers to what was sent are recorded."""
        try:
            await work()
        except ReportError as error:
            self._unwritten = self._unwritten or error
            self.drain()

    async def _end(self) -> Ending:
        drained = self._draining and not (self._discovered and await self._waiting.count() == 0)
        unaffordable, pending = None, 0
        if not drained:
            unaffordable = None if self._stopped is not None else await unaffordable_in(self._budget)
            pending = await self._settlement.leave(await self._why_left())
        await self._recorder.sync()
        rows = self._recorder.tally.inputs
        if not drained and rows != self._inputs:
            raise CoverageError(
                f"the report has {rows} rows for {self._inputs} inputs; this is a defect of batchscan:"
                " please report it, and do not rely on this report"
            )
        return Ending(drained, self._stopped, pending, unaffordable)

    async def _why_left(self) -> Callable[[Waiting], Problem | None]:
        """Tell of inputs that get a pending row why."""
        if self._stopped is not None:
            problem = self._stopped.problem
            return lambda _: problem
        return await why_unsent(self._budget)

    async def _produce(self) -> None:
        async with aclosing(self._candidates) as batches:
            async for batch in batches:
                candidates = await self._waiting.unreported(batch) if self._resumed else batch
                self._stats.found += len(candidates)  # the others were counted when they were taken up
                self._inputs += len(candidates)
                await self._admit(candidates)
        self._discovered = self._stats.discovery_done = True
        self._changed.set()

    async def _admit(self, batch: list[Candidate]) -> None:
        if not batch:
            return
        admitted = await self._admitter.admit(batch, self._fresh())
        written = await self._recorder.admitted(admitted.decisions, admitted.rejections)
        self._stats.waiting += len(batch) - written
        if written < len(batch):
            self._scheduler.nudge()

    async def _act(self, stage: Stage, digest: bytes) -> Wake | None:
        act = self._stages.submit if stage is Stage.SUBMIT else self._stages.poll
        try:
            with bound_contextvars(stage=stage, sha256=digest.hex()):
                step = await act(digest)
        except RunStoppedError as stopped:
            self._stop(stopped)
            return None
        if isinstance(step, Wake):
            return step
        await self._in_order(partial(self._follow, step, digest))
        self._changed.set()
        return None

    async def _follow(self, step: Next, digest: bytes) -> None:
        """Do what is to be done about a digest that needs no further call."""
        if isinstance(step, Settled):
            await self._settlement.finished(digest)
            if self._chooses:
                self._scheduler.nudge()  # what was reserved and is not billed can be spent on something else
        elif isinstance(step, GivenUp):
            await self._waiting.give_up(digest)
        elif isinstance(step, Gone):
            await self._settlement.readmit(digest)
            self._scheduler.nudge()

    def _stop(self, stopped: RunStoppedError) -> None:
        if self._stopped is None:
            self._stopped = stopped
            log.error("run stopped", code=stopped.problem.code, reason=str(stopped), advice=stopped.advice)
        self._scheduler.drop(Stage.SUBMIT)
        if not stopped.polls:
            self._scheduler.drop(Stage.POLL)
        self._changed.set()

    async def _watch(self) -> None:
        """Return when there is nothing more to do, or when told to drain."""
        sweep_at = 0.0
        while not self._draining:
            self._changed.clear()
            if self._discovered and await self._is_over():
                return
            began = time.monotonic()
            if began >= sweep_at:
                await self._sweep()
                ended = time.monotonic()
                sweep_at = ended + max(_SWEEP_S, _SWEEP_REST * (ended - began))
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._changed.wait()

    async def _is_over(self) -> bool:
        """Whether nothing runs and nothing will come forward in the stages that are served."""
        if await self._anything_left():
            return False
        await self._sweep()  # a digest may have been given up, or readmitted, since the last one
        return not await self._anything_left()

    async def _anything_left(self) -> bool:
        return not self._scheduler.idle or await self._backlog.any_left(self._run, self._scheduler.stages)

    async def _sweep(self) -> None:
        """Take over from dead processes, and settle what other processes have finished."""
        owners = await self._backlog.owners()
        dead = [name for name in owners if not await asyncio.to_thread(is_alive, self._owners, name)]
        if dead:
            freed = await self._backlog.take_back(dead, now=self._clock())
            log.info("took back claims of processes that died", claims=freed)
        late = await self._backlog.pull_in(self._clock() + self._stages.farthest_s + _BEHIND_S)
        if late:
            log.warning("the clock was set back; wake-ups are pulled in", digests=late)
        if dead or late:
            self._scheduler.nudge()
        await self._settlement.sweep(lambda: not self._draining)

    async def _due(self, stage: Stage, until: float, limit: int) -> list[tuple[bytes, float]]:
        return await self._backlog.due(self._run, stage, until=until, limit=limit)

    def _fresh(self) -> Freshness:
        now = self._clock()
        return Freshness(now, 0.0 if self._policy.max_age_s is None else now - self._policy.max_age_s)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose the error to report: ours, if one of the group is."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((e for e in leaves if isinstance(e, BatchscanError)), leaves[0])

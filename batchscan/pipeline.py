"""The pipeline: wires one run and owns its tasks.

Three tasks: the producer discovers and admits, the scheduler wakes due digests for the stages, the
settler writes the rows of digests that are finished. They meet only in the ledger and in one bounded
queue of digests. A task that dies ends the run, loudly.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import structlog

from batchscan.admit import Admitter
from batchscan.errors import BatchscanError
from batchscan.ledger.owners import is_alive
from batchscan.ledger.scans import Scans
from batchscan.ledger.standing import Freshness, Waiting, candidate_key
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import Candidate, Problem, Stage
from batchscan.outage import RunStoppedError
from batchscan.record import Recorder
from batchscan.scheduler import Scheduler, Wake
from batchscan.stages import GivenUp, Gone, Settled, Stages
from batchscan.stats import Stats
from batchscan.walk import look

log = structlog.get_logger(__name__)

_QUEUE = 1000
_PAGE = 500
_SWEEP_S = 5.0
_TICK_S = 0.2
_DRAIN_S = 8.0
_READMISSIONS = 3
_CHANGING = Problem("changing", "the file changed each time it was to be sent; scan it again later")


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
    """

    drained: bool
    stopped: RunStoppedError | None
    pending: int


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
        candidates: AsyncIterator[list[Candidate]],
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
        self._scans = scans
        self._waiting = waiting
        self._stages = stages
        self._recorder = recorder
        self._stats = stats
        self._owners = owners
        self._policy = policy
        self._resumed = resumed
        self._clock = clock
        self._finished: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)
        self._changed = asyncio.Event()
        self._settling = asyncio.Lock()
        self._draining = False
        self._stopped: RunStoppedError | None = None
        self._readmitted: Counter[bytes] = Counter()
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
                producer = tasks.create_task(self._produce())
                settler = tasks.create_task(self._settle_all())
                scheduler = tasks.create_task(self._scheduler.run())
                await self._watch()
                producer.cancel()
                self._scheduler.stop()
                _, late = await asyncio.wait({scheduler}, timeout=_DRAIN_S)
                for task in late:
                    task.cancel()
                await self._finished.join()
                settler.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        pending = 0 if self._draining else await self._leave()
        await self._recorder.sync()
        return Ending(self._draining, self._stopped, pending)

    async def _produce(self) -> None:
        async for batch in self._candidates:
            candidates = await self._waiting.unreported(batch) if self._resumed else batch
            self._stats.found += len(candidates)
            await self._admit(candidates)
        self._stats.discovery_done = True
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
        try:
            step = await (self._stages.submit if stage is Stage.SUBMIT else self._stages.poll)(digest)
        except RunStoppedError as stopped:
            self._stop(stopped)
            return None
        if isinstance(step, Wake):
            return step
        if isinstance(step, Settled):
            await self._finished.put(digest)
        elif isinstance(step, GivenUp):
            await self._waiting.give_up(digest)
        elif isinstance(step, Gone):
            await self._readmit(digest)
        self._changed.set()
        return None

    def _stop(self, stopped: RunStoppedError) -> None:
        if self._stopped is None:
            self._stopped = stopped
            log.error("run stopped", code=stopped.problem.code, reason=str(stopped), advice=stopped.advice)
        self._scheduler.drop(Stage.SUBMIT)
        if not stopped.polls:
            self._scheduler.drop(Stage.POLL)
        self._changed.set()

    async def _readmit(self, digest: bytes) -> None:
        """Admit inputs anew whose files no longer hold the digest's bytes."""
        async with self._settling:
            await self._readmit_pages(digest)
        self._scheduler.nudge()

    async def _readmit_pages(self, digest: bytes) -> None:
        async for page in self._pages([digest]):
            before = {w.key: w for w in page}
            looked = [await asyncio.to_thread(_look_again, w.candidate) for w in page]
            self._readmitted.update(before)
            steady = [c for c in looked if self._readmitted[candidate_key(c)] <= _READMISSIONS]
            admitted = await self._admitter.admit(steady, self._fresh(), instead_of=page)
            decided = [d for d in admitted.decisions if not d.waits]
            await self._recorder.admitted(decided, ())
            lost = [(before[candidate_key(c)], r.problem) for c, r in admitted.rejections]
            lost += [(before[candidate_key(c)], _CHANGING) for c in looked if c not in steady]
            await self._recorder.lost(lost)
            rows = [before[candidate_key(d.item.candidate)] for d in decided] + [w for w, _ in lost]
            await self._recorder.forget(rows)

    async def _settle_all(self) -> None:
        while True:
            digests = {await self._finished.get()}
            taken = 1
            while not self._finished.empty() and taken < _PAGE:
                digests.add(self._finished.get_nowait())
                taken += 1
            await self._settle(sorted(digests))
            for _ in range(taken):
                self._finished.task_done()
            self._changed.set()

    async def _watch(self) -> None:
        """Return when there is nothing more to do, or when told to drain."""
        sweep_at = 0.0
        while not self._draining:
            self._changed.clear()
            if self._stats.discovery_done and self._finished.empty():
                if self._stats.waiting == 0:
                    return
                if self._scheduler.idle and not await self._work_left():
                    await self._sweep()
                    if self._scheduler.idle and not await self._work_left():
                        return
            if self._clock() >= sweep_at:
                began = self._clock()
                await self._sweep()
                sweep_at = self._clock() + max(_SWEEP_S, 20 * (self._clock() - began))
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._changed.wait()

    async def _work_left(self) -> bool:
        """Whether a digest may still come forward in one of the stages that are served."""
        for stage in self._scheduler.stages:
            if await self._due(stage, float("inf"), 1):
                return True
        return False

    async def _sweep(self) -> None:
        """Take over from dead processes, and settle what other processes have finished."""
        me_and_others = await self._scans.owners()
        dead = [name for name in me_and_others if not await asyncio.to_thread(is_alive, self._owners, name)]
        if dead:
            freed = await self._scans.take_back(dead, now=self._clock())
            log.info("took back claims of processes that died", claims=freed)
            self._scheduler.nudge()
        await self._settle(None)

    async def _settle(self, digests: list[bytes] | None) -> None:
        """Write the rows of inputs whose digest is finished; all such inputs where none is named."""
        async with self._settling:  # from reading that an input waits until it waits no longer
            async for page in self._pages(digests, finished=True):
                await self._recorder.settled(page)

    async def _leave(self) -> int:
        """Give every input that still waits its pending row."""
        problem = None if self._stopped is None else self._stopped.problem
        count = 0
        async for page in self._pages(None):
            await self._recorder.pending(page, problem)
            count += len(page)
        return count

    async def _pages(
        self, digests: list[bytes] | None, *, finished: bool = False
    ) -> AsyncIterator[list[Waiting]]:
        last: Waiting | None = None
        while page := await self._waiting.page(digests, after=last, limit=_PAGE, finished=finished):
            last = page[-1]
            yield page

    async def _due(self, stage: Stage, until: float, limit: int) -> list[tuple[bytes, float]]:
        return await self._scans.due(self._run, stage, until=until, limit=limit)

    def _fresh(self) -> Freshness:
        now = self._clock()
        return Freshness(now, 0.0 if self._policy.max_age_s is None else now - self._policy.max_age_s)


def _look_again(candidate: Candidate) -> Candidate:
    seen = look(partial(os.stat, candidate.location or b""))
    if isinstance(seen, Problem):
        return msgspec.structs.replace(candidate, stat=None, problem=seen)
    return msgspec.structs.replace(candidate, stat=seen, problem=None)


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

"""The queue of runs as the rooms of the service use it: what they put in is kept, told, and carried out.

``enqueue`` is the one way in, for the API, for schedules and for what watches directories.
"""

import asyncio
import time
from typing import Final

from batchscan.ledger.queue import Queue, QueuedRun, QueueState, Work
from batchscan.models import Problem
from batchscan.service.events import STATE, EventBroker
from batchscan.session import new_run_id

AD_HOC: Final = 50
"""Priority of what a caller asks for; a schedule's runs have 0, unless its table says otherwise."""

HIGHEST: Final = 100
ORIGIN_API: Final = "api"


class RunQueue:
    """Runs that were asked for, with whoever waits to hear of them.

    Attributes:
        rows: the table.
        changed: set when there may be something to begin.
    """

    def __init__(self, rows: Queue, broker: EventBroker) -> None:
        self.rows = rows
        self.changed = asyncio.Event()
        self._broker = broker

    async def enqueue(
        self,
        work: Work,
        *,
        priority: int,
        origin: str,
        key: str | None = None,
        fingerprint: bytes | None = None,
    ) -> tuple[QueuedRun, bool]:
        """Put a run into the line; it is safe when this returns.

        Args:
            work: what it is to do.
            priority: the higher, the sooner; it also goes first at the cap.
            origin: who asks: ``ORIGIN_API``, or what ``schedules.schedule.origin_of`` says.
            key: the same key is the same run, however often it comes.
            fingerprint: of all that came with the key.

        Returns:
            The run, and whether it is new.

        Raises:
            KeyReusedError: the key came with something else.
            LedgerError: the ledger failed.
        """
        run, new = await self.rows.add(
            new_run_id(),
            work,
            priority=priority,
            origin=origin,
            now=time.time(),
            key=key,
            fingerprint=fingerprint,
        )
        if new:
            self.announce(run)
        return run, new

    def announce(self, run: QueuedRun) -> None:
        """Tell of a run that was put into the line together with something else."""
        self._tell(run)
        self.changed.set()

    async def begin(self, run_id: str) -> QueuedRun | None:
        """Let a run begin or go on; None when it is not in the line any more."""
        return self._told(await self.rows.begin(run_id, now=time.time()))

    async def end(self, run_id: str, state: QueueState, problem: Problem | None = None) -> QueuedRun | None:
        """Note how a run ended."""
        return self._told(await self.rows.end(run_id, state, now=time.time(), problem=problem))

    async def put_back(self, run_id: str) -> QueuedRun | None:
        """Let a run that has stopped wait for its turn again."""
        self.changed.set()
        return self._told(await self.rows.put_back(run_id))

    async def cancel(self, run_id: str) -> QueuedRun | None:
        """Ask for a run's end. None when it has ended, or is not known."""
        self.changed.set()
        return self._told(await self.rows.cancel(run_id, now=time.time()))

    async def take_back(self) -> list[QueuedRun]:
        """Take up what an earlier process left; call it once, before anything begins."""
        found = await self.rows.take_back(now=time.time())
        for run in found:
            self._tell(run)
        return found

    def _told(self, run: QueuedRun | None) -> QueuedRun | None:
        if run is not None:
            self._tell(run)
        return run

    def _tell(self, run: QueuedRun) -> None:
        problem = run.problem
        self._broker.publish(
            STATE,
            run.run_id,
            {
                "state": run.state,
                "priority": run.priority,
                "origin": run.origin,
                "cancelled": run.cancelled,
                "problem": None if problem is None else {"code": problem.code, "message": problem.message},
            },
            last=run.state.is_end,
        )

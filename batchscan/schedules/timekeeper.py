"""The timekeeper: puts the runs that are due into the service's queue.

One transaction holds all that one look at the clock leads to: the runs in the queue, and for each schedule
the step to its next due time. So a kill at any moment neither misses a due time nor runs it twice; and where
the clock was put back so far that one comes again, the key of its run is known already.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from batchscan.errors import LedgerError, NothingMatchedError, UsageError
from batchscan.ledger.aftermaths import Plan, owe
from batchscan.ledger.queue import (
    Enqueued,
    KeyReusedError,
    QueuedRun,
    Work,
    enqueue,
    known_by,
    open_origins,
)
from batchscan.ledger.schedules import forget_others, keep, standings
from batchscan.ledger.store import Ledger
from batchscan.schedules.schedule import Schedule, origin_of
from batchscan.schedules.turn import Turn, decide

_log = structlog.get_logger(__name__)

LONGEST_SLEEP_S: Final = 20.0
"""The clock may be put forward meanwhile."""


class Assignment(msgspec.Struct, frozen=True):
    """A schedule with what it runs.

    Attributes:
        work: makes it, as things are in the ledger at that moment; None where there is nothing to do.
        plan: of what is to follow.
    """

    schedule: Schedule
    work: Callable[[Connection], Work | None]
    plan: Plan = Plan()


class Event(msgspec.Struct, frozen=True):
    """What a look at the clock led to, for one schedule.

    Attributes:
        run: of this due time, in the queue; None where there is none.
        again: the due time had it before.
    """

    name: str
    turn: Turn
    run: QueuedRun | None = None
    again: bool = False


class BusyError(UsageError):
    """A schedule is to run now, and its run before is not over."""


class Timekeeper:
    """Looks at the clock for the schedules of a settings file.

    Args:
        ledger: holds how far they came, and the queue.
        assignments: by the schedule's name.
        new_run_id: makes ids.
        on_enqueued: told of each run that has been put into the queue.
        clock: epoch seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        assignments: Mapping[str, Assignment],
        *,
        new_run_id: Callable[[], str],
        on_enqueued: Callable[[QueuedRun], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._assignments = assignments
        self._new_run_id = new_run_id
        self._on_enqueued = on_enqueued
        self._clock = clock

    async def run(self) -> None:
        """Keep time until cancelled. A ledger that fails for a while is tried again."""
        begun = False
        while True:
            pause = LONGEST_SLEEP_S
            try:
                if not begun:
                    await self.begin()
                    begun = True
                next_at = await self.look()
                if next_at is not None:
                    pause = min(max(next_at - self._clock(), 0.0), pause)
            except LedgerError as error:
                _log.error("schedules-not-looked-at", reason=str(error))
            await asyncio.sleep(pause)

    async def begin(self) -> None:
        """Forget the schedules that are not in the settings file any more.

        Raises:
            LedgerError: the ledger failed.
        """
        gone = await self._ledger.write(lambda c: forget_others(c, tuple(self._assignments)))
        if gone:
            _log.info("schedules-removed", schedules=gone)

    async def look(self) -> float | None:
        """Put what is due now into the queue.

        Returns:
            When the next one is due, epoch seconds; None where none ever is.

        Raises:
            LedgerError: the ledger failed; the next look finds the same.
        """
        events, next_at = await self._ledger.write(partial(self._decide, now=self._clock()))
        for event in events:
            if event.run is not None and not event.again:
                self._on_enqueued(event.run)
            _tell(event)
        return next_at

    async def run_now(
        self, name: str, *, key: str | None = None, fingerprint: bytes | None = None
    ) -> tuple[QueuedRun, bool]:
        """Put a run of a schedule into the queue whatever the time is; its due times stay as they are.

        Args:
            name: of the schedule, which may be switched off.
            key: the same key is the same run, however often it comes.
            fingerprint: of all that came with the key.

        Returns:
            The run, and whether it is new.

        Raises:
            KeyError: there is no such schedule.
            BusyError: its run before is not over.
            NothingMatchedError: there is nothing to submit again.
            KeyReusedError: the key came with something else.
            LedgerError: the ledger failed.
        """
        assignment = self._assignments[name]
        origin, run_id, now = origin_of(name), self._new_run_id(), self._clock()

        def put(connection: Connection) -> tuple[QueuedRun, bool]:
            known = None if key is None else known_by(connection, key, fingerprint)
            if known is not None:
                return known, False
            if origin in open_origins(connection):
                raise BusyError(f"the run before of schedule {name} is not over; wait for it, or end it")
            work = assignment.work(connection)
            if work is None:
                raise NothingMatchedError(f"schedule {name} has nothing to submit again")
            new = Enqueued(run_id, work, assignment.schedule.priority, origin, key, fingerprint)
            run, fresh = enqueue(connection, new, now=now)
            owe(connection, run_id, name, assignment.plan)
            return run, fresh

        run, new = await self._ledger.write(put)
        if new:
            self._on_enqueued(run)
            _log.info("schedule-run-now", schedule=name, run_id=run.run_id)
        return run, new

    def _decide(self, connection: Connection, now: float) -> tuple[list[Event], float | None]:
        before, busy = standings(connection), open_origins(connection)
        events = []
        for name, assignment in self._assignments.items():
            turn = decide(assignment.schedule, before.get(name), now=now, busy=origin_of(name) in busy)
            if turn is not None:
                event = self._carry_out(connection, name, turn, now)
                keep(connection, name, event.turn.standing)
                before[name] = event.turn.standing
                events.append(event)
        upcoming = [s.next_at for name in self._assignments if (s := before[name]).next_at is not None]
        return events, min(upcoming, default=None)

    def _carry_out(self, connection: Connection, name: str, turn: Turn, now: float) -> Event:
        assignment = self._assignments[name]
        work = None if turn.due is None else assignment.work(connection)
        if turn.due is None or work is None:
            return Event(name, turn)
        new = Enqueued(
            self._new_run_id(),
            work,
            priority=assignment.schedule.priority,
            origin=origin_of(name),
            key=f"{origin_of(name)} @ {_written(turn.due)}",
        )
        try:
            run, fresh = enqueue(connection, new, now=now)
        except KeyReusedError:  # a caller of the API made up this very key: theirs is another run
            run, fresh = enqueue(connection, msgspec.structs.replace(new, key=None), now=now)
        owe(connection, run.run_id, name, assignment.plan)
        standing = msgspec.structs.replace(turn.standing, last_run=run.run_id)
        return Event(name, msgspec.structs.replace(turn, standing=standing), run, again=not fresh)


def _tell(event: Event) -> None:
    turn = event.turn
    log = _log.bind(schedule=event.name)
    if turn.clock_back is not None:
        log.warning("clock-put-back", seconds=round(turn.clock_back), next_at=_written(turn.standing.next_at))
    if turn.missed:
        log.warning("schedule-missed", due_times=turn.missed, caught_up=turn.due is not None)
    if turn.skipped is not None:
        log.warning(
            "schedule-skipped",
            due=_written(turn.skipped),
            why="the run before is not over",
            skipped_in_all=turn.standing.skipped,
        )
    if turn.due is not None and event.run is None:
        log.info("schedule-had-nothing-to-do", due=_written(turn.due))
    elif event.run is not None:
        name = "schedule-was-run-already" if event.again else "schedule-due"
        log.info(name, due=_written(turn.due), run_id=event.run.run_id)


def _written(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    )

"""The queue of the service: runs that were asked for, in the order of their turn, and what became of them.

A run is in here from when it is asked for; in ``run`` from when it begins. What one process of the service
began and did not end, because it was killed say, is taken back into the line by the next one.
"""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    Select,
    Update,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    union_all,
    update,
)

from batchscan.errors import UsageError
from batchscan.ledger.padding import padded
from batchscan.ledger.runs import RunRecord, RunRequest, abandon, to_record
from batchscan.ledger.schema import queue, run
from batchscan.ledger.store import Ledger
from batchscan.models import Problem, RiskLevel

COMMAND_LINE = "command line"
"""Where a run comes from that never was in the queue."""


class QueueState(StrEnum):
    """Where a run of the service stands. The last four are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_end(self) -> bool:
        """Whether nothing more will happen to the run by itself."""
        return self not in (QueueState.QUEUED, QueueState.RUNNING)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What a queued run is to do. Its request names sources by absolute paths.

    Attributes:
        request: the inputs, and who judges them.
        wait: poll for verdicts; else the run ends when all is submitted.
        fail_on: the mildest verdict that fails the run.
        budget: files that it may bill; None: no limit.
    """

    request: RunRequest
    wait: bool = True
    fail_on: RiskLevel | None = None
    budget: int | None = None


class QueuedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the queue; times are epoch seconds.

    Attributes:
        cancelled: somebody asked for its end, which may be yet to come.
        fingerprint: of what came with its idempotency key, None without one.
    """

    run_id: str
    state: QueueState
    priority: int
    origin: str
    work: Work
    queued_at: float
    began_at: float | None
    ended_at: float | None
    cancelled: bool
    problem: Problem | None
    fingerprint: bytes | None


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A run, of the service or of the command line.

    Attributes:
        queued: what the queue knows, None of a run of the command line.
        record: the run itself, None before it has begun.
    """

    run_id: str
    queued: QueuedRun | None
    record: RunRecord | None


class KeyReusedError(UsageError):
    """An idempotency key came a second time, with something else to do.

    Attributes:
        run_id: what it stands for.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"the idempotency key stands for run {run_id} already, which was asked for otherwise"
        )
        self.run_id = run_id


class Enqueued(msgspec.Struct, frozen=True):
    """A run that is to be put into the line; ``key`` is its idempotency key, bound to ``fingerprint``."""

    run_id: str
    work: Work
    priority: int
    origin: str
    key: str | None = None
    fingerprint: bytes | None = None


def enqueue(connection: Connection, new: Enqueued, *, now: float) -> tuple[QueuedRun, bool]:
    """Put a run into the line; call inside a ledger write, together with what must come with it.

    Returns:
        The run, or the one that is there with this key, and whether it is new.

    Raises:
        KeyReusedError: the key is known with another fingerprint.
    """
    known = None if new.key is None else known_by(connection, new.key, new.fingerprint)
    if known is not None:
        return known, False
    values = {
        "run_id": new.run_id,
        "state": QueueState.QUEUED,
        "priority": new.priority,
        "origin": new.origin,
        # the standard library escapes the lone surrogates of names that are not UTF-8
        "work": json.dumps(msgspec.to_builtins(new.work)),
        "queued_at": now,
        "cancelled": False,
        "idempotency_key": new.key,
        "fingerprint": new.fingerprint,
    }
    connection.execute(insert(queue).values(values))
    return _queued(connection.execute(_SELECTED.where(queue.c.run_id == new.run_id)).one()), True


def known_by(connection: Connection, key: str, fingerprint: bytes | None) -> QueuedRun | None:
    """Find the run that an idempotency key stands for.

    Raises:
        KeyReusedError: it came with another fingerprint.
    """
    known = connection.execute(_SELECTED.where(queue.c.idempotency_key == key)).one_or_none()
    if known is not None and known.fingerprint != fingerprint:
        raise KeyReusedError(known.run_id)
    return None if known is None else _queued(known)


def open_origins(connection: Connection) -> set[str]:
    """Name those whose runs wait for their turn or are under way."""
    statement = select(queue.c.origin).where(queue.c.state.in_(_OPEN)).distinct()
    return set(connection.execute(statement).scalars())


class Queue:
    """The ``queue`` table."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def add(
        self,
        run_id: str,
        work: Work,
        *,
        priority: int,
        origin: str,
        now: float,
        key: str | None = None,
        fingerprint: bytes | None = None,
    ) -> tuple[QueuedRun, bool]:
        """Put a run into the line; one with a known key is there already.

        Returns:
            The run, and whether it is new.

        Raises:
            KeyReusedError: the key is known with another fingerprint.
        """
        new = Enqueued(run_id, work, priority, origin, key, fingerprint)
        return await self._ledger.write(lambda c: enqueue(c, new, now=now))

    async def get(self, run_id: str) -> QueuedRun | None:
        """Find a run of the queue by its id."""

        def find(connection: Connection) -> QueuedRun | None:
            row = connection.execute(_SELECTED.where(queue.c.run_id == run_id)).one_or_none()
            return None if row is None else _queued(row)

        return await self._ledger.read(find)

    async def find_key(self, key: str) -> QueuedRun | None:
        """Find the run that an idempotency key stands for."""

        def find(connection: Connection) -> QueuedRun | None:
            row = connection.execute(_SELECTED.where(queue.c.idempotency_key == key)).one_or_none()
            return None if row is None else _queued(row)

        return await self._ledger.read(find)

    async def next(self, limit: int) -> list[QueuedRun]:
        """List the runs that wait for their turn, the next one first."""
        return await self._list(
            _SELECTED.where(queue.c.state == QueueState.QUEUED)
            .order_by(queue.c.priority.desc(), queue.c.id)
            .limit(limit)
        )

    async def look_up(self, run_id: str) -> Listed | None:
        """Find any run by its id."""
        found = await self._ledger.read(lambda c: _listed(c, [run_id]))
        return found[0] if found else None

    async def page(
        self, *, before: str | None, limit: int, states: Sequence[str] = (), origin: str | None = None
    ) -> list[Listed]:
        """List runs, the newest first, from the one before ``before`` (a run's id) on.

        Runs of the command line, which never were in the queue, have the origin ``COMMAND_LINE``.
        """
        mine = select(queue.c.run_id)
        others = select(run.c.run_id).where(~exists().where(queue.c.run_id == run.c.run_id))
        if before is not None:
            mine, others = mine.where(queue.c.run_id < before), others.where(run.c.run_id < before)
        if states:
            mine, others = mine.where(queue.c.state.in_(states)), others.where(run.c.state.in_(states))
        if origin is not None:
            mine = mine.where(queue.c.origin == origin)
            others = others.where(literal(origin == COMMAND_LINE))
        both = union_all(mine, others).subquery()
        statement = select(both.c.run_id).order_by(both.c.run_id.desc()).limit(limit)
        return await self._ledger.read(lambda c: _listed(c, list(c.execute(statement).scalars())))

    async def begin(self, run_id: str, *, now: float) -> QueuedRun | None:
        """Let a run begin, or go on; None when it is not in the line any more."""
        statement = (
            update(queue)
            .where(queue.c.run_id == run_id, queue.c.state == QueueState.QUEUED)
            .values(
                state=QueueState.RUNNING,
                began_at=case((queue.c.began_at.is_(None), now), else_=queue.c.began_at),
            )
        )
        return await self._changed(run_id, statement)

    async def end(
        self, run_id: str, state: QueueState, *, now: float, problem: Problem | None = None
    ) -> QueuedRun | None:
        """Note how a run ended; None when it had ended before."""
        statement = (
            update(queue)
            .where(queue.c.run_id == run_id, queue.c.state.in_(_OPEN))
            .values(state=state, ended_at=now, problem=_encoded(problem))
        )
        return await self._changed(run_id, statement)

    async def put_back(self, run_id: str) -> QueuedRun | None:
        """Let a run that has stopped wait for its turn again."""
        statement = (
            update(queue)
            .where(queue.c.run_id == run_id, queue.c.state == QueueState.RUNNING)
            .values(state=QueueState.QUEUED)
        )
        return await self._changed(run_id, statement)

    async def cancel(self, run_id: str, *, now: float) -> QueuedRun | None:
        """Ask for a run's end: at once where it is not under way. None when it has ended, or is not known."""
        waits = queue.c.state == QueueState.QUEUED
        statement = (
            update(queue)
            .where(queue.c.run_id == run_id, queue.c.state.in_(_OPEN))
            .values(
                cancelled=True,
                state=case((waits, QueueState.CANCELLED), else_=queue.c.state),
                ended_at=case((waits, now), else_=null()),
            )
        )

        def work(connection: Connection) -> QueuedRun | None:
            found = _change(connection, run_id, statement)
            if found is not None and found.state is QueueState.CANCELLED:
                abandon(connection, run_id, now=now)  # it may have been under way before
            return found

        return await self._ledger.write(work)

    async def take_back(self, *, now: float) -> list[QueuedRun]:
        """Let what an earlier process began and did not end wait for its turn again, or end it if asked for.

        Call it once, before anything begins.
        """
        begun = queue.c.state == QueueState.RUNNING

        def work(connection: Connection) -> list[str]:
            found = list(connection.execute(select(queue.c.run_id).where(begun)).scalars())
            asked = select(queue.c.run_id).where(begun, queue.c.cancelled)
            for name in connection.execute(asked).scalars().all():
                abandon(connection, name, now=now)
            ends = update(queue).where(begun, queue.c.cancelled)
            connection.execute(ends.values(state=QueueState.CANCELLED, ended_at=now))
            connection.execute(update(queue).where(begun).values(state=QueueState.QUEUED))
            return found

        names = await self._ledger.write(work)
        return await self._list(_SELECTED.where(queue.c.run_id.in_(padded(names))).order_by(queue.c.id))

    async def origins(self) -> list[str]:
        """List who has ever asked for a run."""
        statement = select(queue.c.origin).distinct()
        return await self._ledger.read(lambda c: list(c.execute(statement).scalars()))

    async def last_ended(self, origin: str, states: Sequence[QueueState]) -> Listed | None:
        """Find the run of an origin that came to one of these ends last."""
        statement = (
            select(queue.c.run_id)
            .where(queue.c.origin == origin, queue.c.state.in_(states))
            .order_by(queue.c.ended_at.desc())
            .limit(1)
        )
        found = await self._ledger.read(lambda c: _listed(c, list(c.execute(statement).scalars())))
        return found[0] if found else None

    async def count(self, state: QueueState) -> int:
        """Count the runs in an open state."""
        statement = select(func.count()).where(queue.c.state == state)
        return await self._ledger.read(lambda c: c.execute(statement).scalar_one())

    async def _changed(self, run_id: str, statement: Update) -> QueuedRun | None:
        return await self._ledger.write(lambda c: _change(c, run_id, statement))

    async def _list(self, statement: Select[Any]) -> list[QueuedRun]:
        return await self._ledger.read(lambda c: [_queued(row) for row in c.execute(statement)])


_OPEN = (QueueState.QUEUED, QueueState.RUNNING)
_SELECTED = select(queue)


def _change(connection: Connection, run_id: str, statement: Update) -> QueuedRun | None:
    if connection.execute(statement).rowcount == 0:
        return None
    return _queued(connection.execute(_SELECTED.where(queue.c.run_id == run_id)).one())


def _queued(row: Row[Any]) -> QueuedRun:
    return QueuedRun(
        run_id=row.run_id,
        state=QueueState(row.state),
        priority=row.priority,
        origin=row.origin,
        work=msgspec.convert(json.loads(row.work), Work),
        queued_at=row.queued_at,
        began_at=row.began_at,
        ended_at=row.ended_at,
        cancelled=row.cancelled,
        problem=None if row.problem is None else msgspec.json.decode(row.problem, type=Problem),
        fingerprint=row.fingerprint,
    )


def _listed(connection: Connection, names: Sequence[str]) -> list[Listed]:
    """All that is known of some runs, in the order of the names."""
    queued = {
        row.run_id: _queued(row)
        for row in connection.execute(_SELECTED.where(queue.c.run_id.in_(padded(names))))
    }
    begun = select(run).where(run.c.run_id.in_(padded(names)))
    records = {row.run_id: to_record(row) for row in connection.execute(begun)}
    return [
        Listed(run_id=name, queued=queued.get(name), record=records.get(name))
        for name in names
        if name in queued or name in records
    ]


def _encoded(problem: Problem | None) -> str | None:
    return None if problem is None else msgspec.json.encode(problem).decode()

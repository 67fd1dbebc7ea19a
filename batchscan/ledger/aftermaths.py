"""What follows the runs of schedules: owed from the commit that asked for the run, until it was tried.

It is on record what each step came to. A kill in the middle leaves it owed, and all of it is done again:
every step replaces what it wrote.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, and_, select, update
from sqlalchemy.dialects.sqlite import insert

from batchscan.ledger.queue import QueueState
from batchscan.ledger.schema import aftermath, queue


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to follow a run, as the settings file had it then. Paths are absolute; no secret.

    Attributes:
        reports: formats to write into ``reports_dir``.
        policy: decide by it, and write the decisions into ``reports_dir``.
        suppressions: findings that were accepted.
        notify: tell the receiver of the settings, if there is reason.
    """

    reports: tuple[str, ...] = ()
    reports_dir: str | None = None
    policy: str | None = None
    suppressions: str | None = None
    notify: bool = True


class Step(msgspec.Struct, frozen=True):
    """One thing that was done, or that failed: ``problem`` says why, ``file`` is what was written."""

    name: str
    file: str | None = None
    problem: str | None = None


class Owed(msgspec.Struct, frozen=True):
    """A run that is over and that something is to follow."""

    run_id: str
    schedule: str
    plan: Plan
    state: QueueState
    problem: str | None


class Done(msgspec.Struct, frozen=True):
    """What followed a run; ``steps`` is None while it is owed."""

    run_id: str
    steps: tuple[Step, ...] | None
    done_at: float | None


def owe(connection: Connection, run_id: str, schedule: str, plan: Plan) -> None:
    """Note what is to follow a run; call inside the ledger write that puts it into the queue."""
    values = {"run_id": run_id, "schedule": schedule, "plan": msgspec.json.encode(plan).decode()}
    connection.execute(insert(aftermath).values(values).on_conflict_do_nothing())


def owed(connection: Connection) -> list[Owed]:
    """List what is owed to runs that are over."""
    over = [state for state in QueueState if state.is_end]
    statement = (
        select(aftermath, queue.c.state, queue.c.problem)
        .join(queue, and_(queue.c.run_id == aftermath.c.run_id, queue.c.state.in_(over)))
        .where(aftermath.c.steps.is_(None))
        .order_by(queue.c.id)
    )
    return [_owed(row) for row in connection.execute(statement)]


def settle(connection: Connection, run_id: str, steps: tuple[Step, ...], *, now: float) -> None:
    """Note what followed a run; call inside a ledger write."""
    done = update(aftermath).where(aftermath.c.run_id == run_id)
    connection.execute(done.values(steps=msgspec.json.encode(steps).decode(), done_at=now))


def followed(connection: Connection, run_id: str) -> Done | None:
    """Tell what followed a run, None of one that nothing was to follow."""
    row = connection.execute(select(aftermath).where(aftermath.c.run_id == run_id)).one_or_none()
    if row is None:
        return None
    steps = None if row.steps is None else msgspec.json.decode(row.steps, type=tuple[Step, ...])
    return Done(row.run_id, steps, row.done_at)


def _owed(row: Row[Any]) -> Owed:
    plan = msgspec.json.decode(row.plan, type=Plan)
    return Owed(row.run_id, row.schedule, plan, QueueState(row.state), row.problem)

"""Forgetting runs of the service that ended long ago, a bounded number in each transaction.

A run goes as a whole: its place in the queue with its idempotency key, its record, its choice and its own
purse, what followed it. What stays says what was paid and found: the purses of the days, every verdict, and
for each origin the runs that later ones are compared with. Runs of the command line are never forgotten.
"""

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, union

from batchscan.ledger.padding import padded
from batchscan.ledger.queue import QueueState
from batchscan.ledger.schema import aftermath, chosen, purse, queue, run, schedule, waiting

COMPLETE_KEPT: Final = 2
"""Complete runs of an origin that stay: the last one, and the one that it is compared with."""

BATCH: Final = 100
"""Runs that one transaction forgets."""

ROWS: Final = 5000
"""Inputs and choices of them that one transaction forgets."""

Old: TypeAlias = tuple[int, str]
"""A place in the queue, and the run that has it."""


def kept(connection: Connection) -> frozenset[int]:
    """List the places in the queue that stay however old they are: the last ones of each origin."""
    rank = func.row_number().over(
        partition_by=queue.c.origin, order_by=(queue.c.ended_at.desc(), queue.c.id.desc())
    )
    last = select(queue.c.id, rank.label("rank")).where(queue.c.state.in_(_ENDS)).subquery()
    complete = select(queue.c.id, rank.label("rank")).where(queue.c.state == QueueState.COMPLETE).subquery()
    either = union(
        select(last.c.id).where(last.c.rank == 1),
        select(complete.c.id).where(complete.c.rank <= COMPLETE_KEPT),
    )
    return frozenset(connection.execute(either).scalars())


def ended_before(
    connection: Connection, at: float, *, after: int, keep: Collection[int], limit: int = BATCH
) -> list[Old]:
    """List runs that ended before a time (epoch seconds), in the order of asking, from a place on."""
    statement = (
        select(queue.c.id, queue.c.run_id)
        .outerjoin(run, run.c.run_id == queue.c.run_id)
        .where(queue.c.id > after, queue.c.id.not_in(padded(keep)), _is_old(at))
        .order_by(queue.c.id)
        .limit(limit)
    )
    return [(row.id, row.run_id) for row in connection.execute(statement)]


def forget(connection: Connection, old: Sequence[Old], at: float) -> bool:
    """Forget those of these runs that still are to be; call inside a ledger write.

    Returns:
        Whether all is done; else call it again, in a transaction of its own.
    """
    found = (
        select(queue.c.run_id, run.c.id)
        .outerjoin(run, run.c.run_id == queue.c.run_id)
        .where(queue.c.id.in_(padded([number for number, _ in old])), _is_old(at))
    )
    rows = connection.execute(found).all()
    numbers = padded([row.id for row in rows if row.id is not None])
    names = padded([row.run_id for row in rows])
    for table in (waiting, chosen):
        mine = table.c.run.in_(numbers)
        digests = connection.execute(select(table.c.digest).where(mine).limit(ROWS)).scalars().all()
        connection.execute(delete(table).where(mine, table.c.digest.in_(padded(digests))))
        if len(digests) == ROWS:
            return False
    connection.execute(delete(purse).where(purse.c.name.in_([f"run {number}" for number in numbers])))
    connection.execute(delete(run).where(run.c.id.in_(numbers)))
    connection.execute(delete(aftermath).where(aftermath.c.run_id.in_(names)))
    connection.execute(delete(queue).where(queue.c.run_id.in_(names)))
    return True


_ENDS: Final = tuple(state for state in QueueState if state.is_end)


def _is_old(at: float) -> ColumnElement[bool]:
    """Whether a run of the queue, joined with its record, is over since then, and nothing needs it."""
    owed = select(aftermath.c.run_id).where(aftermath.c.steps.is_(None))
    named = select(schedule.c.last_run).where(schedule.c.last_run.is_not(None))
    return and_(
        queue.c.state.in_(_ENDS),
        queue.c.ended_at < at,
        # a command that resumed it since has opened its record again, or ended it anew; and the newest
        # record stays, because SQLite would give its number, which verdicts name, to the next run
        or_(
            run.c.id.is_(None),
            and_(run.c.finished_at < at, run.c.id < select(func.max(run.c.id)).scalar_subquery()),
        ),
        queue.c.run_id.not_in(owed),
        queue.c.run_id.not_in(named),
    )

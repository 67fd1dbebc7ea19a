"""How far each schedule came: one row for each of the settings file.

A row is only written together with what it tells of, in one transaction: the run in the queue and the step to
the next due time are there both, or neither.
"""

from collections.abc import Collection

import msgspec
from sqlalchemy import Connection, Row, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from batchscan.ledger.schema import engine, schedule, scope


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a schedule came; times are epoch seconds.

    Attributes:
        rule: cron expression and zone that ``next_at`` was found with.
        decided_until: due times up to here had their run, or will not have one.
        next_at: the first one after that; None while it is switched off.
        last_due, last_run: what was run last.
        missed: due times that passed while nothing was up, and were not run.
        skipped: due times that came while the run before was not over.
        skipped_due: the last of those.
    """

    rule: str
    decided_until: float
    next_at: float | None = None
    last_due: float | None = None
    last_run: str | None = None
    missed: int = 0
    skipped: int = 0
    skipped_due: float | None = None


def standings(connection: Connection) -> dict[str, Standing]:
    """List how far all came, by name."""
    return {row.name: _standing(row) for row in connection.execute(select(schedule))}


def keep(connection: Connection, name: str, standing: Standing) -> None:
    """Write how far one came; call inside a ledger write."""
    values = msgspec.structs.asdict(standing)
    statement = insert(schedule).values(name=name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def forget_others(connection: Connection, names: Collection[str]) -> list[str]:
    """Remove the rows of schedules that are not among these; call inside a ledger write.

    Returns:
        Their names.
    """
    gone = delete(schedule).where(schedule.c.name.not_in(names)).returning(schedule.c.name)
    return sorted(connection.execute(gone).scalars())


def find_scope(connection: Connection, name: str) -> int | None:
    """Find a scope by its name, None where nothing was ever judged there."""
    found: int | None = connection.execute(
        select(scope.c.id).where(scope.c.name == name)
    ).scalar_one_or_none()
    return found


def newest_engine(connection: Connection, scope_id: int) -> int | None:
    """Tell the highest engine version that was seen at a scope."""
    newest = select(func.max(engine.c.version)).where(engine.c.scope == scope_id)
    found: int | None = connection.execute(newest).scalar_one()
    return found


def _standing(row: Row[tuple[object, ...]]) -> Standing:
    values = row._asdict()
    del values["name"]
    return Standing(**values)

"""The shared slot of the limiter: one row per scope and action says when the next call may start."""

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert

from batchscan.ledger.schema import cap

NARROW = 0.95
"""What a widened gap keeps of its excess with each slot: half of it is gone after 14 slots."""

WIDEN = 1.5
WIDEST = 16.0
"""A gap is widened to at most this many times the usual."""

SET_BACK_S = 1.0
"""A clock this far before the last taking was set back: the queue of slots moves back with it."""


def take_slot(
    connection: Connection, scope: int, action: str, *, now: float, lead_s: float, gap: float, count: int = 1
) -> float:
    """Reserve the next slots; call inside a ledger write.

    Args:
        connection: the ledger's.
        scope: whose cap it is.
        action: which cap it is.
        now: epoch seconds.
        lead_s: how far ahead of now the slot must lie at least: the time that a commit takes.
        gap: usual seconds between slots.
        count: how many in a row.

    Returns:
        The first slot, epoch seconds: when the call may start.
    """
    key = (cap.c.scope == scope, cap.c.action == action)
    row = connection.execute(select(cap.c.next_at, cap.c.gap, cap.c.taken_at).where(*key)).one_or_none()
    soon = now + lead_s
    if row is None:
        connection.execute(
            insert(cap).values(scope=scope, action=action, next_at=soon + count * gap, gap=gap, taken_at=now)
        )
        return soon
    slot: float = max(_next_at(row.next_at, row.taken_at, now), soon)
    current = max(row.gap, gap)
    connection.execute(
        update(cap)
        .where(*key)
        .values(next_at=slot + count * current, gap=gap + (current - gap) * NARROW, taken_at=now)
    )
    return slot


def widen_gap(
    connection: Connection, scope: int, action: str, *, now: float, delay_s: float, gap: float
) -> None:
    """After a refusal: no slot for ``delay_s``, and wider gaps for a while."""
    key = (cap.c.scope == scope, cap.c.action == action)
    row = connection.execute(select(cap.c.next_at, cap.c.gap, cap.c.taken_at).where(*key)).one_or_none()
    resume_at = now + delay_s
    if row is None:
        values = {"next_at": resume_at, "gap": gap * WIDEN, "taken_at": now}
        connection.execute(insert(cap).values(scope=scope, action=action, **values))
        return
    wider = min(max(row.gap, gap) * WIDEN, gap * WIDEST)
    next_at = max(_next_at(row.next_at, row.taken_at, now), resume_at)
    connection.execute(update(cap).where(*key).values(next_at=next_at, gap=wider, taken_at=now))


def _next_at(next_at: float, taken_at: float, now: float) -> float:
    """The next free slot by today's clock: as far ahead as it was, when the clock was set back."""
    return next_at if now > taken_at - SET_BACK_S else now + (next_at - taken_at)

"""The shared slot of the limiter: one row per scope and action says when the next call may start."""

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.sqlite import insert

from batchscan.ledger.schema import cap

NARROW = 0.95
"""What a widened gap keeps of its excess with each slot: half of it is gone after 14 slots."""

WIDEN = 1.5
WIDEST = 16.0
"""A gap is widened to at most this many times the usual."""

FARTHEST_S = 60.0
"""A slot further ahead than this comes from a clock that was set back, not from queued calls."""


def take_slot(connection: Connection, scope: int, action: str, *, soon: float, gap: float) -> float:
    """Reserve the next slot; call inside a ledger write.

    Args:
        connection: the ledger's.
        scope: whose cap it is.
        action: which cap it is.
        soon: epoch seconds before which the slot must not lie: now and the time a commit takes.
        gap: usual seconds between slots.

    Returns:
        When the call may start, epoch seconds.
    """
    key = (cap.c.scope == scope, cap.c.action == action)
    row = connection.execute(select(cap.c.next_at, cap.c.gap).where(*key)).one_or_none()
    if row is None:
        connection.execute(insert(cap).values(scope=scope, action=action, next_at=soon + gap, gap=gap))
        return soon
    slot: float = min(max(row.next_at, soon), soon + FARTHEST_S)
    current = max(row.gap, gap)
    connection.execute(
        update(cap).where(*key).values(next_at=slot + current, gap=gap + (current - gap) * NARROW)
    )
    return slot


def widen_gap(connection: Connection, scope: int, action: str, *, resume_at: float, gap: float) -> None:
    """After a refusal: no slot before ``resume_at`` (epoch seconds), and wider gaps for a while."""
    key = (cap.c.scope == scope, cap.c.action == action)
    row = connection.execute(select(cap.c.next_at, cap.c.gap).where(*key)).one_or_none()
    if row is None:
        connection.execute(insert(cap).values(scope=scope, action=action, next_at=resume_at, gap=gap * WIDEN))
        return
    wider = min(max(row.gap, gap) * WIDEN, gap * WIDEST)
    connection.execute(update(cap).where(*key).values(next_at=max(row.next_at, resume_at), gap=wider))

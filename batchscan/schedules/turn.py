"""What is to be done about a schedule now: pure, from how far it came and what the clock says.

Every due time is decided once: it is run, it is skipped because the run before is not over, or it is missed
because nothing was up. Of several that have passed, the latest speaks for all. ``decided_until`` only goes
back when the clock does, by more than a day: then the time that it was put back from never was.
"""

from datetime import UTC, datetime
from typing import Final

import msgspec

from batchscan.ledger.schedules import Standing
from batchscan.schedules.schedule import Schedule
from batchscan.schedules.timetable import Due

GRACE_S: Final = 60.0
"""A due time that passed longer ago was slept through."""

CLOCK_BACK_S: Final = 86_400.0
"""A clock that is put back by less than this is waited for, so that nothing is run twice."""


class Turn(msgspec.Struct, frozen=True):
    """What comes of a look at a schedule.

    Attributes:
        standing: how far it is now.
        due: the due time that is to be run, None where there is none.
        missed: due times that nothing was up for.
        skipped: the one that came too early, while the run before was not over.
        clock_back: the clock was put back by so many seconds, and the schedule begins anew.
    """

    standing: Standing
    due: float | None = None
    missed: int = 0
    skipped: float | None = None
    clock_back: float | None = None


def decide(schedule: Schedule, before: Standing | None, *, now: float, busy: bool) -> Turn | None:
    """Tell what is to be done about a schedule; None where nothing changes.

    Args:
        schedule: of the settings file.
        before: how far it came, None for a new one.
        now: epoch seconds.
        busy: its run before has not ended.
    """
    if before is None or before.rule != schedule.rule or (before.next_at is not None) != schedule.enabled:
        return Turn(_anew(schedule, before, now))
    if not schedule.enabled:
        return None
    if now < before.decided_until - CLOCK_BACK_S:
        return Turn(_anew(schedule, before, now), clock_back=before.decided_until - now)
    found = schedule.timetable.due(_instant(before.decided_until), _instant(now))
    if found is not None:
        return _come_due(schedule, before, found, now=now, busy=busy)
    # what is on record was found with the zone's rules of then
    next_at = _after(schedule, before.decided_until)
    return None if next_at == before.next_at else Turn(msgspec.structs.replace(before, next_at=next_at))


def _come_due(schedule: Schedule, before: Standing, found: Due, *, now: float, busy: bool) -> Turn:
    due, missed = found.latest.timestamp(), found.earlier
    late = now - due > GRACE_S and not schedule.catch_up
    missed += late
    after = msgspec.structs.replace(
        before, decided_until=now, next_at=_after(schedule, now), missed=before.missed + missed
    )
    if late:
        return Turn(after, missed=missed)
    if busy:
        after = msgspec.structs.replace(after, skipped=before.skipped + 1, skipped_due=due)
        return Turn(after, missed=missed, skipped=due)
    return Turn(msgspec.structs.replace(after, last_due=due), due=due, missed=missed)


def _anew(schedule: Schedule, before: Standing | None, now: float) -> Standing:
    """Begin with what comes from now on; what was counted stays."""
    fields = {} if before is None else msgspec.structs.asdict(before)
    next_at = _after(schedule, now) if schedule.enabled else None
    return Standing(**fields | {"rule": schedule.rule, "decided_until": now, "next_at": next_at})


def _after(schedule: Schedule, when: float) -> float | None:
    found = schedule.timetable.after(_instant(when))
    return None if found is None else found.timestamp()


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

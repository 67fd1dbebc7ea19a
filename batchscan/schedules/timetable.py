"""When a schedule is due: pure time, from a cron expression and a time zone. Knows no clock.

An expression that names hours follows the wall clock: a time that does not exist, because the clock was put
forward over it, is due once, at the end of the gap; a time that comes twice is due the first time only. An
expression of every hour follows real time: in an hour that comes twice it is due in both, because nothing
else would be every hour. Instants are aware and in UTC.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

_FIELDS: Final = 5
_HOUR: Final = 1
_SECOND: Final = timedelta(seconds=1)
_LOOK: Final = timedelta(days=7)
"""Offsets are looked at so often; the shortest that any zone had in the last decades held for a month."""
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
_COUNTED: Final = 10_000
"""Due times that are counted one by one; more of them, after years without a service, count as so many."""


class TimetableError(ValueError):
    """The expression or the zone is none.

    Attributes:
        part: ``cron`` or ``timezone``.
    """

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


class Due(msgspec.Struct, frozen=True):
    """What has come due in a span of time.

    Attributes:
        latest: the last instant of them.
        earlier: how many came before it.
    """

    latest: datetime
    earlier: int


class Timetable:
    """A cron expression of five fields in a time zone.

    Raises:
        TimetableError: the expression has no sense or never comes; there is no such zone.
    """

    def __init__(self, cron: str, timezone: str) -> None:
        self.cron = cron
        self.zone = _zone(timezone)
        fields = cron.split()
        if len(fields) != _FIELDS:
            raise TimetableError(
                "cron",
                f"{cron!r} has {len(fields)} fields; write five: minute, hour, day of the month, month,"
                ' day of the week, as "30 2 * * *"',
            )
        try:
            parsed = CronSim(cron, _ANY_TIME)
        except CronSimError as error:
            raise TimetableError("cron", f"{cron!r}: {str(error).lower()}") from error
        self.every_hour = len(parsed.hours) == 24  # noqa: PLR2004 - hours of a day
        if self.every_hour:
            fields[_HOUR] = "*"
        self._expression = " ".join(fields)
        if self.after(_ANY_TIME) is None:
            raise TimetableError("cron", f"{cron!r} never comes; check the day of the month")

    def after(self, when: datetime) -> datetime | None:
        """Return the first instant after this one, None where none comes in 50 years."""
        return next(self.all_after(when), None)

    def all_after(self, when: datetime) -> Iterator[datetime]:
        """Yield all instants after this one, in order."""
        previous = when.astimezone(UTC).replace(microsecond=0)
        for instant in self._instants(previous):
            if instant > previous:
                yield instant
                previous = instant

    def due(self, since: datetime, now: datetime) -> Due | None:
        """Tell what has come due after ``since`` and until ``now``, None where nothing has."""
        found = self._between(since, now)
        span = timedelta(hours=1)
        while found is not None and found.earlier == _COUNTED:
            late = self._between(max(since, now - span), now)
            if late is not None and late.earlier < _COUNTED:
                return Due(late.latest, _COUNTED)
            if late is not None:
                break
            span *= 2
        return found

    def _between(self, since: datetime, now: datetime) -> Due | None:
        count, latest = 0, None
        for instant in islice(self.all_after(since), _COUNTED + 1):
            if instant > now:
                break
            count, latest = count + 1, instant
        return None if latest is None else Due(latest, count - 1)

    def explain(self) -> str:
        """Say it in words, with the zone."""
        words: str = CronSim(self._expression, _ANY_TIME).explain()
        return f"{words}, {self.zone.key}"

    def _instants(self, when: datetime) -> Iterator[datetime]:
        return self._of_real_time(when) if self.every_hour else self._of_wall_clock(when)

    def _of_wall_clock(self, when: datetime) -> Iterator[datetime]:
        """Walk through wall times, each once."""
        for wall in CronSim(self._expression, _wall(when, self._offset(when))):
            # Of two instants with this wall time the first; of none, one that is past the gap.
            instant = wall.replace(tzinfo=self.zone).astimezone(UTC)
            if _wall(instant, self._offset(instant)) == wall:
                yield instant
            else:
                before = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
                yield self._change(before, instant) or instant

    def _of_real_time(self, when: datetime) -> Iterator[datetime]:
        """Walk through wall times for as long as the offset is the same, then with the next offset."""
        since: datetime | None = when
        while since is not None:
            offset, previous, since = self._offset(since), since, None
            for wall in CronSim(self._expression, _wall(previous - _SECOND, offset)):
                instant = (wall - offset).replace(tzinfo=UTC)
                since = self._change(previous, instant)
                if since is not None:
                    break
                yield instant
                previous = instant

    def _change(self, since: datetime, until: datetime) -> datetime | None:
        """Find the first change of the offset after ``since``, to the second; None where it stays."""
        offset = self._offset(since)
        while since < until:
            end = min(since + _LOOK, until)
            if self._offset(end) != offset:
                while end - since > _SECOND:
                    middle = (since + (end - since) / 2).replace(microsecond=0)
                    since, end = (middle, end) if self._offset(middle) == offset else (since, middle)
                return end
            since = end
        return None

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self.zone).utcoffset() or timedelta()


def _wall(instant: datetime, offset: timedelta) -> datetime:
    return (instant + offset).replace(tzinfo=None)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:  # ZoneInfoNotFoundError is the last
        raise TimetableError(
            "timezone", f"{name!r} is no time zone; write one as Europe/Berlin or UTC"
        ) from error

"""When schedules are due: against a walk through every minute, and around each change of the clock."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from batchscan.schedules.timetable import Due, Timetable, TimetableError

MINUTE = timedelta(minutes=1)
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-04-04", "2026-10-03"),  # by half an hour
    "America/Havana": ("2026-03-08", "2026-11-01"),  # at midnight
    "Asia/Beirut": ("2026-03-28", "2026-10-24"),  # at midnight, back into the day before
    "Pacific/Apia": ("2011-12-29", "2011-12-30"),  # a whole day is left out
    "UTC": ("2026-02-28", "2026-12-31"),
}

crons = st.builds(
    "{} {} {} {} {}".format,
    st.sampled_from(("*", "0", "30", "59", "*/15", "*/7", "5,35", "0-10")),
    st.sampled_from(("*", "*/1", "0-23", "0", "1", "2", "3", "23", "1,2", "1-3", "*/2")),
    st.sampled_from(("*", "*", "*", "*/2", "1", "29", "L", "LW")),
    st.sampled_from(("*", "*", "3-11", "*/2")),
    st.sampled_from(("*", "*", "*", "SUN", "1-5", "MON#1", "5L")),
)
days = st.sampled_from([(zone, day) for zone, found in CHANGES.items() for day in found])


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def walls(timetable: Timetable, start: datetime, end: datetime) -> Iterator[tuple[datetime, list[datetime]]]:
    """Each minute, with the wall times that have come up for the first time since the minute before."""
    minute = start
    newest = None
    while minute <= end:
        wall = minute.astimezone(timetable.zone).replace(tzinfo=None)
        fresh = []
        while newest is None or newest < wall:
            newest = wall if newest is None else newest + MINUTE
            fresh.append(newest)
        yield minute, [wall] if timetable.every_hour else fresh
        minute += MINUTE


def walked(timetable: Timetable, start: datetime, end: datetime) -> list[datetime]:
    """What is due after ``start``, found by looking at every minute."""
    rule = CronSim(timetable.cron, datetime(2000, 1, 1))  # noqa: DTZ001 - the rule alone, no time

    def matches(wall: datetime) -> bool:
        return (
            wall.minute in rule.minutes
            and wall.hour in rule.hours
            and wall.month in rule.months
            and rule.match_day(wall.date())
        )

    found = walls(timetable, start, end)
    return [minute for minute, fresh in found if minute > start and any(map(matches, fresh))]


def within(timetable: Timetable, start: datetime, end: datetime) -> list[datetime]:
    return list(takewhile(lambda instant: instant <= end, timetable.all_after(start)))


@settings(deadline=None, max_examples=60)
@given(crons, days, st.integers(0, 2000), st.integers(0, 2000))
def test_due_times_are_those_that_a_walk_through_every_minute_finds(
    cron: str, day: tuple[str, str], before: int, cut: int
) -> None:
    timetable = Timetable(cron, day[0])
    start = datetime.fromisoformat(day[1]).replace(tzinfo=UTC) - before * MINUTE
    end = start + 2 * 1440 * MINUTE
    found = within(timetable, start, end)
    assert found == walked(timetable, start, end)
    # asking anew from any moment goes on with the same
    moment = start + cut * MINUTE + timedelta(seconds=cut % 60)
    assert within(timetable, moment, end) == [instant for instant in found if instant > moment]
    assert timetable.explain().endswith(f", {day[0]}")


@settings(deadline=None, max_examples=60)
@given(crons, days, st.integers(0, 3000))
def test_what_was_due_in_a_span_is_its_latest_time_and_the_number_before(
    cron: str, day: tuple[str, str], minutes: int
) -> None:
    timetable = Timetable(cron, day[0])
    start = datetime.fromisoformat(day[1]).replace(tzinfo=UTC)
    end = start + minutes * MINUTE
    found = within(timetable, start, end)
    assert timetable.due(start, end) == (Due(found[-1], len(found) - 1) if found else None)


@pytest.mark.parametrize(
    ("cron", "zone", "since", "expected"),
    [
        # 02:30 does not exist: once, at 03:00 summer time; then as ever
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ("2026-03-29T01:00Z", "2026-03-30T00:30Z")),
        # all that falls into the gap is one time
        ("*/10 2 * * *", "Europe/Berlin", "2026-03-29T00:30Z", ("2026-03-29T01:00Z", "2026-03-30T00:00Z")),
        # 02:30 comes twice: the first of them
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ("2026-10-25T00:30Z", "2026-10-26T01:30Z")),
        # every hour means every hour, also in the one that comes twice
        ("0 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", ("2026-10-25T01:00Z", "2026-10-25T02:00Z")),
        # a day that is left out
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00Z", ("2011-12-29T22:00Z", "2011-12-30T10:00Z")),
    ],
)
def test_changes_of_the_clock(cron: str, zone: str, since: str, expected: tuple[str, ...]) -> None:
    found = list(islice(Timetable(cron, zone).all_after(at(since)), len(expected)))
    assert found == [at(text) for text in expected]


def test_years_without_a_service_are_counted_without_a_step_for_each_minute() -> None:
    now = at("2026-01-01T00:00:30Z")
    found = Timetable("* * * * *", "Europe/Berlin").due(now - timedelta(days=20 * 365), now)
    assert found == Due(at("2026-01-01T00:00Z"), 10_000)
    rare = Timetable("0 0 29 2 *", "UTC").due(at("1990-01-01T00:00Z"), now)
    assert rare == Due(at("2024-02-29T00:00Z"), 8)


@pytest.mark.parametrize(
    ("cron", "zone", "part", "words"),
    [
        ("* * * *", "UTC", "cron", "4 fields; write five"),
        ("0 * * * * *", "UTC", "cron", "6 fields; write five"),
        ("@daily", "UTC", "cron", "1 fields; write five"),
        ("61 * * * *", "UTC", "cron", "bad minute"),
        ("0 2-1 * * *", "UTC", "cron", "bad hour"),
        ("0 0 31 4,6 *", "UTC", "cron", "bad day-of-month"),
        ("0 0 * * MON#6", "UTC", "cron", "bad day-of-week"),
        ("0 0 * * *", "Nowhere/Here", "timezone", "no time zone"),
        ("0 0 * * *", "Europe", "timezone", "no time zone"),
        ("0 0 * * *", "../../etc/passwd", "timezone", "no time zone"),
        ("0 0 * * *", "", "timezone", "no time zone"),
        ("0 0 * * *", "a\0b", "timezone", "no time zone"),
    ],
)
def test_what_is_no_schedule_is_refused_in_words(cron: str, zone: str, part: str, words: str) -> None:
    with pytest.raises(TimetableError, match=words) as caught:
        Timetable(cron, zone)
    assert caught.value.part == part


fields = st.text("0123456789*,-/#LW", min_size=1, max_size=4) | st.sampled_from(("*", "MON", "L", "JAN-MAR"))


@settings(deadline=None, max_examples=300)
@given(st.lists(fields, min_size=5, max_size=5).map(" ".join))
def test_any_text_is_a_schedule_with_words_or_refused(text: str) -> None:
    try:
        timetable = Timetable(text, "UTC")
    except TimetableError:
        return
    assert timetable.explain()
    assert timetable.after(at("2026-01-01T00:00Z")) is not None


def test_words_name_the_zone() -> None:
    assert Timetable("30 2 * * MON-FRI", "Asia/Shanghai").explain() == (
        "At 02:30 on Monday through Friday, Asia/Shanghai"
    )
    assert Timetable("0 0-23 * * *", "UTC").explain() == "At the start of every hour, UTC"
    assert Timetable("0 3 * * *", "UTC").zone == ZoneInfo("UTC")

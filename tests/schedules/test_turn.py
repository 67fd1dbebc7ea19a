"""Every due time is decided once: over downtime, a busy run, and a clock that is set."""

from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from batchscan.schedules.schedule import Schedule
from batchscan.schedules.turn import CLOCK_BACK_S, GRACE_S, Turn, decide

if TYPE_CHECKING:
    from batchscan.ledger.schedules import Standing

DAY = 86_400.0
START = datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp()  # half a day before the clock is set in Europe


def schedule(cron: str = "30 2 * * *", timezone: str = "UTC", **fields: object) -> Schedule:
    return Schedule.model_validate({"cron": cron, "timezone": timezone, "sources": ["/srv"], **fields})


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def due_times(of: Schedule, since: float, until: float) -> list[float]:
    found = of.timetable.all_after(datetime.fromtimestamp(since, UTC))
    return [due.timestamp() for due in takewhile(lambda due: due.timestamp() <= until, found)]


class Life:
    """A schedule through time: looked at when it is due, as the timekeeper does."""

    def __init__(self, of: Schedule, now: float = START) -> None:
        self.schedule = of
        self.now = now
        self.standing: Standing | None = None
        self.runs: list[float] = []
        self.turns: list[Turn] = []
        self.look()

    def look(self, *, busy: bool = False) -> Turn | None:
        turn = decide(self.schedule, self.standing, now=self.now, busy=busy)
        if turn is not None:
            self.standing = turn.standing
            self.turns.append(turn)
            self.runs += [] if turn.due is None else [turn.due]
        assert decide(self.schedule, self.standing, now=self.now, busy=busy) is None, "decided twice"
        return turn

    def up(self, seconds: float, *, busy: bool = False) -> None:
        """Be up for so long."""
        end = self.now + seconds
        while True:
            assert self.standing is not None
            next_at = self.standing.next_at
            if next_at is None or next_at > end:
                break
            self.now = max(self.now, next_at)
            self.look(busy=busy)
        self.now = end
        self.look(busy=busy)

    def down(self, seconds: float) -> None:
        """Sleep for so long, then look."""
        self.now += seconds
        self.look()


crons = st.sampled_from(
    ("* * * * *", "*/7 * * * *", "0 * * * *", "30 2 * * *", "*/15 1-3 * * *", "0 3 * * SUN", "59 23 L * *")
)
zones = st.sampled_from(("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"))
spans = st.tuples(st.sampled_from(("up", "down", "busy", "back")), st.floats(1, 14_000))


@settings(deadline=None, max_examples=150)
@given(crons, zones, st.lists(spans, max_size=6), st.booleans())
def test_no_due_time_is_run_twice_or_forgotten(
    cron: str, zone: str, phases: list[tuple[str, float]], catch_up: bool
) -> None:
    life = Life(schedule(cron, zone, catch_up=catch_up))
    latest = life.now
    due_while_up: list[float] = []
    for kind, seconds in phases:
        before = life.now
        if kind == "back":
            life.now -= seconds  # less than a day: the clock is waited for
            life.look()
        elif kind == "down":
            life.down(seconds)
        else:
            life.up(seconds, busy=kind == "busy")
        if kind == "up":
            due_while_up += due_times(life.schedule, max(before, latest), life.now)
        latest = max(latest, life.now)
    assert life.standing is not None
    everything = due_times(life.schedule, START, latest)
    assert set(life.runs) <= set(everything)
    assert sorted(set(life.runs)) == life.runs, "doubled, or out of order"
    assert set(due_while_up) <= set(life.runs), "missed while it was up"
    assert len(life.runs) + life.standing.missed + life.standing.skipped == len(everything)
    late = sum(kind == "down" for kind, _ in phases)
    caught_up = set(life.runs) - set(due_while_up)
    assert len(caught_up) <= late, "more than one catch-up for one downtime"
    following = life.schedule.timetable.after(datetime.fromtimestamp(latest, UTC))
    assert following is not None
    assert life.standing.next_at == following.timestamp()


def test_what_was_slept_through_is_run_once_and_the_rest_counted() -> None:
    life = Life(schedule())
    life.down(5 * DAY)
    assert life.runs == [at("2026-10-29T02:30Z")]
    assert life.turns[-1].missed == 4
    life.up(DAY)
    assert life.runs[1:] == [at("2026-10-30T02:30Z")]


def test_without_catching_up_a_late_time_is_missed_but_not_one_that_has_just_passed() -> None:
    life = Life(schedule(catch_up=False))
    life.down(5 * DAY)
    assert (life.runs, life.turns[-1].missed) == ([], 5)
    life.down(at("2026-10-30T02:30Z") - life.now + GRACE_S)
    assert life.runs == [at("2026-10-30T02:30Z")]
    life.down(at("2026-10-31T02:30Z") - life.now + GRACE_S + 1)
    assert (len(life.runs), life.turns[-1].standing.missed) == (1, 6)


def test_a_time_that_comes_while_the_run_before_is_not_over_is_skipped_and_counted() -> None:
    life = Life(schedule("* * * * *"))
    life.up(180, busy=True)
    assert life.runs == []
    assert life.standing is not None
    assert (life.standing.skipped, life.standing.skipped_due) == (3, START + 180)
    life.up(60)
    assert life.runs == [START + 240]


def test_a_clock_that_is_put_back_runs_nothing_twice() -> None:
    life = Life(schedule())
    life.up(DAY)
    assert life.runs == [at("2026-10-25T02:30Z")]
    life.now = at("2026-10-25T02:00Z")
    life.look()
    life.up(2 * DAY)
    assert life.runs[1:] == [at("2026-10-26T02:30Z")]


def test_a_clock_that_was_far_ahead_does_not_stop_a_schedule_for_years() -> None:
    life = Life(schedule())
    life.now += 3650 * DAY
    life.look()
    life.now = START + 60
    turn = life.look()
    assert turn is not None
    assert turn.clock_back is not None
    assert turn.clock_back > CLOCK_BACK_S
    assert turn.standing.next_at == at("2026-10-25T02:30Z")
    life.up(2 * DAY)
    assert life.runs[1:] == [at("2026-10-25T02:30Z"), at("2026-10-26T02:30Z")]


def test_another_expression_and_a_schedule_that_was_off_begin_from_now() -> None:
    life = Life(schedule())
    life.down(3 * DAY)
    counted = life.standing
    life.now += 3 * DAY
    life.schedule = schedule("0 5 * * *")
    turn = life.look()
    assert turn is not None
    assert (turn.due, turn.missed, turn.standing.next_at) == (None, 0, at("2026-10-31T05:00Z"))
    assert counted is not None
    assert (turn.standing.missed, turn.standing.last_due) == (counted.missed, counted.last_due)
    life.schedule = schedule("0 5 * * *", enabled=False)
    life.down(3 * DAY)
    assert life.standing is not None
    assert life.standing.next_at is None
    life.schedule = schedule("0 5 * * *")
    life.down(3 * DAY)
    assert life.runs == [at("2026-10-27T02:30Z")]
    assert life.standing.next_at == at("2026-11-06T05:00Z")


def test_new_rules_of_a_zone_hold_at_once() -> None:
    life = Life(schedule())
    assert life.standing is not None
    life.standing = msgspec.structs.replace(life.standing, next_at=at("2026-10-25T01:30Z"))
    turn = life.look()
    assert turn is not None
    assert (turn.due, turn.standing.next_at) == (None, at("2026-10-25T02:30Z"))

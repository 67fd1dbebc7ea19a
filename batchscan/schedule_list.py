"""What the command `schedule list` does: each schedule in words, when it comes next, and how far it came.

It needs no running service: the settings file says what is to be, the ledger, where there is one, what was.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from batchscan.commands import has_ledger, settle_for
from batchscan.ledger.aftermaths import Done, followed
from batchscan.ledger.queue import Queue, QueuedRun
from batchscan.ledger.schedules import Standing, standings
from batchscan.ledger.store import Ledger
from batchscan.report.text import printable
from batchscan.schedules.schedule import Schedule
from batchscan.session import open_state
from batchscan.settings import Settled, default_file
from batchscan.streams import data_on_stdout

SCHEDULES_SCHEMA: Final = "batchscan.schedules/1"
_SHOWN: Final = 3


class Moment(msgspec.Struct, frozen=True):
    """An instant, RFC 3339, in the schedule's zone and in UTC."""

    local: str
    utc: str


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """The run before: ``problems`` of what followed it; None while that has not been done."""

    due: str
    run_id: str | None
    state: str | None
    problems: tuple[str, ...] | None


class ListedSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it is shown.

    Attributes:
        words: when it is due.
        scans: what.
        next: due times to come; none while it is switched off.
        overdue: the due time that passed while no service was up.
        missed, skipped: due times without a run, see the ledger; ``last_skipped`` is the last of the second.
    """

    name: str
    cron: str
    timezone: str
    words: str
    enabled: bool
    catch_up: bool
    watch: bool
    scans: tuple[str, ...]
    endpoint: str
    profile: str | None
    budget: int | None
    priority: int
    reports: tuple[str, ...]
    decides: bool
    notify: bool
    next: tuple[Moment, ...]
    overdue: Moment | None
    last: LastRun | None
    missed: int
    skipped: int
    last_skipped: Moment | None


class ScheduleList(msgspec.Struct, frozen=True, kw_only=True):
    """All schedules of a settings file."""

    schema: str = SCHEDULES_SCHEMA
    file: str | None
    schedules: tuple[ListedSchedule, ...]


class Past(msgspec.Struct, frozen=True):
    """What the ledger knows of a schedule."""

    standing: Standing
    run: QueuedRun | None
    followed: Done | None


def schedule_list(settings: dict[str, Any], *, as_json: bool) -> int:
    """Print all schedules.

    Raises:
        SettingsError: something is wrong with one.
        LedgerError: the ledger cannot be read.
    """
    settled = settle_for(settings)
    past = asyncio.run(_past(settled)) if settled.schedules and has_ledger(settled.config) else {}
    found = list_schedules(settled, past, now=time.time())
    with data_on_stdout():
        if as_json:
            sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        else:
            print("\n".join(printable(line) for line in _lines(found)))  # noqa: T201 - data goes to stdout
    return 0


def list_schedules(settled: Settled, past: Mapping[str, Past], *, now: float) -> ScheduleList:
    """Put together what is known; ``now`` is epoch seconds."""
    listed = tuple(
        _listed(name, schedule, settled, past.get(name), now) for name, schedule in settled.schedules.items()
    )
    return ScheduleList(file=None if settled.file is None else str(settled.file), schedules=listed)


async def look_back(ledger: Ledger) -> dict[str, Past]:
    """Read what the ledger knows of all schedules, by name.

    Raises:
        LedgerError: the ledger failed.
    """

    def work(connection: Connection) -> dict[str, tuple[Standing, Done | None]]:
        return {
            name: (standing, None if standing.last_run is None else followed(connection, standing.last_run))
            for name, standing in standings(connection).items()
        }

    queue = Queue(ledger)
    return {
        name: Past(standing, None if standing.last_run is None else await queue.get(standing.last_run), done)
        for name, (standing, done) in (await ledger.read(work)).items()
    }


async def _past(settled: Settled) -> dict[str, Past]:
    async with open_state(settled.config) as ledger:
        return await look_back(ledger)


def _listed(name: str, schedule: Schedule, settled: Settled, past: Past | None, now: float) -> ListedSchedule:
    standing = None if past is None else past.standing
    known = standing is not None and standing.rule == schedule.rule and schedule.enabled
    overdue = standing.next_at if known and standing is not None else None
    coming = schedule.timetable.all_after(datetime.fromtimestamp(now, UTC)) if schedule.enabled else iter(())
    skipped = None if standing is None else standing.skipped_due
    return ListedSchedule(
        name=name,
        cron=schedule.cron,
        timezone=schedule.timezone,
        words=schedule.timetable.explain(),
        enabled=schedule.enabled,
        catch_up=schedule.catch_up,
        watch=schedule.watch,
        scans=_scans(schedule),
        endpoint=schedule.endpoint or settled.endpoint_name,
        profile=schedule.profile or settled.config.profile,
        budget=schedule.budget,
        priority=schedule.priority,
        reports=schedule.reports,
        decides=schedule.policy is not None,
        notify=schedule.notify and settled.config.notify_url is not None,
        next=tuple(_moment(schedule, instant.timestamp()) for instant in islice(coming, _SHOWN)),
        overdue=_moment(schedule, overdue) if overdue is not None and overdue <= now else None,
        last=None if past is None else _last(past),
        missed=0 if standing is None else standing.missed,
        skipped=0 if standing is None else standing.skipped,
        last_skipped=None if skipped is None else _moment(schedule, skipped),
    )


def _scans(schedule: Schedule) -> tuple[str, ...]:
    if schedule.rescan is not None:
        return (f"again: {schedule.rescan}",)
    return schedule.sources if schedule.manifest is None else (f"manifest {schedule.manifest}",)


def _last(past: Past) -> LastRun | None:
    standing, done = past.standing, past.followed
    if standing.last_due is None:
        return None
    steps = None if done is None else done.steps
    problems = None if steps is None else tuple(f"{s.name}: {s.problem}" for s in steps if s.problem)
    return LastRun(
        due=_utc(standing.last_due),
        run_id=standing.last_run,
        state=None if past.run is None else past.run.state,
        problems=problems,
    )


def _moment(schedule: Schedule, seconds: float) -> Moment:
    local = datetime.fromtimestamp(seconds, schedule.timetable.zone)
    return Moment(local.isoformat(timespec="seconds"), _utc(seconds))


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _lines(found: ScheduleList) -> Iterator[str]:
    if not found.schedules:
        where = found.file or f"no settings file, there is no {default_file()}"
        yield f"no schedules: {where}"
        return
    for number, each in enumerate(found.schedules):
        if number:
            yield ""
        yield f"{each.name}: {each.words}{'' if each.enabled else ' (switched off)'}"
        yield from (f"  {label:8} {text}" for label, text in _facts(each))


def _facts(each: ListedSchedule) -> Iterator[tuple[str, str]]:
    budget = "" if each.budget is None else f", at most {each.budget:,} files billed"
    profile = "" if each.profile is None else f", profile {each.profile}"
    yield "scans", f"{', '.join(each.scans)}{' (watched)' if each.watch else ''}"
    yield "at", f"{each.endpoint}{profile}{budget}, priority {each.priority}"
    then = [*each.reports, *(["decisions"] if each.decides else []), *(["notice"] if each.notify else [])]
    if then:
        yield "then", ", ".join(then)
    if each.overdue is not None:
        late = "is run" if each.catch_up else "is not run"
        yield "overdue", f"{each.overdue.local}  {each.overdue.utc}; {late} when the service is up"
    for number, moment in enumerate(each.next):
        yield "" if number else "next", f"{moment.local}  {moment.utc}"
    if each.last is not None:
        yield "last", f"{each.last.due}, run {each.last.run_id}: {each.last.state}"
        for problem in each.last.problems or ():
            yield "", f"failed: {problem}"
    if each.missed:
        yield "missed", f"{each.missed:,} due times, while no service was up"
    if each.skipped:
        last = "" if each.last_skipped is None else f", the last {each.last_skipped.utc}"
        yield "skipped", f"{each.skipped:,} due times, while the run before was not over{last}"

"""What the service does by itself: the runs of schedules, what follows them, and forgetting old ones."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog
from aiohttp import web
from sqlalchemy import Connection

from batchscan.connect import scope_name
from batchscan.ledger.aftermaths import Plan, owe
from batchscan.ledger.chosen import Selection, Which, is_empty
from batchscan.ledger.queue import Enqueued, QueuedRun, Work, enqueue
from batchscan.ledger.schedules import find_scope, newest_engine
from batchscan.schedules.schedule import Schedule, selection, watch_of
from batchscan.schedules.timekeeper import Assignment, Timekeeper
from batchscan.service.aftermath import Aftermath
from batchscan.service.forgetting import Forgetting
from batchscan.service.keys import (
    ORDERS,
    QUEUE,
    READER,
    SERVICE_CONFIG,
    SETTLED,
    STATION,
    TIMEKEEPER,
    WORKERS,
)
from batchscan.service.orders import Orders, Target
from batchscan.service.queue import AD_HOC
from batchscan.service.watching import ARRIVALS_DIRECTORY, Submit, Watched, Watcher
from batchscan.session import new_run_id
from batchscan.walk import Filters

_log = structlog.get_logger(__name__)

_WATCHERS_STOP_S: Final = 2.0


async def keeping_time(app: web.Application) -> AsyncIterator[None]:
    """Cleanup context: keep time, and do what is owed to runs, also to those of an earlier process.

    Raises:
        UsageError: a schedule cannot be run as things are.
    """
    settled, ledger = app[SETTLED], app[STATION].ledger
    assignments = await asyncio.to_thread(assign, settled.schedules, app[ORDERS])
    keeper = Timekeeper(ledger, assignments, new_run_id=new_run_id, on_enqueued=app[QUEUE].announce)
    app[TIMEKEEPER] = keeper
    aftermath = Aftermath(ledger, app[READER], settled.config)
    workers = app[WORKERS]
    tasks = [workers.start(keeper.run(), "timekeeper"), workers.start(aftermath.run(), "aftermath")]
    keep_days = app[SERVICE_CONFIG].keep_runs_days
    if keep_days:
        forgetting = Forgetting(ledger, app[READER], keep_s=keep_days * 86400.0)
        tasks.append(workers.start(forgetting.run(), "forgetting"))
    watchers = await asyncio.to_thread(_watchers, app)
    watching = [workers.start(watcher.run(), f"watch {name}") for name, watcher in watchers.items()]
    yield
    for watcher in watchers.values():
        watcher.stop()
    await asyncio.gather(
        *(workers.stop(task) for task in tasks),
        *(workers.stop(task, within_s=_WATCHERS_STOP_S) for task in watching),
    )


def _watchers(app: web.Application) -> dict[str, Watcher]:
    """Watch for each schedule that wants it; blocks."""
    found = {}
    for name, schedule in app[SETTLED].schedules.items():
        roots = tuple(source for source in schedule.sources if not Path(source).is_file())
        if schedule.watch and schedule.enabled and not roots:
            _log.warning("nothing-to-watch", schedule=name, reason="all its sources are files")
        elif schedule.watch and schedule.enabled:
            watched = Watched(
                name=name,
                roots=roots,
                filters=Filters(include=schedule.include, exclude=schedule.exclude),
                settle_s=schedule.watch_settle,
            )
            directory = app[SETTLED].config.state_dir / ARRIVALS_DIRECTORY
            found[name] = Watcher(watched, directory, _submitter(app, name, schedule))
    return found


def _submitter(app: web.Application, name: str, schedule: Schedule) -> Submit:
    target, ledger, queue = target_of(schedule), app[STATION].ledger, app[QUEUE]
    request = app[ORDERS].trusted(sources=(), manifests=("-",), target=target)
    plan = Plan(notify=schedule.notify)

    async def submit(file: Path, count: int) -> None:
        run_id = new_run_id()
        mine = msgspec.structs.replace(request, manifests=(str(file),), nul=True)
        new = Enqueued(run_id, Work(request=mine, budget=schedule.budget), AD_HOC, watch_of(name))

        def put(connection: Connection) -> QueuedRun:
            run, _ = enqueue(connection, new, now=time.time())
            owe(connection, run_id, name, plan)
            return run

        queue.announce(await ledger.write(put))
        _log.info("arrivals-submitted", schedule=name, files=count, run_id=run_id)

    return submit


def assign(schedules: Mapping[str, Schedule], orders: Orders) -> dict[str, Assignment]:
    """Write down what each schedule runs; blocks.

    Raises:
        UsageError: something is wrong with one.
    """
    return {name: _assigned(schedule, orders) for name, schedule in schedules.items()}


def target_of(schedule: Schedule) -> Target:
    """Tell who judges for a schedule."""
    return Target(endpoint=schedule.endpoint, profile=schedule.profile)


def plan_of(schedule: Schedule) -> Plan:
    """Tell what follows its runs."""
    return Plan(
        reports=schedule.reports,
        reports_dir=_text(schedule.reports_dir),
        policy=_text(schedule.policy),
        suppressions=_text(schedule.suppressions),
        notify=schedule.notify,
    )


def _assigned(schedule: Schedule, orders: Orders) -> Assignment:
    if schedule.rescan is not None:
        return Assignment(schedule, _rescans(schedule, schedule.rescan, orders), plan_of(schedule))
    request = orders.trusted(
        sources=schedule.sources,
        manifests=() if schedule.manifest is None else (str(schedule.manifest),),
        include=schedule.include,
        exclude=schedule.exclude,
        target=target_of(schedule),
    )
    work = Work(request=request, budget=schedule.budget)
    return Assignment(schedule, lambda _: work, plan_of(schedule))


def _rescans(schedule: Schedule, text: str, orders: Orders) -> Callable[[Connection], Work | None]:
    """Choose when it is due: what is older, expired or failed is not known before."""
    anything = Selection(which=Which.ALL)
    request = orders.again(anything, sample=None, confined=False, target=target_of(schedule))
    scope = scope_name(orders.config("a schedule", Work(request=request)))

    def work(connection: Connection) -> Work | None:
        found = find_scope(connection, scope)
        chosen = None if found is None else selection(text, newest_engine(connection, found))
        if found is None or chosen is None or is_empty(connection, found, chosen, now=time.time()):
            return None
        return Work(request=msgspec.structs.replace(request, rescan=chosen), budget=schedule.budget)

    return work


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)

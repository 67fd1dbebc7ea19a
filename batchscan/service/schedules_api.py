"""Schedules by HTTP: each in words, when it comes next, how far it came; and a run of one, now."""

import hashlib
import time
from typing import Annotated, Final

import msgspec
from aiohttp import web
from pydantic import Field

from batchscan.errors import NothingMatchedError
from batchscan.ledger.queue import KeyReusedError, QueuedRun
from batchscan.schedule_list import list_schedules, look_back
from batchscan.schedules.timekeeper import BusyError
from batchscan.service.documents import Count, Document, RunId, Time
from batchscan.service.keys import READER, SETTLED, TIMEKEEPER
from batchscan.service.operations import Answer, Operation, json_response, no_body, path_parameter
from batchscan.service.problems import RefusedError
from batchscan.service.runs_api import KEY_HEADER, QUEUED, accepted, check_open, read_key


class MomentDocument(Document):
    """An instant, in the schedule's zone and in UTC."""

    local: Time
    utc: Time


class LastRunDocument(Document):
    """The run before; `problems` of what followed it, null while that has not been done."""

    due: Time
    run_id: RunId | None
    state: str | None
    problems: tuple[str, ...] | None


class ScheduleDocument(Document):
    """A schedule; `next` are due times to come, `missed` and `skipped` count due times without a run."""

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
    budget: Count | None
    priority: int
    reports: tuple[str, ...]
    decides: bool
    notify: bool
    next: tuple[MomentDocument, ...]
    overdue: MomentDocument | None
    last: LastRunDocument | None
    missed: Count
    skipped: Count
    last_skipped: MomentDocument | None


class ScheduleListDocument(Document):
    """All schedules, as `batchscan schedule list --json` prints them."""

    schema_: Annotated[str, Field(alias="schema")]
    file: str | None
    schedules: tuple[ScheduleDocument, ...]


async def get_schedules(request: web.Request) -> web.Response:
    """List the schedules that this service keeps."""
    found = list_schedules(request.app[SETTLED], await look_back(request.app[READER]), now=time.time())
    return json_response(ScheduleListDocument.model_validate(msgspec.to_builtins(found)))


async def run_schedule(request: web.Request) -> web.Response:
    """Put a run of a schedule into the line."""
    check_open(request)
    await no_body(request)
    run, new = await run_now(request, path_parameter(request, "name"), read_key(request))
    return await accepted(request, run, new=new)


async def run_now(request: web.Request, name: str, key: str | None) -> tuple[QueuedRun, bool]:
    """Put a run of a schedule into the line, once for each key.

    Returns:
        The run, and whether it is new.

    Raises:
        RefusedError: it is not carried out, and why.
    """
    if name not in request.app[SETTLED].schedules:
        raise RefusedError(404, "there is no such schedule")
    fingerprint = None if key is None else hashlib.sha256(f"schedule {name}".encode()).digest()
    try:
        return await request.app[TIMEKEEPER].run_now(name, key=key, fingerprint=fingerprint)
    except BusyError as error:
        raise RefusedError(409, str(error), code="not-over") from error
    except NothingMatchedError as error:
        raise RefusedError(409, str(error), code="nothing-matched") from error
    except KeyReusedError as error:
        raise RefusedError(409, str(error), code="key-reused") from error


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/schedules",
        name="listSchedules",
        summary="List the schedules",
        about="As the settings file had them when the service was started.",
        handler=get_schedules,
        answers={200: Answer(what="All of them.", model=ScheduleListDocument)},
    ),
    Operation(
        method="POST",
        path="/schedules/{name}/runs",
        name="runSchedule",
        summary="Run a schedule now",
        about=(
            "As at its time: with its sources, budget and priority, and what follows. Its due times stay;"
            " one that comes before this run is over is skipped. One that is switched off can be run, too."
        ),
        handler=run_schedule,
        headers=KEY_HEADER,
        answers={202: QUEUED},
        refusals={409: "Its run before is not over, it has nothing to do, or the key is another run's."},
    ),
)

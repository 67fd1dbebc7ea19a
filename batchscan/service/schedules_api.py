"""Schedules by HTTP: each in words, when it comes next, and how far it came."""

import time
from typing import Annotated, Final

import msgspec
from aiohttp import web
from pydantic import Field

from batchscan.schedule_list import list_schedules, look_back
from batchscan.service.documents import Count, Document, RunId, Time
from batchscan.service.keys import READER, SETTLED
from batchscan.service.operations import Answer, Operation, json_response


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
)

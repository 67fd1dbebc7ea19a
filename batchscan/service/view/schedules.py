"""Schedules: each in words, when it comes next, how its last run ended; and a run of one, now."""

import secrets
import time

from aiohttp import web

from batchscan.schedule_list import list_schedules, look_back
from batchscan.service.guard import VIEW
from batchscan.service.keys import READER, SETTLED
from batchscan.service.operations import path_parameter
from batchscan.service.runs_api import check_open
from batchscan.service.schedules_api import run_now
from batchscan.service.view.door import form_key, read_form
from batchscan.service.view.rendering import page, see


async def show_schedules(request: web.Request) -> web.StreamResponse:
    """Show all schedules."""
    past = await look_back(request.app[READER])
    found = list_schedules(request.app[SETTLED], past, now=time.time())
    key = secrets.token_hex(16)
    return page(request, "schedules.html", schedules=found.schedules, file=found.file, key=key)


async def run_schedule(request: web.Request) -> web.StreamResponse:
    """Put a run of a schedule into the line, once for each form."""
    check_open(request)
    form = await read_form(request)
    name = path_parameter(request, "name")
    key = form_key(form)
    # one page has a form for each schedule, and one key for all of them
    run, _ = await run_now(request, name, None if key is None else f"{key}-{name}")
    return see(f"{VIEW}/runs/{run.run_id}")

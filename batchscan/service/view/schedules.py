"""Schedules: each in words, when it comes next, how its last run ended, and what had no run."""

import time

from aiohttp import web

from batchscan.schedule_list import list_schedules, look_back
from batchscan.service.keys import READER, SETTLED
from batchscan.service.view.rendering import page


async def show_schedules(request: web.Request) -> web.StreamResponse:
    """Show all schedules."""
    past = await look_back(request.app[READER])
    found = list_schedules(request.app[SETTLED], past, now=time.time())
    return page(request, "schedules.html", schedules=found.schedules, file=found.file)

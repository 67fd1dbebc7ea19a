"""Where each page of the live view is, and what is made once for all of them."""

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from yarl import URL

from batchscan.service.guard import VIEW, is_view
from batchscan.service.keys import METRICS, SETTLED, WORKERS
from batchscan.service.problems import RefusedError, problem_response
from batchscan.service.reports_api import get_report
from batchscan.service.view import door, skills
from batchscan.service.view.door import LOGIN, STATIC, Login, login_of
from batchscan.service.view.findings import FindingsPages
from batchscan.service.view.news import News
from batchscan.service.view.overview import Overview
from batchscan.service.view.pace import Pacemeter
from batchscan.service.view.rendering import page, see, static
from batchscan.service.view.runs import RunPages
from batchscan.service.view.schedules import run_schedule, show_schedules

_NEWS: Final = web.AppKey("news", News)
_PACE: Final = web.AppKey("pace", Pacemeter)


def add_view(app: web.Application) -> None:
    """Route the pages."""
    app[_NEWS] = news = News(app[SETTLED].config)
    app[_PACE] = pace = Pacemeter(lambda: app[METRICS].meters)
    overview, runs, findings = Overview(news, pace), RunPages(news), FindingsPages()
    app.router.add_routes(
        [
            web.get("/", _to_view),
            web.get(VIEW, _to_view),
            web.get(f"{VIEW}/", overview.show),
            web.get(f"{VIEW}/overview", overview.part),
            web.get(f"{VIEW}/quota", overview.quota),
            web.get(f"{VIEW}/runs", runs.list),
            web.post(f"{VIEW}/runs", runs.order),
            web.get(f"{VIEW}/ask", runs.ask),
            web.get(f"{VIEW}/runs/{{run_id}}", runs.show),
            web.get(f"{VIEW}/runs/{{run_id}}/live", runs.live, allow_head=False),
            web.post(f"{VIEW}/runs/{{run_id}}/cancel", runs.end),
            web.get(f"{VIEW}/runs/{{run_id}}/findings", findings.show),
            web.get(f"{VIEW}/runs/{{run_id}}/report", get_report, allow_head=False),
            web.get(f"{VIEW}/skills", skills.find_skill),
            web.get(f"{VIEW}/skills/{{sha256}}", skills.show_skill),
            web.get(f"{VIEW}/schedules", show_schedules),
            web.post(f"{VIEW}/schedules/{{name}}/runs", run_schedule),
            web.get(LOGIN, door.show_login),
            web.post(LOGIN, Login().log_in),
            web.post(f"{VIEW}/logout", door.log_out),
            web.get(f"{STATIC}{{name:.+}}", static),
        ]
    )


async def viewing(app: web.Application) -> AsyncIterator[None]:
    """Cleanup context: what the pages know beside the ledger."""
    workers = app[WORKERS]
    tasks = [workers.start(app[_NEWS].run(), "news"), workers.start(app[_PACE].run(), "pace")]
    yield
    for task in tasks:
        await workers.stop(task)


def refuse(request: web.Request, refused: RefusedError, request_id: str) -> web.Response:
    """Give a refusal its form: a page where a page was asked for, else a problem document."""
    if not is_view(request.path) or request.path.startswith(STATIC):
        return problem_response(request, refused, request_id)
    if refused.code == "log-in":
        return _to_login(request)
    return page(request, "refused.html", status=refused.status, refused=refused, request_id=request_id)


def _to_login(request: web.Request) -> web.Response:
    if request.headers.get("HX-Request") == "true":
        # what is asked for is a part of a page: the whole page is to go
        return web.Response(status=401, headers={"HX-Redirect": login_of(_page_of(request))})
    return see(login_of(request.path_qs if request.method == "GET" else ""))


def _page_of(request: web.Request) -> str:
    """Tell which page a part was asked for by."""
    try:
        return URL(request.headers.get("HX-Current-URL", "")).raw_path_qs
    except ValueError:
        return ""


async def _to_view(_: web.Request) -> web.StreamResponse:
    return see(f"{VIEW}/")

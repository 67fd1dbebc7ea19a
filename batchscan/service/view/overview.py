"""The overview: what is under way, what waits, how fast it goes, what is new. Reads no report.

All of it is from the ledger. What is counted over the whole of it is counted beside the work, and at most
every few seconds, however many look.
"""

import asyncio
import time
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from batchscan.connect import scope_name
from batchscan.errors import LedgerError
from batchscan.formats.page_changes import ChangesShown
from batchscan.ledger.ages import BOUNDS_S, Ages, read_ages
from batchscan.ledger.queue import Listed
from batchscan.pages.charts import Strip, strip
from batchscan.schedule_list import ListedSchedule, list_schedules, look_back
from batchscan.service.events_api import ENDS
from batchscan.service.keys import METRICS, READER, ROWS, SERVICE_CONFIG, SETTLED, STATION
from batchscan.service.lookup_api import known_quota
from batchscan.service.problems import RefusedError
from batchscan.service.runs_api import describe
from batchscan.service.view.lines import RunLine, line_of
from batchscan.service.view.news import News
from batchscan.service.view.pace import STEP_S, Pacemeter
from batchscan.service.view.rendering import fragment, page

log = structlog.get_logger(__name__)

RUNS: Final = 10
_OPEN: Final = 20
_COMPARED: Final = 2
_SCHEDULES: Final = 5
_STRIP_PX: Final = 44.0
_REST_S: Final = 2.0
_LABELS: Final = ("up to 10 min", "up to 1 h", "up to 6 h", "up to 1 day", "older")


class Fresh(msgspec.Struct, frozen=True):
    """What a run found anew; ``changes`` is None where there is no run before it to compare with."""

    line: RunLine
    known: bool
    changes: ChangesShown | None


class Throughput(msgspec.Struct, frozen=True):
    """Submissions a second in the last minute; ``share`` is percent of the cap, None without a cap."""

    minute: float
    cap: float | None
    share: float | None
    chart: Strip | None
    seconds: int


class Overview:
    """Shows the service as a whole.

    Args:
        news: knows what runs found.
        pace: knows how fast it goes.
    """

    def __init__(self, news: News, pace: Pacemeter) -> None:
        self._news = news
        self._pace = pace
        self._looking = asyncio.Lock()
        self._ages: Ages | None = None
        self._look_at = float("-inf")

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show the whole page."""
        still = "still" in request.query
        return page(request, "overview.html", still=still, **await self._content(request))

    async def part(self, request: web.Request) -> web.StreamResponse:
        """Show what of it changes."""
        text = fragment(request, "overview_part.html", still=False, **await self._content(request))
        return web.Response(text=text, content_type="text/html")

    async def quota(self, request: web.Request) -> web.StreamResponse:
        """Ask the endpoint what is left; a page of its own for who has no script."""
        document, problem = None, None
        try:
            document = await known_quota(request.app)
        except RefusedError as error:
            problem = error.detail
        content: dict[str, Any] = {"quota": document, "problem": problem}
        if request.headers.get("HX-Request") == "true":
            return web.Response(
                text=fragment(request, "quota_part.html", **content), content_type="text/html"
            )
        return page(request, "quota.html", **content)

    async def _content(self, request: web.Request) -> dict[str, Any]:
        app = request.app
        under_way = await app[ROWS].page(before=None, limit=_OPEN, states=("running", "queued"))
        latest = await app[ROWS].page(before=None, limit=RUNS + _COMPARED)
        ended = [each for each in latest if each not in under_way]
        lines = [line_of(describe(request, each)) for each in under_way]
        scheduled = list_schedules(app[SETTLED], await look_back(app[READER]), now=time.time()).schedules
        coming = [each for each in scheduled if each.next or each.overdue]
        ages = await self._known_ages(app)
        return {
            "open": lines,
            "ended": [line_of(describe(request, each)) for each in ended[:RUNS]],
            "places": app[SERVICE_CONFIG].max_runs,
            "throughput": self._throughput(app),
            "ages": None if ages is None else _ages_shown(ages),
            "newly": sum(meter.newly_malicious for meter in app[METRICS].meters.values()),
            "fresh": self._fresh(request, ended),
            "schedules": sorted(coming, key=_due)[:_SCHEDULES],
        }

    def _throughput(self, app: web.Application) -> Throughput:
        config = app[STATION].config
        pace = self._pace.of(scope_name(config))
        cap = config.create_rate or None
        chart = None
        if pace.steps:
            tenths = [round(10 * step) for step in pace.steps]
            chart = strip("plain", [""] * len(tenths), tenths, _STRIP_PX, texts=False)
        share = None if cap is None else min(100.0, 100 * pace.minute / cap)
        return Throughput(pace.minute, cap, share, chart, round(len(pace.steps) * STEP_S))

    def _fresh(self, request: web.Request, ended: list[Listed]) -> list[Fresh]:
        """What the latest runs that have a report found anew."""
        found: list[Fresh] = []
        for each in ended:
            if each.record is None or each.record.summary is None or len(found) == _COMPARED:
                continue
            line = line_of(describe(request, each))
            if line.state not in ("complete", "incomplete") or line.state not in ENDS:
                continue
            changes = self._news.of(each.record)
            found.append(Fresh(line, self._news.is_known(each.run_id), changes))
        return found

    async def _known_ages(self, app: web.Application) -> Ages | None:
        async with self._looking:
            if time.monotonic() >= self._look_at:
                began = time.monotonic()
                try:
                    path, scope = app[STATION].ledger.path, scope_name(app[STATION].config)
                    self._ages = await asyncio.to_thread(read_ages, path, scope, now=time.time())
                except LedgerError as error:
                    log.warning("what waits is not known", reason=str(error))
                    self._ages = None
                took_s = time.monotonic() - began
                self._look_at = time.monotonic() + max(_REST_S, 10 * took_s)
        return self._ages


def _ages_shown(ages: Ages) -> list[tuple[str, int, int, float]]:
    """Label, to submit, to judge, and how long its bar is, percent."""
    both = [a + b for a, b in zip(ages.to_submit, ages.to_judge, strict=True)]
    most = max(both) or 1
    return [
        (label, ages.to_submit[i], ages.to_judge[i], round(100 * both[i] / most, 2))
        for i, label in enumerate(_LABELS[: len(BOUNDS_S) + 1])
    ]


def _due(each: ListedSchedule) -> str:
    return each.overdue.utc if each.overdue is not None else each.next[0].utc

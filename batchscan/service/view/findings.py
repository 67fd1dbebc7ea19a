"""A run's findings: rows of its report, as far as it is written, a page at a time."""

import asyncio
from typing import Final

from aiohttp import web
from pydantic import Field
from yarl import URL

from batchscan.formats.entry import Entry
from batchscan.formats.page_rows import FindingShown, show_example, show_finding
from batchscan.models import Row
from batchscan.report.excerpt import NO_VERDICT, Wanted, read_excerpt
from batchscan.service.documents import Order
from batchscan.service.operations import path_parameter, read_query
from batchscan.service.problems import RefusedError
from batchscan.service.runs_api import describe, find_run
from batchscan.service.view.lines import line_of
from batchscan.service.view.rendering import page

_AT_ONCE: Final = 2
_VERDICTS: Final = {
    "findings": frozenset({"malicious", "suspicious"}),
    "malicious": frozenset({"malicious"}),
    "suspicious": frozenset({"suspicious"}),
    "benign": frozenset({"benign"}),
    NO_VERDICT: frozenset({NO_VERDICT}),
    "all": frozenset[str](),
}


class FindingsQuery(Order):
    """Which rows, and where their page begins, in bytes."""

    verdict: str = "findings"
    rule: str = Field(default="", max_length=200)
    text: str = Field(default="", max_length=200)
    start: int = Field(default=0, ge=0, strict=False)


class FindingsPages:
    """Shows findings. A report is read in a thread, by a few at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show a page of rows."""
        run_id = path_parameter(request, "run_id")
        query = read_query(request, FindingsQuery)
        if query.verdict not in _VERDICTS:
            raise RefusedError(404, "there is no such verdict")
        listed = await find_run(request, run_id)
        if listed.record is None:
            raise RefusedError(404, f"run {run_id} has no report: it has not begun")
        wanted = Wanted(
            verdicts=_VERDICTS[query.verdict],
            rule=query.rule.strip() or None,
            words=tuple(query.text.lower().split()),
        )
        async with self._turn:
            found = await asyncio.to_thread(
                read_excerpt, listed.record.report, run_id, wanted, start=query.start
            )
        here = URL(request.path)
        asked = {"verdict": query.verdict, "rule": query.rule, "text": query.text}
        read_to = found.size if found.after is None else found.after
        return page(
            request,
            "findings.html",
            line=line_of(describe(request, listed)),
            query=query,
            verdicts=tuple(_VERDICTS),
            rows=[_shown(row) for row in found.rows],
            looked_at=found.looked_at,
            after=None if found.after is None else str(here.with_query(asked | {"start": str(found.after)})),
            first=str(here.with_query(asked)) if query.start else None,
            read_share=100 * read_to / found.size if found.size else 100.0,
        )


def _shown(row: Row) -> FindingShown | tuple[str, str, str | None, str]:
    """What is shown of a row: a finding, or why there is none."""
    if row.verdict is not None:
        return show_finding(Entry(row, None), row.verdict)
    example = show_example(row)
    return (example.path, example.outcome, example.message, "" if row.error is None else row.error.code)

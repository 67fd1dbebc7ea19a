"""A run's page: where it stands, live while it is under way; and what may be asked for: a run, or its end."""

import secrets
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web
from pydantic import ValidationError

from batchscan.report.summary import Summary, decode_summary
from batchscan.service.documents import RunOrder
from batchscan.service.events import STATE, Event
from batchscan.service.events_api import follow, open_stream, write
from batchscan.service.guard import VIEW
from batchscan.service.keys import BROKER, ORDERS, ROOTS, ROWS, SESSIONS
from batchscan.service.operations import path_parameter
from batchscan.service.problems import RefusedError, invalid
from batchscan.service.reports_api import MEDIA
from batchscan.service.runs_api import describe, end_run, find_run, place_order
from batchscan.service.view.door import form_key, read_form
from batchscan.service.view.lines import headline_of, line_of
from batchscan.service.view.news import News
from batchscan.service.view.rendering import SESSION, fragment, page, see

LISTED: Final = 25
_STATES: Final = ("queued", "running", "complete", "incomplete", "cancelled", "failed", "interrupted")


class RunPages:
    """Shows runs, and takes orders for them.

    Args:
        news: knows what runs found.
    """

    def __init__(self, news: News) -> None:
        self._news = news

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Show a page of runs, the newest first."""
        before, state = request.query.get("before"), request.query.get("state", "")
        if state not in ("", *_STATES):
            raise RefusedError(404, "there is no such state of a run")
        states = (state,) if state else ()
        found = await request.app[ROWS].page(before=before, limit=LISTED + 1, states=states)
        lines = [line_of(describe(request, each)) for each in found[:LISTED]]
        after = lines[-1].run_id if len(found) > LISTED else None
        return page(
            request, "runs.html", runs=lines, after=after, state=state, states=_STATES, first=before is None
        )

    async def show(self, request: web.Request) -> web.StreamResponse:
        """Show a run."""
        content = await self._content(request)
        return page(request, "run.html", formats=sorted(MEDIA), **content)

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Follow a run to its end, as parts of its page."""
        run_id = path_parameter(request, "run_id")
        await find_run(request, run_id)
        word = request.app[SESSIONS].form_word(request[SESSION])
        with request.app[BROKER].subscribe(run_id) as events:
            content = await self._content(request)
            async with open_stream(request) as response:
                await write(response, _part(request, content))
                if content["line"].ended:
                    await write(response, _ENDED)
                    return response
                await follow(request, response, events, encode=partial(self._told, request, word))
        return response

    async def end(self, request: web.Request) -> web.StreamResponse:
        """Ask for a run's end."""
        run_id = path_parameter(request, "run_id")
        await read_form(request)
        await end_run(request, run_id)
        return see(f"{VIEW}/runs/{run_id}")

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Show the forms that ask for a scan and for a rescan."""
        return page(request, "ask.html", **_choices(request))

    async def order(self, request: web.Request) -> web.StreamResponse:
        """Put a run into the line, once for each form."""
        form = await read_form(request)
        try:
            order = RunOrder.model_validate(_order(form), strict=True)
        except ValidationError as error:
            raise invalid(error, "form") from error
        run, _ = await place_order(request, order, form_key(form))
        return see(f"{VIEW}/runs/{run.run_id}")

    async def _content(self, request: web.Request) -> dict[str, Any]:
        listed = await find_run(request, path_parameter(request, "run_id"))
        run = describe(request, listed)
        line, summary = line_of(run), None if listed.record is None else _summary(listed.record.summary)
        changes = None
        if line.ended and listed.record is not None and summary is not None:
            changes = self._news.of(listed.record)
        return {
            "line": line,
            "run": run,
            "summary": summary,
            "headline": headline_of(line, summary if line.ended else None),
            "changes": changes,
            "has_report": listed.record is not None,
        }

    async def _told(self, request: web.Request, word: str, event: Event) -> bytes:
        sessions, session = request.app[SESSIONS], request[SESSION]
        if not (sessions.stands(session) and sessions.is_form_word(session, word)):  # it was another token's
            return _event("live", fragment(request, "over.html")) + _ENDED
        told = _part(request, await self._content(request), anew=event.kind == STATE)
        return told + _ENDED if event.last else told


def _part(request: web.Request, content: dict[str, Any], *, anew: bool = True) -> bytes:
    """Write what changes; where the run's state is not new, only its numbers."""
    told = _event("live", fragment(request, "run_part.html", **content))
    if not anew:
        return told
    ending = _event("ending", fragment(request, "run_end.html", **content))
    return told + ending + _event("state", content["line"].words)


def _event(name: str, text: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in text.splitlines()) or "data:\n"
    return f"event: {name}\n{lines}\n".encode()


_ENDED: Final = b"event: ended\ndata: -\n\n"


def _choices(request: web.Request) -> dict[str, Any]:
    orders = request.app[ORDERS]
    return {
        "roots": request.app[ROOTS].real,
        "endpoints": orders.endpoints,
        "keys": [secrets.token_hex(16) for _ in range(2)],
    }


def _order(form: dict[str, str]) -> dict[str, Any]:
    """Read the fields of a form as what the API takes; what is wrong with it, its model says."""
    order: dict[str, Any] = {}
    if form.get("kind") == "rescan":
        which = form.get("which", "")
        name, _, value = which.partition("=")
        if name == "engine-before":
            value = form.get("engine", "").strip()
        order["rescan"] = {"which": name, "value": value} if value else {"which": name}
    else:
        root, below = form.get("root", ""), form.get("below", "").strip("/ ")
        order["sources"] = (f"{root.rstrip('/')}/{below}" if below else root,)
    if form.get("endpoint"):
        order["endpoint"] = form["endpoint"]
    budget = form.get("budget", "").strip()
    if budget:
        if not (budget.isascii() and budget.isdigit() and len(budget) <= 10):  # noqa: PLR2004 - as the API's limit has
            raise RefusedError(422, "the budget is a whole number of files")
        order["budget"] = int(budget)
    return order


def _summary(text: str | None) -> Summary | None:
    """Read how it ended; None where it has not, or a version that is newer wrote that down."""
    try:
        return None if text is None else decode_summary(text)
    except msgspec.ValidationError:
        return None

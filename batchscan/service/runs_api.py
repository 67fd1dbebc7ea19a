"""Runs by HTTP: ask for one, list them, look at one, end one."""

import asyncio
import hashlib
import json
import re
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from batchscan.ledger.chosen import Selection, Which
from batchscan.ledger.queue import KeyReusedError, Listed, QueuedRun, Work
from batchscan.ledger.runs import RunRequest
from batchscan.models import RiskLevel
from batchscan.service.documents import Order, Run, RunId, RunOrder, RunPage, State, run_document
from batchscan.service.keys import DISPATCHER, ORDERS, QUEUE, ROWS, STATE
from batchscan.service.operations import (
    PREFIX,
    Answer,
    Operation,
    json_response,
    no_body,
    path_parameter,
    read_body,
    read_query,
)
from batchscan.service.orders import NoSuchEndpointError, Orders, Target
from batchscan.service.problems import RefusedError
from batchscan.service.queue import ORIGIN_API
from batchscan.service.roots import OutsideRootsError

_KEY: Final = "Idempotency-Key"
_REPLAYED: Final = "Idempotency-Replayed"
_KEYS: Final = re.compile(r"[!-~]{1,255}")


class RunQuery(Order):
    """Which runs to list."""

    limit: Annotated[int, Field(ge=1, le=100, strict=False)] = 20
    before: RunId | None = Field(default=None, description="The `next` of the page before.")
    state: Annotated[tuple[State, ...], Field(max_length=10, strict=False)] = ()
    origin: Annotated[str, Field(max_length=255)] | None = None


async def find_run(request: web.Request, run_id: str) -> Listed:
    """Find any run.

    Raises:
        RefusedError: there is none such.
    """
    found = await request.app[ROWS].look_up(run_id)
    if found is None:
        raise RefusedError(404, f"there is no run {run_id}")
    return found


def describe(request: web.Request, listed: Listed) -> Run:
    """Say all of a run, with how far it is when it is under way."""
    under_way = request.app[DISPATCHER].under_way.get(listed.run_id)
    record = listed.record
    summary: dict[str, Any] | None = None
    if record is not None and record.summary is not None:
        summary = json.loads(record.summary)
    return run_document(listed, None if under_way is None else under_way.stats, summary)


async def create_run(request: web.Request) -> web.Response:
    """Put a run into the line."""
    check_open(request)
    order = await read_body(request, RunOrder)
    run, new = await place_order(request, order, read_key(request))
    return await accepted(request, run, new=new)


async def place_order(request: web.Request, order: RunOrder, key: str | None) -> tuple[QueuedRun, bool]:
    """Put what a caller asks for into the line, once for each key.

    Returns:
        The run, and whether it is new.

    Raises:
        RefusedError: it is not carried out, and why.
        UsageError: something is wrong with it.
    """
    check_open(request)
    fingerprint = None if key is None else _fingerprint(order)
    known = None if key is None else await request.app[ROWS].find_key(key)
    if known is not None and known.fingerprint == fingerprint:  # whatever its sources are by now
        return known, False
    try:
        wanted = await asyncio.to_thread(_request, request.app[ORDERS], order)
    except OutsideRootsError as error:
        raise RefusedError(403, str(error), code="outside-roots") from error
    except NoSuchEndpointError as error:
        raise RefusedError(404, str(error), code="no-such-endpoint") from error
    fail_on = None if order.fail_on is None else RiskLevel(order.fail_on)
    work = Work(request=wanted, wait=order.wait, fail_on=fail_on, budget=order.budget)
    try:
        return await request.app[QUEUE].enqueue(
            work,
            priority=order.priority,
            origin=ORIGIN_API,
            key=key,
            fingerprint=fingerprint,
        )
    except KeyReusedError as error:
        raise RefusedError(409, str(error), code="key-reused") from error


async def list_runs(request: web.Request) -> web.Response:
    """List runs, a page at a time."""
    query = read_query(request, RunQuery)
    found = await request.app[ROWS].page(
        before=query.before, limit=query.limit + 1, states=query.state, origin=query.origin
    )
    shown = found[: query.limit]
    after = shown[-1].run_id if len(found) > query.limit else None
    return json_response(RunPage(runs=tuple(describe(request, each) for each in shown), next=after))


async def get_run(request: web.Request) -> web.Response:
    """Look at one run."""
    return json_response(describe(request, await find_run(request, path_parameter(request, "run_id"))))


async def cancel_run(request: web.Request) -> web.Response:
    """End a run."""
    run_id = path_parameter(request, "run_id")
    await no_body(request)
    return json_response(describe(request, await end_run(request, run_id)), status=202)


async def end_run(request: web.Request, run_id: str) -> Listed:
    """Ask for a run's end.

    Raises:
        RefusedError: there is no such run, or it has ended.
    """
    cancelled = await request.app[DISPATCHER].cancel(run_id)
    listed = await find_run(request, run_id)
    if cancelled is None:
        state = describe(request, listed).state
        raise RefusedError(409, f"run {run_id} is {state}: the service has nothing to end", code="not-open")
    return listed


def read_key(request: web.Request) -> str | None:
    """Read the key that makes asking again safe.

    Raises:
        RefusedError: it has not the form of one.
    """
    key = request.headers.get(_KEY)
    if key is not None and not _KEYS.fullmatch(key):
        raise RefusedError(422, f"{_KEY}: 1 to 255 printable characters, no blanks")
    return key


def check_open(request: web.Request) -> None:
    """Refuse what asks for more work while the service stops.

    Raises:
        RefusedError: it does.
    """
    if request.app[STATE].draining:
        raise RefusedError(503, "the service is stopping; ask again", headers={"Retry-After": "10"})


async def accepted(request: web.Request, run: QueuedRun, *, new: bool) -> web.Response:
    """Answer that a run is in the line, and where it is."""
    headers = {"Location": f"{PREFIX}/runs/{run.run_id}"}
    if not new:
        headers[_REPLAYED] = "true"
    return json_response(describe(request, await find_run(request, run.run_id)), status=202, headers=headers)


def _request(orders: Orders, order: RunOrder) -> RunRequest:
    target = Target(endpoint=order.endpoint)
    if order.rescan is not None:
        selection = Selection(which=Which(order.rescan.which), value=order.rescan.value)
        return orders.again(selection, sample=order.rescan.sample, confined=True, target=target)
    return orders.confined(
        sources=order.sources,
        manifests=order.manifests,
        include=order.include,
        exclude=order.exclude,
        target=target,
    )


def _fingerprint(order: RunOrder) -> bytes:
    """What a request means, whatever order its keys come in."""
    return hashlib.sha256(json.dumps(order.model_dump(mode="json"), sort_keys=True).encode()).digest()


KEY_HEADER: Final = {_KEY: "Makes asking again safe: known as long as its run is."}
QUEUED: Final = Answer(
    what="Queued.",
    model=Run,
    headers={
        "Location": "where the run is",
        _REPLAYED: "true where the key was known, and so no run was made",
    },
)

OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/runs",
        name="createRun",
        summary="Ask for a run",
        about="The run is queued, and safe, when this answers. The same Idempotency-Key is the same run.",
        handler=create_run,
        body=RunOrder,
        headers=KEY_HEADER,
        answers={202: QUEUED},
        refusals={
            403: "A source is not below a root, or a page of another origin sent it.",
            404: "There is no such endpoint.",
            409: "The key came with another body before.",
            415: "Not application/json.",
        },
    ),
    Operation(
        method="GET",
        path="/runs",
        name="listRuns",
        summary="List runs, the newest first",
        handler=list_runs,
        query=RunQuery,
        answers={200: Answer(what="A page of runs.", model=RunPage)},
    ),
    Operation(
        method="GET",
        path="/runs/{run_id}",
        name="getRun",
        summary="Look at a run",
        handler=get_run,
        answers={200: Answer(what="The run.", model=Run)},
    ),
    Operation(
        method="POST",
        path="/runs/{run_id}/cancel",
        name="cancelRun",
        summary="End a run",
        about="What was submitted is still judged, and kept for the next run. What it has found stays.",
        handler=cancel_run,
        answers={202: Answer(what="It ends, or has ended.", model=Run)},
        refusals={409: "It has ended, or is a run of the command line."},
    ),
)

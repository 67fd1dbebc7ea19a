"""Events by HTTP, as server-sent events (WHATWG HTML 9.2).

A stream has the numbers of the broker as ids. It begins with how things stand, goes on with what happens,
and ends with the run. A reader that takes nothing for a while is cut off; one that comes back with
Last-Event-ID is sent the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from aiohttp import web
from pydantic import BaseModel

from batchscan.service.documents import RunPage
from batchscan.service.events import Event, Subscription
from batchscan.service.keys import BROKER, ROWS, SERVICE_CONFIG, STATE
from batchscan.service.operations import Answer, Operation, path_parameter
from batchscan.service.problems import RefusedError
from batchscan.service.runs_api import describe, find_run

HEARTBEAT_S: Final = 10.0
_LOOK_S: Final = 1.0
_WRITE_S: Final = 10.0
_RETRY_MS: Final = 2000
_LAST: Final = "Last-Event-ID"
_SNAPSHOT: Final = "snapshot"
_OPEN_RUNS: Final = 100
_STREAM: Final = "text/event-stream"
ENDS: Final = frozenset({"complete", "incomplete", "cancelled", "failed", "interrupted"})


async def run_events(request: web.Request) -> web.StreamResponse:
    """Follow one run to its end."""
    run_id = path_parameter(request, "run_id")
    await find_run(request, run_id)
    after = _after(request)
    broker = request.app[BROKER]
    with broker.subscribe(run_id, after=after) as events:
        listed = await find_run(request, run_id)
        number = broker.number  # what was published up to here is in what was just read
        run = describe(request, listed)
        ended = run.state in ENDS
        if ended and after is not None and not events.missed and not events.waiting:
            return web.Response(status=204)  # tells a browser not to come back
        async with open_stream(request) as response:
            if after is None or events.missed:
                await _send(response, number, _SNAPSHOT, run)
                if ended:
                    return response
                events.skip(number)
            await follow(request, response, events)
    return response


async def all_events(request: web.Request) -> web.StreamResponse:
    """Follow all runs, for as long as somebody reads."""
    after = _after(request)
    broker = request.app[BROKER]
    with broker.subscribe(after=after) as events:
        found = await request.app[ROWS].page(before=None, limit=_OPEN_RUNS, states=("queued", "running"))
        number = broker.number
        page = RunPage(runs=tuple(describe(request, each) for each in found), next=None)
        async with open_stream(request) as response:
            if after is None or events.missed:
                await _send(response, number, _SNAPSHOT, page)
                events.skip(number)
            await follow(request, response, events, to_the_end=False)
    return response


def _after(request: web.Request) -> int | None:
    given = request.headers.get(_LAST)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= 19):  # noqa: PLR2004 - as a 64-bit number has
        return -1  # no number of ours: told from the beginning
    return int(given)


@asynccontextmanager
async def open_stream(request: web.Request) -> AsyncIterator[web.StreamResponse]:
    """Open a stream, one of a bounded number."""
    state, most = request.app[STATE], request.app[SERVICE_CONFIG].max_streams
    if state.streams >= most:
        raise RefusedError(
            503, f"{most} event streams are open, which is all there may be", headers={"Retry-After": "5"}
        )
    response = web.StreamResponse(headers={"Content-Type": _STREAM, "X-Accel-Buffering": "no"})
    state.streams += 1
    try:
        await response.prepare(request)
        await write(response, b"retry: %d\n\n" % _RETRY_MS)
        yield response
        await write(response, b"")
    except (ConnectionError, TimeoutError):
        # gone, or has taken nothing for too long
        if request.transport is not None:
            request.transport.abort()
    finally:
        state.streams -= 1


async def follow(
    request: web.Request,
    response: web.StreamResponse,
    events: Subscription,
    *,
    to_the_end: bool = True,
    encode: Callable[[Event], Awaitable[bytes]] | None = None,
) -> None:
    """Write what happens, until the run ends or nobody reads any more; as JSON, if not told otherwise."""
    silent = 0
    while True:
        try:
            async with asyncio.timeout(_LOOK_S):
                event = await anext(events)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if request.transport is None or request.transport.is_closing():
                return  # gone: another one may have its place
            silent += 1
            if silent * _LOOK_S >= HEARTBEAT_S:
                silent = 0
                await write(response, b":\n\n")
            continue
        silent = 0
        await write(response, _encoded(event) if encode is None else await encode(event))
        if event.last and to_the_end:
            return


async def _send(response: web.StreamResponse, number: int, kind: str, document: BaseModel) -> None:
    await write(response, _frame(number, kind, document.model_dump_json().encode()))


def _encoded(event: Event) -> bytes:
    told = {"run_id": event.run_id, "at": event.at, **event.data}
    return _frame(event.number, event.kind, msgspec.json.encode(told))


def _frame(number: int, kind: str, data: bytes) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), data)


async def write(response: web.StreamResponse, frame: bytes) -> None:
    """Write, for as long as a reader may take.

    Raises:
        ConnectionError: it is gone.
        TimeoutError: it takes nothing.
    """
    async with asyncio.timeout(_WRITE_S):
        await response.write(frame)


_ANSWERS: Final = {
    200: Answer(what="A stream of events, each with an id; the data of each is JSON.", media=(_STREAM,))
}
_HEADERS: Final = {_LAST: "The id of the last event that was seen: what came after it is sent."}

OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/runs/{run_id}/events",
        name="followRun",
        summary="Follow a run",
        about="`snapshot` tells how it stands, `run.state` and `run.progress` what changes. The run's end is"
        " the stream's.",
        handler=run_events,
        headers=_HEADERS,
        answers={
            **_ANSWERS,
            204: Answer(what="It has ended, and all was seen.", media=()),
        },
    ),
    Operation(
        method="GET",
        path="/events",
        name="followAll",
        summary="Follow all runs",
        about="`snapshot` tells which runs are open, `run.state` and `run.progress` what changes.",
        handler=all_events,
        headers=_HEADERS,
        answers=_ANSWERS,
    ),
)

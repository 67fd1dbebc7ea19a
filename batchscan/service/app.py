"""The application: how the parts of the service meet.

For whoever adds a room to the service:

- **Runs** are asked for with ``app[QUEUE].enqueue(work, priority=, origin=)``; ``app[ORDERS].trusted(...)``
  writes the request of a run that the operator's own file asks for, ``.confined(...)`` that of a caller's,
  ``.again(...)`` a rescan's. What it returns is safe in the ledger. The dispatcher carries it out.
- **Events**: ``app[BROKER].publish(kind, run_id, data)`` tells all who listen;
  ``with app[BROKER].subscribe() as events: async for event in events`` listens. ``run.state`` comes with
  each change of a run (``data["state"]``, ``last`` once it has ended), ``run.progress`` each second at most.
- **Long-lived tasks** are started in a cleanup context by ``app[WORKERS].start(coroutine, name)`` and ended
  by ``await app[WORKERS].stop(task)``. One that ends by itself ends the service with exit code 70.
- **Cleanup contexts** are listed in ``CONTEXTS``, below, in the order of starting; they end in reverse. A
  room of its own adds its context behind ``_dispatching``, so that it stops before the runs do.
- **Routes** of the API are ``Operation``s in ``OPERATIONS``, below, which also describe them in OpenAPI.
  Other routes (probes, the live view) are added in ``make_app``. All pass the guard: Host, rate, token,
  Origin; those of the live view have a door of their own in place of the token.
- **Keys** of all that is in the application are in ``keys``. Look-ups use ``app[READER]``, a second
  connection to the ledger, so that they hold up no run.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
from aiohttp import web

from batchscan.ledger.queue import Queue
from batchscan.ledger.runs import Runs
from batchscan.metrics import Metrics
from batchscan.service import decisions_api, events_api, lookup_api, reports_api, runs_api, schedules_api
from batchscan.service.accounts import Accounts
from batchscan.service.dispatcher import Dispatcher
from batchscan.service.events import EventBroker
from batchscan.service.executor import Executor
from batchscan.service.guard import Admission, add_headers, frame
from batchscan.service.health import Pulse
from batchscan.service.keys import (
    BROKER,
    DISPATCHER,
    DOWNLOADS,
    METRICS,
    ORDERS,
    PULSE,
    QUEUE,
    QUOTA,
    READER,
    ROOTS,
    ROWS,
    SERVICE_CONFIG,
    SESSIONS,
    SETTLED,
    STATE,
    STATION,
    STATIONS,
    WORKERS,
)
from batchscan.service.openapi import openapi_document
from batchscan.service.operations import JSON, PREFIX, Operation
from batchscan.service.orders import Orders
from batchscan.service.probes import add_probes
from batchscan.service.queue import RunQueue
from batchscan.service.quota_note import QuotaNote
from batchscan.service.recollection import recall
from batchscan.service.roots import Roots
from batchscan.service.sessions import Sessions
from batchscan.service.state import ServiceState
from batchscan.service.stations import Stations
from batchscan.service.stream import Downloads
from batchscan.service.timed import keeping_time
from batchscan.service.tokens import TokenFile
from batchscan.service.view.door import door
from batchscan.service.view.routes import add_view, refuse, viewing
from batchscan.service.workers import Workers
from batchscan.service_config import ServiceConfig
from batchscan.session import open_state
from batchscan.settings import Settled

RUNS_STOP_S: Final = 8.5
"""How long runs may take to stop: longer than a pipeline drains, so that it is the one that gives up."""

_AFTER_S: Final = 0.2
"""How long they may take once they have had their time, or a second signal has come."""

OPERATIONS: Final[tuple[Operation, ...]] = (
    *runs_api.OPERATIONS,
    *events_api.OPERATIONS,
    *reports_api.OPERATIONS,
    *decisions_api.OPERATIONS,
    *lookup_api.OPERATIONS,
    *schedules_api.OPERATIONS,
)


async def _ledger(app: web.Application) -> AsyncIterator[None]:
    """Open the service's own endpoint and ledger; what is wrong with them is told at the start."""
    config = app[SETTLED].config
    stations = app[STATIONS]
    try:
        app[STATION] = await stations.at(config)
        async with open_state(config) as reader:
            app[READER] = reader
            app[ROWS] = Queue(reader)
            app[QUEUE] = RunQueue(Queue(app[STATION].ledger), app[BROKER])
            yield
    finally:
        await stations.close()


async def _remembering(app: web.Application) -> AsyncIterator[None]:
    """Let the metrics know from the beginning how the last runs ended."""
    await recall(app[ROWS], app[METRICS])
    yield


async def _dispatching(app: web.Application) -> AsyncIterator[None]:
    """Carry runs out."""
    accounts = Accounts(app[BROKER], app[METRICS], app[PULSE])
    executor = Executor(Runs(app[STATION].ledger), app[STATIONS], app[ORDERS])
    dispatcher = Dispatcher(app[QUEUE], executor, accounts, max_runs=app[SERVICE_CONFIG].max_runs)
    app[DISPATCHER] = dispatcher
    task = app[WORKERS].start(dispatcher.run(), "dispatcher")
    yield
    dispatcher.drain()
    await app[WORKERS].stop(task, within_s=_AFTER_S if app[STATE].waited else RUNS_STOP_S)


CONTEXTS: Final = (_ledger, _remembering, _dispatching, keeping_time, viewing)


def make_app(flags: Mapping[str, Any], settled: Settled, service: ServiceConfig) -> web.Application:
    """Put the application together; blocks, and opens nothing but the files that it is told of.

    Args:
        flags: that the service was started with.
        settled: settings of all runs.
        service: settings of the service.

    Raises:
        UsageError: a root or the token's file cannot be used.
    """
    token = None if service.token_file is None else TokenFile(service.token_file)
    admission = Admission(service.host, service.hosts, token, service.request_rate)
    app = web.Application(
        middlewares=[frame(refuse), admission.middleware(), door],
        client_max_size=service.max_body,
    )
    app.on_response_prepare.append(add_headers)
    app[SETTLED] = settled
    app[SERVICE_CONFIG] = service
    app[STATE] = ServiceState()
    app[ROOTS] = Roots(service.roots)
    app[ORDERS] = Orders(flags, settled, app[ROOTS])
    app[SESSIONS] = Sessions(token)
    app[BROKER] = EventBroker()
    app[WORKERS] = Workers()
    app[METRICS] = Metrics(process=True)
    app[PULSE] = Pulse()
    app[QUOTA] = QuotaNote()
    app[STATIONS] = Stations(app[METRICS])
    app[DOWNLOADS] = Downloads()
    app.cleanup_ctx.extend(CONTEXTS)
    app.on_shutdown.append(_end_streams)
    _add_api(app, with_token=token is not None)
    add_probes(app)
    add_view(app)
    return app


def begin_to_stop(app: web.Application) -> None:
    """Begin nothing more. The streams end when the runs have stopped, so that they tell of it."""
    app[STATE].draining = True
    app[WORKERS].stopping()
    if DISPATCHER in app:
        app[DISPATCHER].drain()


async def runs_stopped(app: web.Application) -> None:
    """Wait until no run is under way, for as long as runs may take to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(RUNS_STOP_S):
            await app[DISPATCHER].idle.wait()


async def _end_streams(app: web.Application) -> None:
    app[BROKER].close()


def _add_api(app: web.Application, *, with_token: bool) -> None:
    for operation in OPERATIONS:
        app.router.add_route(operation.method, PREFIX + operation.path, operation.handler)
    document = msgspec.json.encode(openapi_document(OPERATIONS, with_token=with_token))

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=document, content_type=JSON)

    app.router.add_route("GET", f"{PREFIX}/openapi.json", openapi)

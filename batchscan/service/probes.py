"""Probes and metrics by HTTP: `/healthz`, `/readyz` and `/metrics`.

The probes are open to anybody who can reach the port, so what costs something, a write to the ledger say, is
looked at once in a while and not once for each who asks. A scrape is answered while the ledger fails: it
tells of it.
"""

import asyncio
import time
from contextlib import suppress
from typing import Final

from aiohttp import web

from batchscan.errors import LedgerError, UsageError
from batchscan.ledger.queue import QueueState
from batchscan.ledger.schedules import standings
from batchscan.metrics import render
from batchscan.service.health import Changes, Health, ledger_problem, readiness
from batchscan.service.keys import METRICS, ORDERS, PULSE, READER, ROWS, STATE, STATION
from batchscan.service.operations import JSON
from batchscan.settings import settle

_READY_S: Final = 5.0
_LOOK_AGAIN_S: Final = 10.0


class Probes:
    """Answers whoever asks how the service is."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._looking = asyncio.Lock()
        self._ledger: str | None = None
        self._ready_until = float("-inf")
        self._config: str | None = None
        self._look_at = float("-inf")

    async def healthz(self, request: web.Request) -> web.Response:
        """Tell whether the tasks turn."""
        return _answer(request.app[PULSE].health())

    async def readyz(self, request: web.Request) -> web.Response:
        """Tell whether work can be taken."""
        return _answer(await self._ready(request.app))

    async def metrics(self, request: web.Request) -> web.Response:
        """Tell Prometheus."""
        app = request.app
        await self._ready(app)
        await app[METRICS].look(app[STATION].ledger.path)
        with suppress(LedgerError):
            app[METRICS].runs = {state.value: await app[ROWS].count(state) for state in _OPEN}
            schedules = await app[READER].read(standings)
            app[METRICS].next_runs = {
                name: each.next_at for name, each in schedules.items() if each.next_at is not None
            }
        body, content_type = render(app[METRICS].registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _ready(self, app: web.Application) -> Health:
        async with self._looking:
            if time.monotonic() >= self._ready_until:
                self._ledger = await ledger_problem(app[STATION].ledger)
                self._ready_until = time.monotonic() + _READY_S
            await self._look_at_settings(app)
        health = readiness(ledger=self._ledger, config=self._config, draining=app[STATE].draining)
        reasons = {"ledger": self._ledger, "config": self._config, "accepting": "the service is stopping"}
        self._changes.note(health, reasons)
        app[METRICS].ready = dict(health.checks)
        return health

    async def _look_at_settings(self, app: web.Application) -> None:
        """Find out what is wrong with the settings file as it is now: a restart would fail."""
        if time.monotonic() >= self._look_at:
            try:
                await asyncio.to_thread(settle, app[ORDERS].flags)
            except UsageError as error:
                self._config = str(error)
            else:
                self._config = None
            self._look_at = time.monotonic() + _LOOK_AGAIN_S


def _answer(health: Health) -> web.Response:
    return web.Response(status=health.status, body=health.body(), content_type=JSON)


_OPEN: Final = (QueueState.QUEUED, QueueState.RUNNING)


def add_probes(app: web.Application) -> None:
    """Route them; they are no part of the API."""
    probes = Probes()
    app.router.add_route("GET", "/healthz", probes.healthz)
    app.router.add_route("GET", "/readyz", probes.readyz)
    app.router.add_route("GET", "/metrics", probes.metrics)

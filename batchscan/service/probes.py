"""Probes and metrics by HTTP: `/healthz`, `/readyz` and `/metrics`."""

import asyncio
import time
from typing import Final

from aiohttp import web

from batchscan.errors import UsageError
from batchscan.ledger.queue import QueueState
from batchscan.metrics import render
from batchscan.service.health import Changes, ledger_problem, readiness
from batchscan.service.keys import METRICS, ORDERS, PULSE, ROWS, STATE, STATION
from batchscan.service.operations import JSON
from batchscan.settings import SettingsError, settle

_LOOK_AGAIN_S: Final = 10.0


class Probes:
    """Answers whoever asks how the service is."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._config: str | None = None
        self._look_at = 0.0

    async def healthz(self, request: web.Request) -> web.Response:
        """Tell whether the tasks turn."""
        health = request.app[PULSE].health()
        return web.Response(status=health.status, body=health.body(), content_type=JSON)

    async def readyz(self, request: web.Request) -> web.Response:
        """Tell whether work can be taken."""
        app = request.app
        ledger = await ledger_problem(app[STATION].ledger)
        config = await self._settings_problem(app)
        health = readiness(ledger=ledger, config=config, draining=app[STATE].draining)
        self._changes.note(
            health, {"ledger": ledger, "config": config, "accepting": "the service is stopping"}
        )
        app[METRICS].ready = dict(health.checks)
        return web.Response(status=health.status, body=health.body(), content_type=JSON)

    async def metrics(self, request: web.Request) -> web.Response:
        """Tell Prometheus."""
        app = request.app
        await app[METRICS].look(app[STATION].ledger.path)
        app[METRICS].runs = {state.value: await app[ROWS].count(state) for state in _OPEN}
        body, content_type = render(app[METRICS].registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _settings_problem(self, app: web.Application) -> str | None:
        """Say what is wrong with the settings file as it is now: a restart would fail."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
            try:
                await asyncio.to_thread(settle, app[ORDERS].flags)
            except (SettingsError, UsageError) as error:
                self._config = str(error)
            else:
                self._config = None
        return self._config


_OPEN: Final = (QueueState.QUEUED, QueueState.RUNNING)


def add_probes(app: web.Application) -> None:
    """Route them; they are no part of the API."""
    probes = Probes()
    app.router.add_route("GET", "/healthz", probes.healthz)
    app.router.add_route("GET", "/readyz", probes.readyz)
    app.router.add_route("GET", "/metrics", probes.metrics)

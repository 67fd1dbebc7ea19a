"""Stations: one open ledger and client for each endpoint that runs ask for, shared by all runs there.

Each is opened and closed by a task of its own, because what it is made of must be left by the task that
entered it.
"""

import asyncio
from typing import Final

import msgspec
import structlog

from batchscan.config import Config
from batchscan.connect import find_access, scope_name
from batchscan.execution import Execution, Station
from batchscan.lines import Lines
from batchscan.metrics import Metrics
from batchscan.session import Session, open_station
from batchscan.stats import Meter, Stats

log = structlog.get_logger(__name__)

_CLOSE_S: Final = 5.0


class _Open(msgspec.Struct):
    """A station, or the task that opens it."""

    ready: "asyncio.Future[Station]"
    task: "asyncio.Task[None]"
    lines: Lines


class Stations:
    """Opens stations when they are first asked for; ``close`` closes them all.

    Args:
        metrics: have a meter for each.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: dict[tuple[object, ...], _Open] = {}
        self._closing = asyncio.Event()

    async def at(self, config: Config) -> Station:
        """Find the station of an endpoint, opening it where there is none.

        Raises:
            BatchscanError: it cannot be opened; the next one to ask tries again.
        """
        return msgspec.structs.replace((await self._opened(config))[0], config=config)

    async def session(self, config: Config, stats: Stats, priority: int) -> Session:
        """Make a session for one run, with its own settings and counts.

        Raises:
            BatchscanError: the station cannot be opened.
        """
        station, lines = await self._opened(config)
        stats.meter = self.meter(config)

        def count(action: str) -> None:
            stats.requests[action] += 1

        own = msgspec.structs.replace(station, config=config, client=station.client.counting(count))
        return Session(own, Execution(own, stats, lines, priority))

    def meter(self, config: Config) -> Meter:
        """Find what counts over all runs of an endpoint and profile."""
        return self._metrics.meter(scope_name(config), daily_budget=config.daily_budget)

    async def close(self) -> None:
        """Close all; what does not close in time is left behind."""
        self._closing.set()
        tasks = [station.task for station in self._open.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _opened(self, config: Config) -> tuple[Station, Lines]:
        key = (scope_name(config), config.endpoint, config.language, config.proxy, config.ca_file)
        station = self._open.get(key)
        if station is None or (station.task.done() and not self._closing.is_set()):
            ready: asyncio.Future[Station] = asyncio.get_running_loop().create_future()
            ready.add_done_callback(_look_at)
            task = asyncio.create_task(self._keep(config, ready), name=f"station {config.endpoint}")
            station = self._open[key] = _Open(ready, task, Lines())
        return await asyncio.shield(station.ready), station.lines

    async def _keep(self, config: Config, ready: "asyncio.Future[Station]") -> None:
        try:
            access = await asyncio.to_thread(find_access, config)
            async with open_station(config, access, Stats(meter=self.meter(config))) as station:
                ready.set_result(station)
                await self._closing.wait()
        except Exception as error:
            if ready.done():
                log.exception("a station did not close well", endpoint=config.endpoint)
            else:
                ready.set_exception(error)
        finally:
            if not ready.done():
                ready.cancel()


def _look_at(ready: "asyncio.Future[Station]") -> None:
    """See a failure that nobody waits for any more; asyncio would print it."""
    if not ready.cancelled():
        ready.exception()

"""The tasks that the service consists of. One that ends by itself, however, ends the service, loudly."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from batchscan.errors import BatchscanError

log = structlog.get_logger(__name__)


class WorkerDiedError(BatchscanError):
    """A part of the service has ended that must not: a defect of batchscan, or the machine."""


class Workers:
    """Starts tasks and watches them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._dead: asyncio.Future[WorkerDiedError] | None = None
        self._stopping = False

    def start(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Start a task that is to run as long as the service does."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def first_death(self) -> WorkerDiedError:
        """Wait until one has ended that was not told to."""
        if self._dead is None:
            self._dead = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._dead)

    def stopping(self) -> None:
        """From here on they may end."""
        self._stopping = True

    async def stop(self, task: "asyncio.Task[None]", *, within_s: float = 0.0) -> None:
        """End a task: give it time to end by itself, then cancel it."""
        self.stopping()
        _, late = await asyncio.wait({task}, timeout=within_s)
        for each in late:
            each.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._stopping and error is None:
            return
        log.error("a part of the service has ended", part=task.get_name(), exc_info=error)
        death = WorkerDiedError(
            f"the service has ended, because its part {task.get_name()!r} did: {error or 'without an error'};"
            " please report it"
        )
        if self._dead is None:
            self._dead = task.get_loop().create_future()
        if not self._dead.done():
            self._dead.set_result(death)

"""How the end of a run is noted in a ledger that fails for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cli_lab import until
from structlog.testing import capture_logs

from batchscan.errors import UsageError
from batchscan.ledger.queue import Queue, QueueState, Work
from batchscan.ledger.runs import RunRequest, Runs
from batchscan.ledger.store import Ledger, open_ledger
from batchscan.metrics import Metrics
from batchscan.report.summary import Summary
from batchscan.service import dispatcher
from batchscan.service.accounts import Accounts
from batchscan.service.dispatcher import Dispatcher
from batchscan.service.events import EventBroker
from batchscan.service.executor import Executor, UnderWay
from batchscan.service.health import Pulse
from batchscan.service.queue import RunQueue

WORK = Work(request=RunRequest(sources=("/srv/skills",), directory="/", endpoint="embedded"))
BREAK = (
    "CREATE TRIGGER broken BEFORE UPDATE ON queue WHEN NEW.state = 'failed'"
    " BEGIN SELECT RAISE(ABORT, 'as told by a test'); END"
)


class Failing(Executor):
    """Every run fails, and nothing else is wrong with it."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def execute(self, under_way: UnderWay) -> Summary:
        raise UsageError(f"run {under_way.run.run_id} cannot be made")


@asynccontextmanager
async def failing(place: Path) -> AsyncIterator[tuple[Ledger, Queue, Dispatcher, "asyncio.Task[None]"]]:
    """A dispatcher at work on one run, whose end the ledger does not take."""
    async with open_ledger(place / "ledger.sqlite3", "s") as ledger:
        rows, broker = Queue(ledger), EventBroker()
        await ledger.write(lambda c: c.exec_driver_sql(BREAK))
        await rows.add("a", WORK, priority=0, origin="api", now=1.0)
        accounts = Accounts(broker, Metrics(), Pulse())
        made = Dispatcher(RunQueue(rows, broker), Failing(Runs(ledger)), accounts, max_runs=1)
        working = asyncio.create_task(made.run())
        try:
            yield ledger, rows, made, working
        finally:
            made.drain()
            await working


async def state_of(rows: Queue) -> QueueState:
    found = await rows.get("a")
    assert found is not None
    return found.state


async def test_the_end_of_a_run_is_noted_however_long_the_ledger_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_AGAIN_S", (0.001, 0.002))
    with capture_logs() as logged:
        async with failing(tmp_path) as (ledger, rows, made, _):

            def tries() -> int:
                return sum("could not be noted" in line["event"] for line in logged)

            await until(lambda: tries() > 0)
            await until(lambda: tries() > 6 or made.idle.is_set())
            assert "a" in made.under_way, "nobody notes its end any more"
            assert await state_of(rows) is QueueState.RUNNING
            await ledger.write(lambda c: c.exec_driver_sql("DROP TRIGGER broken"))
            await made.idle.wait()
            assert await state_of(rows) is QueueState.FAILED


async def test_a_service_that_stops_does_not_wait_for_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_AGAIN_S", (3600.0,))
    with capture_logs() as logged:
        async with failing(tmp_path) as (_, rows, made, working):
            await until(lambda: any("could not be noted" in line["event"] for line in logged))
            made.drain()
            await working
            assert made.idle.is_set()
            assert await state_of(rows) is QueueState.RUNNING  # the next service takes it back

"""What is slow holds up its own stage and what must wait for it, nothing else; nothing grows meanwhile.

Slowness is a gate that opens when the test has seen what it wanted to see, never a time.
"""

import asyncio
import io
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from core_lab import (
    CREATE,
    RESULT,
    Bench,
    Service,
    batches,
    by_path,
    candidate,
    eventually,
    reply,
    write_skills,
)
from sqlalchemy import Connection
from test_core_pacing import most_in_a_second

from batchscan import settlement
from batchscan.allowance import Allowance
from batchscan.ledger import store
from batchscan.models import Candidate, Stage
from batchscan.pacing import Pacer
from batchscan.pipeline import Pipeline, Policy

BATCH = 10


def inputs(root: Path) -> list[list[Candidate]]:
    """All inputs of a directory, in batches."""
    found = [candidate(path, root) for path in sorted(root.iterdir())]
    return [found[i : i + BATCH] for i in range(0, len(found), BATCH)]


class Walk:
    """A walk that notes how many batches were asked for."""

    def __init__(self, *lists: list[Candidate]) -> None:
        self.taken = 0
        self._lists = lists

    async def batches(self) -> AsyncGenerator[list[Candidate], None]:
        for one in self._lists:
            self.taken += 1
            yield one


class SlowCalls:
    """Answers to an action that wait at a gate, except for some; the most that waited at a time."""

    def __init__(self, cloud: Service, action: str, *, quick: int = 0) -> None:
        self.gate = asyncio.Event()
        self.open = self.most = 0
        self.seen: Callable[[], None] = lambda: None
        self._cloud, self._action, self._quick = cloud, action, quick
        cloud.always[action] = self._answer

    async def _answer(self, request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        self.open += 1
        self.most = max(self.most, self.open)
        self.seen()
        self._quick -= 1
        if self._quick < 0:
            await self.gate.wait()
        self.open -= 1
        return await self._cloud.usual(self._action, request, fields)


class SlowDisk:
    """The report's file, which takes nothing while the gate is closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.held = 0
        disk = self

        class File(io.FileIO):
            def write(self, content: Any) -> int:
                disk.held += 1
                disk.gate.wait()
                disk.held -= 1
                return super().write(content)

        monkeypatch.setattr(io, "FileIO", File)


@asynccontextmanager
async def going(pipeline: Pipeline, let_go: Callable[[], None]) -> AsyncIterator[None]:
    """Run it beside the block; then let go what holds it up, and see it end."""
    run = asyncio.create_task(pipeline.run())
    try:
        yield
    except BaseException:
        run.cancel()
        let_go()
        await asyncio.wait({run})
        raise
    let_go()
    await run


async def test_a_slow_service_holds_up_no_discovery_and_no_verdict(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    """While not one call more is answered, everything is found and admitted, and what was taken is judged."""
    root = tmp_path / "in"
    write_skills(root, 200)
    run = await table.new_run()
    calls = SlowCalls(cloud, CREATE, quick=3)
    walk = Walk(*inputs(root))
    async with table.pipeline(run, walk.batches()) as (pipeline, _), going(pipeline, calls.gate.set):
        await eventually(lambda: calls.open == 16 and pipeline._discovered)
        await eventually(lambda: table.stats.verdicts.total() == 3)
        assert walk.taken == 20
        assert table.stats.found == 200
        (admitted,) = await table.rows("SELECT count(*) AS n FROM scan")
        assert admitted["n"] == 200
        assert cloud.calls[CREATE] == 19
    assert calls.most == 16
    assert len(by_path(run.report)) == len(cloud.tasks) == cloud.calls[CREATE] == 200


async def test_a_slow_service_fills_no_memory(table: Bench, tmp_path: Path, cloud: Service) -> None:
    """The allowance of bytes binds before the number of calls does, and never more is out."""
    root = tmp_path / "in"
    largest = max(path.stat().st_size for path in write_skills(root, 60))
    run = await table.new_run()
    calls = SlowCalls(cloud, CREATE)
    held: list[int] = []
    limit = int(5.5 * 2.4 * largest)
    async with table.pipeline(run, batches(*inputs(root))) as (pipeline, _):
        loader = pipeline._stages._loader
        loader.allowance = Allowance(limit)
        calls.seen = lambda: held.append(loader.allowance.out)
        async with going(pipeline, calls.gate.set):
            await eventually(lambda: calls.open == 5 and pipeline._discovered)
            await eventually(
                lambda: len(loader.allowance._waiting) == 11
            )  # the others of the sixteen, on disk
        assert loader.allowance.out == 0
    assert calls.most == 5
    assert 0 < max(held) <= limit
    assert len(by_path(run.report)) == 60


async def test_a_slow_disk_stops_the_walk_and_no_poll(
    table: Bench, tmp_path: Path, cloud: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that cannot be written stop what makes more of them; the service is asked as before."""
    known, new = tmp_path / "known", tmp_path / "new"
    write_skills(known, 300)
    write_skills(new, 5, prefix="new")
    before = await table.new_run("before")
    async with table.pipeline(before, batches(*inputs(known))) as (pipeline, _):
        await pipeline.run()
    submitted = cloud.calls[CREATE]
    polls = most = 0
    judged = asyncio.Event()

    async def ask(request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        nonlocal polls, most
        polls += 1
        most = max(most, pipeline._scheduler._running[Stage.POLL])
        if judged.is_set():
            return await cloud.usual(RESULT, request, fields)
        return reply({"Status": "SCANNING", "Data": {"ContentHash": fields["ContentHash"]}})

    cloud.always[RESULT] = ask
    disk = SlowDisk(monkeypatch)
    run = await table.new_run()
    walk = Walk(*inputs(new), *inputs(known))

    def let_go() -> None:
        judged.set()
        disk.gate.set()

    async with table.pipeline(run, walk.batches()) as (pipeline, _):
        disk.gate.clear()
        async with going(pipeline, let_go):
            await eventually(lambda: disk.held == 1)
            seen, taken = polls, walk.taken
            await eventually(lambda: polls >= seen + 50)  # ten for each of the five
            assert walk.taken == taken == 2  # the new ones, and the first that have a row at once
            assert disk.held == 1
    assert most <= 5
    assert walk.taken == 31
    assert len(by_path(run.report)) == 305
    assert cloud.calls[CREATE] == submitted + 5


async def test_verdicts_that_cannot_be_written_stop_polls_and_no_submission(
    table: Bench, tmp_path: Path, cloud: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "QUEUED", 4)
    root = tmp_path / "in"
    write_skills(root, 100)
    disk = SlowDisk(monkeypatch)
    disk.gate.clear()
    run = await table.new_run()
    policy = Policy(polls=8)
    async with (
        table.pipeline(run, batches(*inputs(root)), policy=policy) as (pipeline, _),
        going(pipeline, disk.gate.set),
    ):
        queue = pipeline._settlement._finished
        await eventually(lambda: cloud.calls[CREATE] == 100)
        await eventually(lambda: queue.full() and len(queue._putters) == 8)  # type: ignore[attr-defined]  # typeshed hides it
        assert disk.held == 1
        assert cloud.calls[RESULT] <= 5 + 4 + 8  # with the settler, in the queue, before it
    assert len(by_path(run.report)) == cloud.calls[CREATE] == cloud.calls[RESULT] == 100


async def test_a_slow_ledger_breaks_no_cap_and_piles_nothing_up(
    table: Bench, tmp_path: Path, cloud: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a commit asks for nothing else: writes are bounded by the calls of the stages."""
    groups: list[int] = []
    commit = store._in_transaction

    def slow(connection: Connection, works: list[Any]) -> list[Any]:
        groups.append(len(works))
        time.sleep(0.03)  # in the ledger's thread; nothing is asserted of it
        return commit(connection, works)

    root = tmp_path / "in"
    write_skills(root, 80)
    run = await table.new_run()
    create = Pacer(table.ledger, CREATE, 50.0)
    starts: list[float] = []
    submitting: list[int] = []
    start = create.start

    async def noted(*steps: Any) -> Any:
        submitting.append(pipeline._scheduler._running[Stage.SUBMIT])
        held = await start(*steps)
        if held is not None:
            starts.append(time.time())
        return held

    monkeypatch.setattr(create, "start", noted)
    monkeypatch.setattr(store, "_in_transaction", slow)
    async with table.pipeline(run, batches(*inputs(root)), create=create) as (pipeline, _):
        await pipeline.run()
    assert most_in_a_second(starts) <= 50
    assert max(submitting) == 16
    assert max(groups) <= 16 + 32 + 3  # both stages, the producer, the settler, the watch
    assert len(by_path(run.report)) == len(cloud.tasks) == 80

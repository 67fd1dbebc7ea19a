"""Budgets in the ledger: reserved with the claim, settled by what was billed, never spent twice."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from core_lab import CREATE, RESULT, T0, Bench, Clock, Service, bench, candidate, refuse, sha, state, zipped

from batchscan.ledger.budget import Budget, Spending, day_purse
from batchscan.ledger.runs import RunRecord
from batchscan.ledger.scans import Scans
from batchscan.ledger.standing import Freshness
from batchscan.models import Stage
from batchscan.scheduler import Wake
from batchscan.stages import SetAside, Settled, Stages

TODAY = day_purse(T0)


class Purse:
    """Some digests of one file each, a budget over them, and the steps of one process."""

    def __init__(self, table: Bench, run: RunRecord, digests: list[bytes]) -> None:
        self.table = table
        self.run = run
        self.digests = digests
        self.clock = Clock()
        self.budget = Budget(table.ledger, run.id, clock=self.clock)
        self.scans = table.scans
        self.stages = table.stages(run)

    async def open(self, *, anew: bool = False, **limits: Any) -> "Purse":
        self.budget = Budget(self.table.ledger, self.run.id, clock=self.clock, **limits)
        await self.budget.open(anew=anew)
        self.scans = Scans(self.table.ledger, self.budget)
        self.stages = self.steps()
        return self

    def steps(self, **changes: Any) -> Stages:
        return self.table.stages(self.run, scans=self.scans, clock=self.clock, **changes)

    async def purses(self) -> dict[str, tuple[int, int]]:
        """What is reserved and spent, by purse."""
        rows = await self.table.rows("SELECT * FROM purse")
        return {row["name"]: (row["reserved"], row["spent"]) for row in rows}

    async def due(self) -> list[bytes]:
        found = await self.scans.backlog.due(self.run.id, Stage.SUBMIT, until=self.clock.now, limit=99)
        return [digest for digest, _ in found]

    @property
    def own(self) -> str:
        return f"run {self.run.id}"


async def purse(table: Bench, tmp_path: Path, count: int, run_id: str = "run-1") -> Purse:
    root = tmp_path / "in"
    root.mkdir(exist_ok=True)
    paths = [root / f"{number}.zip" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(zipped(f"budget {number}"))
    run = await table.new_run(run_id)
    admitter = table.admitter(run)
    await admitter.admit([candidate(path, root) for path in paths], Freshness(T0))
    admitter.close()
    return Purse(table, run, [sha(path.read_bytes()) for path in paths])


async def test_files_are_reserved_before_sending_and_settled_by_the_verdict(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    mine = await (await purse(table, tmp_path, 2)).open(allowance=5)
    await table.change("UPDATE artifact SET file_count = 4 WHERE digest = ?", (mine.digests[0],))
    at_the_service: list[dict[str, tuple[int, int]]] = []

    async def look(request: Any, fields: dict[str, Any]) -> Any:
        at_the_service.append(await mine.purses())
        return await cloud.usual(CREATE, request, fields)

    cloud.always[CREATE] = look
    step = await mine.stages.submit(mine.digests[0])
    assert at_the_service == [{mine.own: (4, 0), TODAY: (4, 0)}], "committed before it is sent"
    assert await mine.budget.spending() == Spending(5, 0, 4, 1)
    assert isinstance(step, Wake)
    mine.clock.now = step.at
    assert await mine.stages.poll(mine.digests[0]) == Settled()
    # the service says 1 file, where the directory of the ZIP named 4
    assert await mine.purses() == {mine.own: (0, 1), TODAY: (0, 1)}
    assert await mine.budget.spending() == Spending(5, 1, 0, 4)
    assert await table.rows("SELECT * FROM charge") == []


async def test_what_does_not_fit_is_set_aside_and_comes_forward_when_it_does(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    mine = await (await purse(table, tmp_path, 3)).open(allowance=3)
    large, small, other = mine.digests
    await table.change("UPDATE artifact SET file_count = 3 WHERE digest = ?", (large,))
    await table.change("UPDATE waiting SET files = 3 WHERE digest = ?", (large,))
    assert (await mine.due())[-1] == large, "the cheapest come first"
    step = await mine.stages.submit(small)
    assert await mine.stages.submit(large) == SetAside()
    assert (await table.scan_state(large))["state"] == "admitted"
    assert await mine.due() == [other]
    assert len(cloud.received) == 1
    assert (await mine.budget.leftover()).files == 3
    assert isinstance(step, Wake)
    cloud.script[RESULT] = [state("FAILED")]
    mine.clock.now = step.at
    mine.stages = mine.steps(timing=_once())
    assert await mine.stages.poll(small) == Settled()  # given up, and not billed
    assert await mine.purses() == {mine.own: (0, 0), TODAY: (0, 0)}
    assert set(await mine.due()) == {large, other}
    assert isinstance(await mine.stages.submit(large), Wake)
    assert await mine.due() == []
    assert not await mine.scans.backlog.any_left(mine.run.id, [Stage.SUBMIT])


def _once() -> Any:
    from core_lab import TIMING
    from msgspec.structs import replace

    return replace(TIMING, max_attempts=1)


async def test_what_cannot_have_arrived_is_given_back(table: Bench, tmp_path: Path, cloud: Service) -> None:
    mine = await (await purse(table, tmp_path, 1)).open(allowance=1)
    for code in ("RequestLimitExceeded", "InternalError"):
        cloud.script[CREATE] = [refuse(code)]
        assert isinstance(await mine.stages.submit(mine.digests[0]), Wake)
        assert await mine.purses() == {mine.own: (0, 0), TODAY: (0, 0)}
        assert (await mine.budget.leftover()).digests == 0
    cloud.script[CREATE] = [refuse("InvalidParameterValue")]
    assert await mine.stages.submit(mine.digests[0]) == Settled()
    assert await mine.purses() == {mine.own: (0, 0), TODAY: (0, 0)}


async def test_what_may_have_arrived_stays_reserved_and_counts_as_billed(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    mine = await (await purse(table, tmp_path, 2)).open(allowance=1)
    first, second = mine.digests
    cloud.script[CREATE] = [cloud.reset_after, refuse("RequestLimitExceeded")]
    for _ in range(2):
        assert isinstance(await mine.stages.submit(first), Wake)
        assert await mine.purses() == {mine.own: (1, 0), TODAY: (1, 0)}
        mine.clock.now += 60.0
    assert await mine.due() == [first], "sent again, it costs nothing more"
    assert await mine.stages.submit(second) == SetAside()
    cloud.always[CREATE] = cloud.reset_after
    for _ in range(5):
        step = await mine.stages.submit(first)
        mine.clock.now += 60.0
    assert step == Settled()
    assert await mine.purses() == {mine.own: (0, 1), TODAY: (0, 1)}


async def test_an_allowance_survives_a_kill_and_begins_anew_after_an_end(
    table: Bench, tmp_path: Path
) -> None:
    mine = await (await purse(table, tmp_path, 3)).open(allowance=2)
    for digest in mine.digests[:2]:
        await mine.stages.submit(digest)
    killed = await mine.open()
    assert await killed.budget.spending() == Spending(2, 0, 2, 0)
    raised = await mine.open(allowance=3)
    assert await raised.budget.spending() == Spending(3, 0, 2, 1)
    anew = await mine.open(anew=True)
    assert await anew.budget.spending() == Spending(3, 0, 0, 3)


async def test_runs_share_the_day_and_not_each_others_allowance(
    table: Bench, tmp_path: Path, cloud: Service
) -> None:
    one = await (await purse(table, tmp_path, 4)).open(allowance=3, daily=4)
    two = await (await purse(table, tmp_path, 4, "run-2")).open(daily=2)
    unlimited = await (await purse(table, tmp_path, 4, "run-3")).open()
    await one.stages.submit(one.digests[0])
    await unlimited.stages.submit(one.digests[1])
    assert await two.stages.submit(one.digests[2]) == SetAside(), "two files are the day's two"
    assert isinstance(await one.stages.submit(one.digests[2]), Wake)
    purses = await one.purses()
    assert purses == {one.own: (2, 0), TODAY: (3, 0)}
    two.clock.now += 86400.0
    assert isinstance(await two.stages.submit(one.digests[3]), Wake), "another day"
    assert len(cloud.received) == 4


async def test_processes_cannot_overspend_together(tmp_path: Path, cloud: Service) -> None:
    """Four connections to one ledger claim at the same time."""
    async with bench(tmp_path, cloud.endpoint) as table:
        first = await purse(table, tmp_path, 40)
        others = [bench(tmp_path, cloud.endpoint) for _ in range(3)]
        benches = [table, *[await other.__aenter__() for other in others]]
        try:
            runs = [
                await Purse(one, await one.new_run(f"other-{number}"), first.digests).open(daily=9)
                for number, one in enumerate(benches)
            ]
            for run in runs:
                await table.change(
                    "INSERT INTO waiting SELECT ?, digest, key, path, candidate, duplicate_of, 0, 0, 1"
                    " FROM waiting WHERE run = ?",
                    (run.run.id, first.run.id),
                )
            each = [run.stages.submit(digest) for digest in first.digests for run in runs]
            await asyncio.gather(*each)
        finally:
            for other in others:
                await other.__aexit__(None, None, None)
        assert len(cloud.received) == 9
        assert (await first.purses())[TODAY] == (9, 0)


async def test_a_verdict_that_another_run_fetches_settles_the_one_that_sent_it(
    table: Bench, tmp_path: Path
) -> None:
    mine = await (await purse(table, tmp_path, 1)).open(allowance=1)
    step = await mine.stages.submit(mine.digests[0])
    other = await (await purse(table, tmp_path, 1, "run-2")).open()
    assert isinstance(step, Wake)
    other.clock.now = step.at
    assert await other.stages.poll(mine.digests[0]) == Settled()
    assert await mine.purses() == {mine.own: (0, 1), TODAY: (0, 1)}


@pytest.mark.parametrize("files", [0, 1])
async def test_a_zip_without_files_counts_as_one(table: Bench, tmp_path: Path, files: int) -> None:
    mine = await purse(table, tmp_path, 1)
    await table.change("UPDATE artifact SET file_count = ?", (files,))
    await mine.open(allowance=0)
    assert await mine.stages.submit(mine.digests[0]) == SetAside()
    assert (await mine.budget.leftover()).files == 1

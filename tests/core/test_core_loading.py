"""Loading: only bytes that match, and only so many in memory while a slow service is waited for."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from core_lab import T0, Bench, candidate, eventually, sha, write_skills

from batchscan.ledger.runs import RunRecord
from batchscan.ledger.scans import Scans
from batchscan.ledger.standing import Freshness
from batchscan.loading import Loader


class Waiting:
    """Admitted skills of one run, and loaders for them."""

    def __init__(self, table: Bench, run: RunRecord, paths: list[Path]) -> None:
        self.paths = paths
        self.digests = [sha(path.read_bytes()) for path in paths]
        self._scans, self._run = Scans(table.ledger), run.id

    def loader(self, allowed_bytes: int = 1_000_000) -> Loader:
        return Loader(self._scans, self._run, limit_bytes=100_000, allowed_bytes=allowed_bytes)


@pytest_asyncio.fixture
async def waiting(table: Bench, tmp_path: Path) -> AsyncIterator[Waiting]:
    paths = write_skills(tmp_path / "in", 8)
    run = await table.new_run()
    admitter = table.admitter(run)
    await admitter.admit([candidate(path, tmp_path / "in") for path in paths], Freshness(T0))
    admitter.close()
    yield Waiting(table, run, paths)


async def test_the_request_holds_the_bytes_of_the_digest(waiting: Waiting) -> None:
    async with waiting.loader().load(waiting.digests[0]) as request:
        assert request is not None
        assert json.loads(request.body)["FileName"] == waiting.paths[0].name


async def test_other_bytes_are_not_loaded_and_hold_no_memory(waiting: Waiting) -> None:
    waiting.paths[0].write_bytes(b"swapped")
    waiting.paths[1].unlink()
    loader = waiting.loader()
    for digest in waiting.digests[:2]:
        async with loader.load(digest) as request:
            assert request is None
    assert loader.allowance.out == 0


async def test_what_does_not_fit_into_memory_stays_on_disk_until_a_call_has_ended(waiting: Waiting) -> None:
    size = max(path.stat().st_size for path in waiting.paths)
    loader = waiting.loader(int(3.5 * 2.4 * size))
    loaded: list[bytes] = []
    most = 0

    async def send(digest: bytes, answered: asyncio.Event) -> None:
        nonlocal most
        async with loader.load(digest) as request:
            assert request is not None
            loaded.append(digest)
            most = max(most, loader.allowance.out)
            await answered.wait()  # the slow service

    events = [asyncio.Event() for _ in waiting.digests]
    async with asyncio.TaskGroup() as sends:
        for pair in zip(waiting.digests, events, strict=True):
            sends.create_task(send(*pair))
        await eventually(lambda: len(loaded) == 3)
        await asyncio.sleep(0.1)  # long enough for more, if more were let in
        assert len(loaded) == 3
        events[waiting.digests.index(loaded[0])].set()
        await eventually(lambda: len(loaded) == 4)
        for event in events:
            event.set()
    assert most <= 3.5 * 2.4 * size
    assert sorted(loaded) == sorted(waiting.digests)
    assert loader.allowance.out == 0

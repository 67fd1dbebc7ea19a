"""Polling in simulated time: real scheduler, stages, pacer, admission and ledger; service and clock are not.

Usage: simulate.py TREE; prints JSON. Time jumps to the next timer when nothing is ready, what goes to
threads is done at once, and the ledger is in memory on the loop's own thread: hours pass in minutes.
"""

import asyncio
import hashlib
import json
import os
import selectors
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

from cap import most_in_any_second
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool
from waits import scan_s, spread_of

from batchscan import scheduler
from batchscan.api.protocol import Request, ScanResult, ScanStatus, Submission
from batchscan.api.reactions import CREATE, RESULT
from batchscan.config import PRESETS
from batchscan.ledger import schema
from batchscan.ledger.admission import Admission
from batchscan.ledger.runs import RunRequest, Runs
from batchscan.ledger.scans import Scans
from batchscan.ledger.standing import Content, Freshness, Item
from batchscan.ledger.store import Ledger
from batchscan.models import Artifact, Candidate, FileStat, RiskLevel, Stage, Verdict
from batchscan.outage import Outage
from batchscan.pacing import Pacer
from batchscan.pipeline import Policy
from batchscan.scheduler import Scheduler, Wake
from batchscan.stages import Settled, Stages, Timing
from batchscan.stats import Stats

if TYPE_CHECKING:
    from batchscan.api.client import ScanClient

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = 1_780_000_000.0
CALL_S = 0.1
_PAGE = 500


class _Jump(selectors.SelectSelector):
    """Waits by moving the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("nothing will ever happen")
        self.now += max(timeout, 1e-7)  # as on a real clock, time always passes
        return super().select(0)


class JumpLoop(asyncio.SelectorEventLoop):
    """An event loop in simulated time, without threads."""

    def __init__(self) -> None:
        self._clock = _Jump()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def wall(self) -> float:
        """Epoch seconds."""
        return EPOCH + self._clock.now

    def run_in_executor(
        self,
        executor: Any,  # noqa: ARG002 - there is no other thread
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        done.set_result(func(*args))
        return done


class InlineLedger(Ledger):
    """Real tables and statements, in memory, on the thread of the loop."""

    def __init__(self) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool)
        self._made = engine.connect()
        schema.metadata.create_all(self._made)
        self.path = Path(":memory:")
        self.scope = 1

    async def read(self, work: Callable[[Connection], T]) -> T:
        return work(self._made)

    async def write(self, work: Callable[[Connection], T]) -> T:
        return work(self._made)


class Service:
    """Judges each digest after the time that ``waits`` gives it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.ready_at: dict[bytes, float] = {}
        self.polls: Counter[bytes] = Counter()
        self.polled_at: list[float] = []

    async def create(self, _request: Request, digest: bytes) -> Submission:
        await asyncio.sleep(CALL_S)
        self.ready_at[digest] = self._clock() + scan_s(digest)
        return Submission(digest, 1, None)

    async def result(self, digest: bytes, engine_version: int) -> ScanResult:
        self.polled_at.append(self._clock())
        self.polls[digest] += 1
        await asyncio.sleep(CALL_S)
        if self._clock() < self.ready_at[digest]:
            return ScanResult(ScanStatus.SCANNING)
        return ScanResult(
            ScanStatus.SUCCESS, Verdict(level=RiskLevel.BENIGN, engine_version=engine_version, file_count=1)
        )


def _items(tree: Path) -> Iterator[Item]:
    for directory in sorted(tree.iterdir()):
        for entry in os.scandir(directory):
            content, stat = Path(entry.path).read_bytes(), entry.stat()
            candidate = Candidate(
                source=str(tree),
                path=entry.name,
                location=os.fsencode(entry.path),
                stat=FileStat(stat.st_size, stat.st_mtime_ns, stat.st_ino),
            )
            artifact = Artifact(hashlib.sha256(content).digest(), stat.st_size, 1)
            yield Item(candidate, Content(artifact), fresh=False)


async def _admit(ledger: Ledger, run: int, items: Iterator[Item], now: float) -> int:
    admission, count = Admission(ledger, run), 0
    while page := list(islice(items, _PAGE)):
        await admission.admit(page, firsts=[None] * len(page), fresh=Freshness(now), read_at_ns=0)
        count += len(page)
    return count


def _stages(loop: JumpLoop, ledger: Ledger, scans: Scans, service: Service, run: int, stats: Stats) -> Stages:
    preset = PRESETS["intl"]
    return Stages(
        scans=scans,
        client=cast("ScanClient", service),
        create=Pacer(ledger, CREATE, preset.create_rate, clock=loop.wall),
        result=Pacer(ledger, RESULT, preset.result_rate, clock=loop.wall),
        timing=Timing(
            first_poll_s=preset.first_poll_s,
            poll_interval_s=preset.poll_interval_s,
            deadline_s=preset.deadline_s,
        ),
        outage=Outage(120.0, clock=loop.time),
        stats=stats,
        owner="simulated",
        run=run,
        limit_bytes=7_000_000,
        clock=loop.wall,
    )


async def simulate(loop: JumpLoop, tree: Path) -> Mapping[str, float]:
    """Submit all of the tree at the international site's caps, poll by its presets, until all is judged."""
    preset, ledger, service, stats = PRESETS["intl"], InlineLedger(), Service(loop.wall), Stats()
    request = RunRequest(sources=("tree",), directory="/", endpoint="intl")
    record = await Runs(ledger).create("run", request, Path("/report"), now=EPOCH)
    count = await _admit(ledger, record.id, _items(tree), loop.wall())
    scans = Scans(ledger)
    stages = _stages(loop, ledger, scans, service, record.id, stats)
    delays: list[float] = []

    async def act(stage: Stage, digest: bytes) -> Wake | None:
        step = await (stages.submit if stage is Stage.SUBMIT else stages.poll)(digest)
        if isinstance(step, Wake):
            return step
        if isinstance(step, Settled):
            delays.append(loop.wall() - service.ready_at[digest])
            if len(delays) == count:
                planner.stop()
            return None
        raise AssertionError(f"not settled: {step}")

    async def due(stage: Stage, until: float, limit: int) -> list[tuple[bytes, float]]:
        return await scans.backlog.due(record.id, stage, until=until, limit=limit)

    policy = Policy()
    limits = {Stage.SUBMIT: policy.submits, Stage.POLL: policy.polls}
    planner = Scheduler(due, act, limits, clock=loop.wall)
    await planner.run()
    return {
        "first poll s": preset.first_poll_s,
        "interval s": preset.poll_interval_s,
        "verdicts": count,
        "polls per verdict": sum(service.polls.values()) / count,
        **spread_of(delays),
        "most polls in any second": most_in_any_second(sorted(service.polled_at)),
        "calls made again": stats.retries,
        "simulated h": loop.time() / 3600,
    }


def main(tree: Path) -> None:
    loop = JumpLoop()
    # The scheduler paces its looks at the ledger by the machine's clock, which stands still here.
    vars(scheduler)["time"] = SimpleNamespace(time=loop.wall, monotonic=loop.time)
    began = time.process_time()
    asyncio.set_event_loop(loop)
    try:
        told = loop.run_until_complete(simulate(loop, tree))
    finally:
        loop.close()
    print(json.dumps({**told, "real CPU s": time.process_time() - began}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Parts for the core's tests: a service on a real socket that bills, files, and a wired run."""

import asyncio
import base64
import hashlib
import io
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from batchscan.admit import Admitter
from batchscan.api.client import Endpoint, ScanClient, Timeouts, open_client
from batchscan.api.credentials import Credentials, Secret, StaticCredentials
from batchscan.backoff import Backoff
from batchscan.gate import Gate
from batchscan.ledger.admission import Admission
from batchscan.ledger.owners import own
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.ledger.scans import Scans
from batchscan.ledger.store import Ledger, open_ledger
from batchscan.ledger.waiting import WaitingInputs
from batchscan.models import Candidate, FileStat
from batchscan.outage import Outage
from batchscan.pacing import Pacer
from batchscan.pipeline import Pipeline, Policy
from batchscan.record import Recorder
from batchscan.report.jsonl import Mode, open_report
from batchscan.stages import Stages, Timing
from batchscan.stats import Stats

CREATE, RESULT, PAY = "CreateSkillScan", "DescribeSkillScanResult", "DescribeSkillScanPayInfo"
ENGINE = 20260501
LIMIT = 7_000_000
KEY = StaticCredentials(Credentials("AKIDEXAMPLE", Secret("FakeSecretKeyForLoopbackTests000"), None, "test"))
T0 = 1_780_000_000.0

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def zipped(text: str) -> bytes:
    """A skill; the text makes it different from others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            zipfile.ZipInfo("SKILL.md", (2000, 1, 1, 0, 0, 0)), f"---\nname: demo\n---\n{text}\n"
        )
    return buffer.getvalue()


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def candidate(path: Path, root: Path, **fields: Any) -> Candidate:
    """The input that discovery would make of a file."""
    stat = path.stat()
    return Candidate(
        source=str(root),
        path=str(path.relative_to(root)),
        location=bytes(path),
        stat=FileStat(stat.st_size, stat.st_mtime_ns, stat.st_ino),
        **fields,
    )


class Clock:
    """Time that moves when told to."""

    def __init__(self, now: float = T0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def reply(fields: dict[str, Any]) -> web.Response:
    return web.json_response({"Response": {**fields, "RequestId": "rid"}})


def refuse(code: str) -> Answer:
    async def answer(_request: web.Request, _fields: dict[str, Any]) -> web.Response:
        return reply({"Error": {"Code": code, "Message": "told so"}})

    return answer


def status(code: int) -> Answer:
    async def answer(_request: web.Request, _fields: dict[str, Any]) -> web.Response:
        return web.Response(status=code, text="gateway")

    return answer


def state(name: str, **data: Any) -> Answer:
    """A result in this state."""

    async def answer(_request: web.Request, fields: dict[str, Any]) -> web.Response:
        return reply({"Status": name, "Data": {"ContentHash": fields["ContentHash"], **data}})

    return answer


async def reset_before(request: web.Request, _fields: dict[str, Any]) -> web.StreamResponse:
    """Hang up instead of taking the call."""
    return _hang_up(request)


def _hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class Service:
    """Knows content by its hash, as the vendor does: a repeat is no second task.

    Attributes:
        url: where it listens.
        script: answers by action, given once each and in turn before the usual one.
        always: answers by action, instead of the usual one.
        calls: how often each action was called.
        received: digests of the content that arrived, one for each call.
        tasks: scans that were started, by digest: what is billed.
        pay: fields of the account.
        level: the verdict.
        engine: the engine's version.
    """

    url: str = ""
    script: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    always: dict[str, Answer] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    received: list[bytes] = field(default_factory=list)
    tasks: Counter[bytes] = field(default_factory=Counter)
    pay: dict[str, Any] = field(
        default_factory=lambda: {"OrderStatus": 1, "TotalQuota": 1000, "UsedCount": 0}
    )
    level: str = "benign"
    engine: int = ENGINE

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("scripted", self.url, "en-US")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        action = request.headers["X-TC-Action"]
        fields = json.loads(await request.read())
        self.calls[action] += 1
        if action == CREATE:
            self.received.append(sha(base64.b64decode(fields["FileBase64"])))
        if self.script[action]:
            return await self.script[action].pop(0)(request, fields)
        if action in self.always:
            return await self.always[action](request, fields)
        return await self.usual(action, request, fields)

    async def usual(self, action: str, _request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        if action == PAY:
            return reply(self.pay)
        if action == CREATE:
            digest = sha(base64.b64decode(fields["FileBase64"]))
            if digest not in self.tasks:
                self.tasks[digest] = 1
            return reply(
                {
                    "ContentHash": f"sha256:{digest.hex()}",
                    "EngineVersion": self.engine,
                    "Status": "SCANNING",
                }
            )
        told = fields["ContentHash"]
        if bytes.fromhex(told.removeprefix("sha256:")) not in self.tasks:
            return reply({"Status": "NOT_FOUND", "Data": {"ContentHash": told}})
        return reply(
            {
                "Status": "SUCCESS",
                "Data": {
                    "ContentHash": told,
                    "EngineVersion": self.engine,
                    "RiskLevel": self.level,
                    "SecurityScore": 100,
                    "UploadFileCount": 1,
                },
            }
        )

    async def reset_after(self, request: web.Request, fields: dict[str, Any]) -> web.StreamResponse:
        """Take the call, then hang up instead of answering."""
        await self.usual(request.headers["X-TC-Action"], request, fields)
        return _hang_up(request)


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    """A running service."""
    running = Service()
    app = web.Application(client_max_size=32 * 1024 * 1024)
    app.router.add_post("/", running.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield running
    finally:
        await runner.cleanup()


TIMING = Timing(first_poll_s=0.02, poll_interval_s=0.02, deadline_s=30.0)
SOON = Backoff(first_s=0.01, most_s=0.02)


@dataclass
class Bench:
    """A state directory with an open ledger, and the parts of runs on it."""

    directory: Path
    ledger: Ledger
    owner: str
    client: ScanClient | None = None
    stats: Stats = field(default_factory=Stats)

    @property
    def scans(self) -> Scans:
        return Scans(self.ledger)

    @property
    def owners(self) -> Path:
        return self.directory / "owners"

    @property
    def report(self) -> Path:
        return self.directory / "report.jsonl"

    async def new_run(self, run_id: str = "run-1", *, now: float = T0) -> RunRecord:
        request = RunRequest(sources=("in",), directory="/", endpoint="scripted")
        return await Runs(self.ledger).create(run_id, request, self.directory / f"{run_id}.jsonl", now=now)

    def admitter(self, run: RunRecord, *, rehash: bool = False) -> Admitter:
        return Admitter(Admission(self.ledger, run.id), limit_bytes=LIMIT, rehash=rehash)

    def stages(self, run: RunRecord, **changes: Any) -> Stages:
        parts: dict[str, Any] = {
            "scans": self.scans,
            "client": self.client,
            "create": Pacer(self.ledger, CREATE, None),
            "result": Pacer(self.ledger, RESULT, None),
            "timing": TIMING,
            "outage": Outage(60.0),
            "stats": self.stats,
            "owner": self.owner,
            "run": run.id,
            "limit_bytes": LIMIT,
            "backoff": SOON,
        }
        return Stages(**(parts | changes))

    @asynccontextmanager
    async def pipeline(
        self,
        run: RunRecord,
        candidates: AsyncGenerator[list[Candidate], None],
        *,
        resumed: bool = False,
        policy: Policy = Policy(),  # noqa: B008 - frozen
        rehash: bool = False,
        **stages: Any,
    ) -> AsyncIterator[tuple[Pipeline, Recorder]]:
        self.stats = Stats()
        mode = Mode.RESUME if resumed else Mode.NEW
        async with open_report(run.report, mode=mode, run_id=run.run_id) as writer:
            waiting = WaitingInputs(self.ledger, run.id)
            recorder = Recorder(writer, waiting, run, "scripted", self.stats, Gate())
            if resumed:
                await recorder.resume()
            admitter = self.admitter(run, rehash=rehash)
            try:
                yield (
                    Pipeline(
                        run=run.id,
                        candidates=candidates,
                        admitter=admitter,
                        scans=self.scans,
                        waiting=waiting,
                        stages=self.stages(run, **stages),
                        recorder=recorder,
                        stats=self.stats,
                        owners=self.owners,
                        policy=policy,
                        resumed=resumed,
                    ),
                    recorder,
                )
            finally:
                admitter.close()

    async def scan_state(self, digest: bytes) -> dict[str, Any]:
        """The ledger's row of a digest."""
        found = await self.rows("SELECT * FROM scan WHERE digest = ?", (digest,))
        return found[0]

    async def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        return await self.ledger.read(
            lambda c: [dict(row._mapping) for row in c.exec_driver_sql(query, values)]
        )

    async def change(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        await self.ledger.write(lambda c: c.exec_driver_sql(statement, values))


@asynccontextmanager
async def bench(
    directory: Path,
    endpoint: Endpoint | None = None,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
) -> AsyncIterator[Bench]:
    """An open state directory, with a client where there is an endpoint."""
    async with open_ledger(directory / "ledger.sqlite3", "test@scripted") as ledger:
        with own(directory / "owners") as owner:
            made = Bench(directory, ledger, owner)
            if endpoint is None:
                yield made
                return

            def count(action: str) -> None:
                made.stats.requests[action] += 1

            async with open_client(endpoint, KEY, timeouts=timeouts, on_request=count) as client:
                made.client = client
                yield made


async def batches(*lists: Sequence[Candidate]) -> AsyncGenerator[list[Candidate], None]:
    """Candidates as discovery hands them over."""
    for one in lists:
        yield list(one)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_path(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by path; fails when an input has two."""
    rows = rows_of(path)
    found = {row["path"]: row for row in rows}
    assert len(found) == len(rows), [row["path"] for row in rows]
    return found


async def eventually(check: Callable[[], bool]) -> None:
    """Look again until it holds; the test's time-out bounds the wait."""
    while not check():  # noqa: ASYNC110 - what is waited for happens behind a socket or in a process
        await asyncio.sleep(0.005)


def write_skills(root: Path, count: int, *, prefix: str = "skill") -> list[Path]:
    root.mkdir(exist_ok=True)
    paths = []
    for number in range(count):
        path = root / f"{prefix}-{number:04}.zip"
        path.write_bytes(zipped(f"{prefix} {number}"))
        paths.append(path)
    return paths

"""The whole table of reactions, end to end: each code drilled, and the run ends as its line says.

The real session runs in this process, against the embedded endpoint on a real socket; only the waits
between tries are left out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from cli_lab import ENGINE_VERSION, ScriptedDetector, skills

from batchscan.api.credentials import Credentials, Secret, StaticCredentials
from batchscan.api.endpoints import endpoint
from batchscan.api.reactions import CREATE, PAY_INFO, RESULT, TABLE, policy
from batchscan.backoff import Backoff
from batchscan.conclusion import Terms
from batchscan.config import Config
from batchscan.connect import Access
from batchscan.embedded.drill import Drill
from batchscan.embedded.server import Engine, EngineSettings, serve
from batchscan.errors import Policy, Reaction
from batchscan.ledger.runs import RunRequest
from batchscan.models import Outcome, Row
from batchscan.report.summary import Summary
from batchscan.session import open_session
from batchscan.stats import Stats

KEY = StaticCredentials(Credentials("AKIDwalk", Secret("SecretKeyOfTheWalk00000000000000"), None, "test"))
FILES = 2
AT_A_TIME = 4

OURS = {
    "hash-mismatch": "wrong-hash",
    "connection-lost": "reset-after",
    "bad-reply": "bad-json",
    "reply-too-large": "huge=9",
    "http-5xx": "http-503",
    "http-3xx": "http-302",
    "http-413": "http-413",
    "http-429": "http-429",
    "http-4xx": "http-404",
}
"""Which fault makes a code of ours."""

NOT_DRILLED = {
    "unknown-status": "the endpoint knows no such status: tests/api/test_api_protocol.py",
    "unknown-risk-level": "the detector says it, no fault does: tests/cli/test_invariants.py",
    "connect-failed": "nobody is there to drill: tests/api/test_api_client.py",
    "proxy-failed": "a proxy's: tests/api/test_api_client.py",
    "tls-failed": "the drill has no TLS: tests/api/test_api_client.py",
    "tls-untrusted": "the drill has no TLS: tests/api/test_api_client.py",
    "no-credentials": "nothing is sent: tests/api/test_api_credentials.py",
    "timeout": "a matter of time: tests/api/test_api_client.py",
}
PARTS = 3
VENDORS = sorted({entry.code for entry in TABLE if entry.code not in {*OURS, *NOT_DRILLED}} | {"NobodyKnows"})
DRILLED = (*VENDORS, *OURS)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "delay_s", lambda *_args, **_asked: 0.01)


@dataclass(frozen=True)
class Walk:
    """One service that is drilled, and whoever scans there."""

    place: Path
    inputs: Path

    @asynccontextmanager
    async def service(self, drill: str | None, *, port: int = 0, quota: int = 1000) -> AsyncIterator[Engine]:
        settings = EngineSettings(
            port=port,
            secret_id="AKIDwalk",
            secret_key="SecretKeyOfTheWalk00000000000000",
            engine_version=ENGINE_VERSION,
            total_quota=quota,
            store_path=self.place / "service.sqlite3",
            drill=None if drill is None else Drill.parse(drill),
            stop_timeout_s=0.2,
        )
        async with serve(settings, ScriptedDetector()) as engine:
            yield engine

    async def scan(self, engine: Engine, *, wait: bool = True) -> tuple[Summary, list[Row]]:
        """Scan, or go on with what is unfinished."""
        config = Config(
            state_dir=self.place / "state",
            endpoint=engine.url,
            rate=0,
            result_rate=0,
            first_poll_s=0.02,
            poll_interval_s=0.02,
        )
        request = RunRequest(sources=(str(self.inputs),), directory=str(self.place), endpoint=engine.url)
        report = self.place / "report.jsonl"
        access = Access(endpoint(engine.url), KEY)
        async with open_session(config, access, Stats()) as session:
            summary = await session.scan(request, Terms(wait=wait), spool=None, output=report, overwrite=True)
        rows = [msgspec.json.decode(line, type=Row) for line in report.read_bytes().splitlines()]
        return summary, rows


async def each(
    tmp_path: Path, names: Iterable[str], files: int, step: Callable[[str, Walk], Awaitable[None]]
) -> None:
    """Take a step for each name, a few at a time; tell all that went wrong."""
    turn = asyncio.Semaphore(AT_A_TIME)
    inputs = tmp_path / "in"
    if not inputs.exists():
        skills(inputs, files)

    async def one(number: int, name: str) -> None:
        async with turn:
            place = tmp_path / str(number)
            place.mkdir()
            try:
                async with asyncio.timeout(40):
                    await step(name, Walk(place, inputs))
            except Exception as error:
                error.add_note(f"while {name} was drilled")
                raise

    async with asyncio.TaskGroup() as tasks:
        for number, name in enumerate(names):
            tasks.create_task(one(number, name))


def told(rows: list[Row]) -> set[tuple[Outcome, str | None]]:
    return {(row.outcome, None if row.error is None else row.error.code) for row in rows}


def test_no_line_of_the_table_is_left_out() -> None:
    assert OURS.keys() | NOT_DRILLED.keys() <= {entry.code for entry in TABLE}
    assert not OURS.keys() & NOT_DRILLED.keys()


@pytest.mark.parametrize("part", range(PARTS))
async def test_each_submission_that_always_fails_ends_as_its_line_says(tmp_path: Path, part: int) -> None:
    async def step(code: str, walk: Walk) -> None:
        fault = OURS.get(code, code)
        line = policy(code, CREATE)
        async with walk.service(f"Create:{fault}") as engine:
            summary, rows = await walk.scan(engine)
            port = int(engine.url.rsplit(":", 1)[1].strip("/"))
        ended(summary, rows, line, code if fault == "wrong-hash" or code not in OURS else None)
        assert summary.requests.get(PAY_INFO, 0) == (line.reaction is Reaction.QUOTA)
        # the drill is off: nothing is lost, and nothing was billed twice
        async with walk.service(None, port=port) as engine:
            after, rows = await walk.scan(engine)
            stats = await engine.stats()
        assert (after.exit_code, told(rows)) == (0, {(Outcome.SCANNED, None)})
        assert stats["scans"] == {"SUCCESS": FILES}

    await each(tmp_path, DRILLED[part::PARTS], FILES, step)


def ended(summary: Summary, rows: list[Row], line: Policy, code: str | None) -> None:
    """How a run ends in which every submission fails like this."""
    calls = summary.requests[CREATE]
    (told_code,) = {row.error.code for row in rows if row.error is not None}
    assert len(rows) == FILES
    assert code in (None, told_code)
    outcomes = {row.outcome for row in rows}
    match line.reaction:
        case Reaction.THROTTLE:
            assert (summary.exit_code, outcomes) == (3, {Outcome.PENDING})
            assert summary.throttled == calls
        case Reaction.TRANSIENT | Reaction.UNKNOWN | Reaction.QUOTA | Reaction.ITEM:
            assert (summary.exit_code, outcomes) == (3, {Outcome.FAILED})
            assert calls == FILES * line.max_attempts
        case Reaction.CLOCK | Reaction.CREDENTIAL:  # one remedy, for the calls that were under way
            assert (summary.exit_code, outcomes) == (4, {Outcome.PENDING})
            assert FILES < calls <= 3 * FILES
        case Reaction.RUN:
            assert (summary.exit_code, outcomes) == (4, {Outcome.PENDING})
            assert calls <= FILES
    if summary.exit_code == 4:
        assert summary.error is not None
        assert line.advice in summary.error.message


@pytest.mark.parametrize("part", range(PARTS))
async def test_each_poll_that_fails_ends_as_its_line_says(tmp_path: Path, part: int) -> None:
    async def step(code: str, walk: Walk) -> None:
        line = policy(code, RESULT)
        always = line.reaction in (Reaction.ITEM, Reaction.RUN)
        async with walk.service(f"Result:{OURS.get(code, code)}" + ("" if always else "*1")) as engine:
            summary, rows = await walk.scan(engine)
            port = int(engine.url.rsplit(":", 1)[1].strip("/"))
        outcome = {Reaction.ITEM: Outcome.FAILED, Reaction.RUN: Outcome.PENDING}.get(
            line.reaction, Outcome.SCANNED
        )
        exit_code = {Reaction.ITEM: 3, Reaction.RUN: 4}.get(line.reaction, 0)
        assert (summary.exit_code, {row.outcome for row in rows}) == (exit_code, {outcome})
        async with walk.service(None, port=port) as engine:
            after, rows = await walk.scan(engine)
            stats = await engine.stats()
        assert after.exit_code == 0
        assert {row.outcome for row in rows} <= {Outcome.SCANNED, Outcome.REUSED}
        assert stats["scans"] == {"SUCCESS": FILES}
        if line.reaction is Reaction.RUN:
            assert after.requests[CREATE] == FILES, "what was accepted is polled, and not submitted again"

    polls = [code for code in DRILLED if code != "hash-mismatch"]
    await each(tmp_path, polls[part::PARTS], FILES, step)


@pytest.mark.parametrize("action", ["Create", "Result"])
@pytest.mark.parametrize("code", ["UnknownParameter", "MissingParameter.Field"])
async def test_calls_that_are_not_understood_are_a_defect_of_ours_and_stop_the_run(
    tmp_path: Path, action: str, code: str
) -> None:
    async def step(fault: str, walk: Walk) -> None:
        port = 0
        if action == "Result":  # all is submitted before the first poll
            async with walk.service(None) as engine:
                await walk.scan(engine, wait=False)
                port = int(engine.url.rsplit(":", 1)[1].strip("/"))
        async with walk.service(fault, port=port) as engine:
            summary, rows = await walk.scan(engine)
            port = int(engine.url.rsplit(":", 1)[1].strip("/"))
        assert summary.exit_code == 4
        assert summary.error is not None
        assert summary.error.code == code
        assert "defect of batchscan" in summary.error.message
        assert told(rows) == {(Outcome.FAILED, code), (Outcome.PENDING, code)}
        assert 3 <= summary.counts[Outcome.FAILED] < 40, "what was under way, and no more"
        async with walk.service(None, port=port) as engine:
            after, _ = await walk.scan(engine)
            stats = await engine.stats()
        assert after.counts[Outcome.SCANNED] + after.counts[Outcome.FAILED] == 60, "the run was resumed"
        assert set(stats["scans"]) == {"SUCCESS"}

    await each(tmp_path, [f"{action}:{code}"], 60, step)


async def test_an_exhausted_quota_is_asked_for_and_told_with_its_numbers(tmp_path: Path) -> None:
    """Nothing more is submitted; what was accepted is polled, and has its verdict."""

    async def step(fault: str, walk: Walk) -> None:
        async with walk.service(None, quota=5) as engine:
            summary, rows = await walk.scan(engine)
        assert summary.exit_code == 4
        assert summary.error is not None
        assert summary.error.code == "quota"
        assert "of 5 files used, order state" in summary.error.message
        assert 5 <= summary.counts[Outcome.SCANNED] < 60
        assert told(rows) == {(Outcome.SCANNED, None), (Outcome.PENDING, "quota")}
        assert summary.requests[PAY_INFO] == 1
        assert fault

    await each(tmp_path, ["quota"], 60, step)

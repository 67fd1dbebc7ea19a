"""The real program in a subprocess, and a real endpoint in the test's process that counts what arrives.

Whatever a test is about, each run is watched here: it ends in time, prints no traceback and no secret, and
each row of each report is valid.
"""

import asyncio
import base64
import hashlib
import io
import json
import os
import signal
import sys
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from batchscan.embedded.actions import Actions
from batchscan.embedded.detection import Detection, DetectionError, RuleHit
from batchscan.embedded.drill import Drill
from batchscan.embedded.server import Engine, EngineSettings, serve
from batchscan.embedded.wire import Action
from batchscan.report.rows import result_schema
from batchscan.report.summary import summary_schema

SECRET_ID = "AKIDcommandline0000000000000000000"
SECRET_KEY = "SecretKeyOfTheCommandLineTests01"
TOKEN = "TokenOfTheCommandLineTests000001"
ENGINE_VERSION = 20260501
POLLS = ("--first-poll", "50ms", "--poll-interval", "100ms")
FAST = (*POLLS, "--rate", "0")
LIMIT_S = 50.0

ROWS = jsonschema.Draft202012Validator(result_schema())
SUMMARIES = jsonschema.Draft202012Validator(summary_schema())


def skill(text: str) -> bytes:
    """One small ZIP; what the detector says of it depends on the text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("SKILL.md", (2000, 1, 1, 0, 0, 0)), f"---\nname: x\n---\n{text}\n")
    return buffer.getvalue()


def skills(directory: Path, count: int, text: str = "skill") -> list[Path]:
    """So many different ZIPs in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{text}-{number:04}.zip" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(skill(f"{text} {number}"))
    return paths


UNMEASURED: dict[str, str | None] = {"COVERAGE_PROCESS_START": None, "COVERAGE_PROCESS_CONFIG": None}
"""Changes to the environment of a process whose coverage is not measured: that loads and writes, too."""


class ScriptedDetector:
    """Judges by what is written in the ZIP: ``evil``, ``odd``, ``broken``; waits for ``gate``."""

    concurrency = 4

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()

    async def detect(self, content: bytes) -> Detection:
        await self.gate.wait()
        if b"broken" in content:
            raise DetectionError("as told")
        if b"strange" in content:
            return Detection(risk_level="unheard-of", score=1, file_count=1)
        level = "malicious" if b"evil" in content else "suspicious" if b"odd" in content else "benign"
        hits = () if level == "benign" else (RuleHit("90002", "as told"),)
        score = {"malicious": 5, "suspicious": 50, "benign": 100}[level]
        primary = hits[0].rule_id if hits else ""
        return Detection(
            risk_level=level, score=score, file_count=1, hits=hits, primary_rule_id=primary, skill_name="x"
        )

    async def aclose(self) -> None:
        """It owns nothing."""


@dataclass
class Service:
    """A running endpoint.

    Attributes:
        creates: submissions that arrived, by hex digest of their content.
        links: report links that were given out.
    """

    url: str
    engine: Engine
    detector: ScriptedDetector
    creates: Counter[str]
    links: set[str]
    going: asyncio.Event

    def hold(self) -> None:
        """Answer no submission that arrives from now on, until ``release``."""
        self.going.clear()

    def release(self) -> None:
        self.going.set()

    @property
    def arrivals(self) -> int:
        return self.engine.requests.total()


def counting(creates: Counter[str], links: set[str], going: asyncio.Event) -> type[Actions]:
    """The endpoint's actions, with a look at what they are sent and what report links they give out."""

    class Counting(Actions):
        async def perform(self, action: str, body: bytes, base_url: str) -> dict[str, Any]:
            if action == Action.CREATE:
                content = base64.b64decode(json.loads(body)["FileBase64"])
                creates[hashlib.sha256(content).hexdigest()] += 1
                await going.wait()
            fields = await super().perform(action, body, base_url)
            link = (fields.get("Data") or {}).get("ReportURL")
            if link:
                links.add(link)
            return fields

    return Counting


@dataclass(frozen=True)
class Done:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """What ``--json`` printed, checked."""
        summary: dict[str, Any] = json.loads(self.out)
        SUMMARIES.validate(summary)
        assert summary["exit_code"] == self.code
        return summary


class Running:
    """A process that has not ended yet."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._output = asyncio.ensure_future(process.communicate())

    def send(self, number: signal.Signals) -> None:
        """Signal the whole group, as a terminal does."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    async def done(self, limit_s: float = LIMIT_S) -> Done:
        try:
            async with asyncio.timeout(limit_s):
                out, err = await asyncio.shield(self._output)
        finally:
            self.send(signal.SIGKILL)
        code = self.process.returncode
        assert code is not None
        done = Done(code, out.decode(), err.decode())
        for text in (done.out, done.err):
            assert "Traceback" not in text, text
            for secret in (SECRET_KEY, TOKEN):
                assert secret not in text
        assert done.code != 70, done.err
        return done


class Lab:
    """Directories, endpoints and commands of one test."""

    def __init__(self, tmp_path: Path, patch: Callable[[Any, str, object], None]) -> None:
        self.path = tmp_path
        self.home = tmp_path / "home"
        self.state = tmp_path / "state" / "batchscan"
        self.inputs = tmp_path / "in"
        self.report = tmp_path / "report.jsonl"
        self._patch = patch
        self._started: list[Running] = []
        self.home.mkdir()

    @asynccontextmanager
    async def service(self, drill: str | None = None, **changes: Any) -> AsyncIterator[Service]:
        """An endpoint that lives as long as the block."""
        from batchscan.embedded import server

        creates: Counter[str] = Counter()
        going = asyncio.Event()
        going.set()
        links: set[str] = set()
        self._patch(server, "Actions", counting(creates, links, going))
        fields: dict[str, Any] = {
            "secret_id": SECRET_ID,
            "secret_key": SECRET_KEY,
            "engine_version": ENGINE_VERSION,
            "total_quota": 100_000,
            "store_path": self.path / "service.sqlite3",
            "drill": None if drill is None else Drill.parse(drill),
            "stop_timeout_s": 0.2,
        }
        detector = ScriptedDetector()
        async with serve(EngineSettings(**(fields | changes)), detector) as engine:
            yield Service(engine.url, engine, detector, creates, links, going)

    def environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        kept = {"PATH", "LANG", "LC_ALL", "PYTHONPATH"}
        found = {
            name: os.environ[name] for name in os.environ if name in kept or name.startswith("COVERAGE_")
        }
        found |= {"HOME": str(self.home), "XDG_STATE_HOME": str(self.state.parent)}
        found |= {"TENCENTCLOUD_SECRET_ID": SECRET_ID, "TENCENTCLOUD_SECRET_KEY": SECRET_KEY}
        return {name: value for name, value in {**found, **changes}.items() if value is not None}

    async def start(
        self,
        *args: str | bytes | Path,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdin: int = asyncio.subprocess.DEVNULL,
        wrapped: Iterable[str] = (),
    ) -> Running:
        """Start ``batchscan ARGS`` in a process group of its own."""
        process = await asyncio.create_subprocess_exec(
            *(*wrapped, sys.executable, "-m", "batchscan", *args),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(env or {}),
            cwd=cwd or self.path,
            start_new_session=True,
        )
        running = Running(process)
        self._started.append(running)
        return running

    async def run(
        self, *args: str | bytes | Path, limit_s: float = LIMIT_S, text: str | bytes | None = None, **how: Any
    ) -> Done:
        """Run ``batchscan ARGS`` to its end, with ``text`` on its standard input."""
        if text is None:
            running = await self.start(*args, **how)
            return await running.done(limit_s)
        place = self.path / "stdin"
        place.write_bytes(text.encode() if isinstance(text, str) else text)
        with place.open("rb") as file:
            running = await self.start(*args, stdin=file.fileno(), **how)
        return await running.done(limit_s)

    async def scan(self, service: Service, *args: str | bytes | Path, **how: Any) -> Done:
        """Scan at a service, quickly."""
        return await self.run("scan", *args, "--endpoint", service.url, *FAST, **how)

    def rows(self, report: Path | None = None) -> list[dict[str, Any]]:
        """The rows of a report, each one valid."""
        lines = (report or self.report).read_bytes().split(b"\n")
        assert lines.pop() == b"", "the last line has no end"
        rows = [json.loads(line) for line in lines]
        for row in rows:
            ROWS.validate(row)
        return rows

    def rows_of(self, inputs: int, report: Path | None = None) -> list[dict[str, Any]]:
        """The rows of a report with one row for each of so many different inputs."""
        rows = self.rows(report)
        names = Counter((row["source"], row["path"], row["manifest_line"]) for row in rows)
        assert len(rows) == inputs
        assert set(names.values()) <= {1}, names.most_common(3)
        return rows

    def end(self) -> None:
        """Leave no process behind."""
        for running in self._started:
            running.send(signal.SIGKILL)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def by_path(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in rows}


def code_of(row: dict[str, Any]) -> str | None:
    return None if row["error"] is None else str(row["error"]["code"])


async def until(check: Callable[[], bool]) -> None:
    """Look again until it holds; the test's time-out bounds the wait."""
    while not check():  # noqa: ASYNC110 - what is waited for happens in another process
        await asyncio.sleep(0.01)

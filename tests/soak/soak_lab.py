"""What a soak is made of: two processes, trees that change, and notes of both, all in one directory.

The checks read that directory and nothing else, so that a soak can be judged again.
"""

import asyncio
import hashlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.tree import skill_zip

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "samples"
SECRET_ID = "AKIDsoak00000000000000000000000000000"
SECRET_KEY = "SecretKeyOfTheSoak00000000000001"
DRILL = (
    "Create:RequestLimitExceeded@0.04,Result:RequestLimitExceeded@0.03,Create:InternalError@0.02,"
    "*:http-503@0.03,*:reset-before@0.02,*:reset-after@0.01,*:truncate@0.01,*:content-type@0.01,"
    "*:bad-json@0.01,*:delay=0.3@0.05,Judge:delay=1@0.3,Judge:failed*1@0.03,seed={seed}"
)
TREES = ("one", "two", "three")
FILES = 60
STREAMS = 50


class Notes:
    """A file of JSON lines, each with its time."""

    def __init__(self, place: Path) -> None:
        self._lines = place.open("a", buffering=1)

    def add(self, **what: Any) -> None:
        self._lines.write(json.dumps({"at": time.time(), **what}) + "\n")

    def close(self) -> None:
        self._lines.close()


def read_notes(place: Path) -> Iterator[dict[str, Any]]:
    with place.open() as lines:
        for line in lines:
            yield json.loads(line)


class Trees:
    """Directories of skills that are added to and changed; each content is kept to be judged in peace."""

    def __init__(self, work: Path, seed: int, files: int) -> None:
        self._plain = files - 6
        self.root = work / "in"
        self.made: list[str] = []
        self._contents = work / "contents"
        self._contents.mkdir()
        self._random = random.Random(f"trees {seed}")
        self._notes = Notes(work / "files.jsonl")
        self._number = 0

    def fill(self) -> None:
        """Make the trees: plain skills, copies, what is no ZIP, and the samples."""
        for name in TREES:
            for number in range(self._plain):
                self.put(f"{name}/{number % 5}/skill-{number:04}.zip", self.new())
            for number in range(3):
                self.put(f"{name}/copies/copy-{number}.zip", skill_zip(1))
                self.put(f"{name}/text-{number}.zip", b"no ZIP %d" % number, valid=False)
        for sample in sorted(SAMPLES.glob("*/*.zip")):
            self.put(f"one/samples/{sample.parent.name}-{sample.name}", sample.read_bytes())

    def change(self, minute: int) -> None:
        """What a minute brings: to each tree a new skill, a changed one, one that is damaged or mended."""
        for name in TREES:
            self.put(f"{name}/new/skill-{minute:04}.zip", self.new())
            self.put(f"{name}/new/copy-{minute % 7}.zip", skill_zip(2 + minute % 7))
            number = self._random.randrange(self._plain)
            self.put(f"{name}/{number % 5}/skill-{number:04}.zip", self.new())
            if minute % 2:
                self.put(f"{name}/text-0.zip", b"no ZIP of minute %d" % minute, valid=False)
            else:
                self.put(f"{name}/text-0.zip", self.new())

    def new(self) -> bytes:
        """A content that was never there."""
        self._number += 1
        return skill_zip(1000 + self._number)

    def put(self, path: str, content: bytes, *, valid: bool = True) -> Path:
        """Rename a file into its place, as deliveries are to be made, and note when that was."""
        digest = hashlib.sha256(content).hexdigest()
        if valid:
            (self._contents / f"{digest}.zip").write_bytes(content)
            self.made.append(digest)
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(".draft")
        draft.write_bytes(content)
        before = time.time()
        draft.rename(place)
        self._notes.add(path=str(place), sha256=digest, valid=valid, before=before)
        return place


class Process:
    """One of the two, with its standard error in a file."""

    def __init__(self, work: Path, name: str) -> None:
        self.pid = 0
        self.url = ""
        self._work = work
        self._name = name
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *args: str | Path) -> None:
        """Start it and wait for its URL."""
        with (self._work / f"{self._name}.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment(self._work),
                cwd=self._work,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self.pid = self._process.pid
        async with asyncio.timeout(60):
            self.url = (await self._process.stdout.readline()).decode().strip()
        if not self.url:
            raise RuntimeError(f"{self._name}: {(self._work / f'{self._name}.log').read_text()[-2000:]}")

    @property
    def over(self) -> bool:
        return self._process is None or self._process.returncode is not None

    async def stop(self, limit_s: float) -> tuple[int, float]:
        """SIGTERM; returns its exit code, and how long it took in seconds."""
        assert self._process is not None
        began = time.monotonic()
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(limit_s):
                code = await self._process.wait()
        except TimeoutError:
            self.kill()
            code = await self._process.wait()
        return code, time.monotonic() - began

    def kill(self) -> None:
        """Leave nothing of it behind."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def environment(work: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "PYTHONPATH") if name in os.environ}
    kept["MALLOC_ARENA_MAX"] = "2"  # as the units and the image have it
    home = {"HOME": str(work / "home"), "XDG_STATE_HOME": str(work / "home" / "state")}
    return {**kept, **home, "TENCENTCLOUD_SECRET_ID": SECRET_ID, "TENCENTCLOUD_SECRET_KEY": SECRET_KEY}


def write_settings(work: Path, endpoint: str) -> Path:
    """The service's settings: schedules of each minute over the trees, one that watches, one that rescans."""
    schedule = 'cron = "* * * * *"\ncatch_up = true\nreports_dir = "reports"\n'
    tables = [
        f'endpoint = "{endpoint}"\nstate_dir = "state"\nlog_level = "info"',
        'first_poll = "1s"\npoll_interval = "1s"\n',
        f'[service]\nport = 0\nroots = ["{work}/in"]\nrequest_rate = 100.0\nmax_runs = 3\nmax_streams = 80\n',
        f'[schedule.one]\n{schedule}sources = ["{work}/in/one"]\nreports = ["html", "sarif"]\n',
        f'[schedule.two]\n{schedule}sources = ["{work}/in/two"]\nreports = ["csv"]\nwatch = true\n',
        f'[schedule.three]\n{schedule}sources = ["{work}/in/three"]\npriority = 60\n',
        f'[schedule.again]\n{schedule}rescan = "verdict=malicious"\n',
    ]
    place = work / "batchscan.toml"
    place.write_text("\n".join(tables))
    return place


class Gauge:
    """Looks at a process from outside, as ``ps`` does."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._tick = os.sysconf("SC_CLK_TCK")

    def look(self) -> dict[str, float]:
        """RSS in bytes, descriptors, threads, seconds of CPU so far."""
        after_name = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return {
            "rss": int((self._proc / "statm").read_text().split()[1]) * self._page,
            "descriptors": len(list((self._proc / "fd").iterdir())),
            "threads": int(after_name[17]),
            "cpu_s": (int(after_name[11]) + int(after_name[12])) / self._tick,
        }


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def read_json(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(url) as reply:
        reply.raise_for_status()
        return await reply.json()

"""What all torture is made of: the server and the program, each a process of its own that may die."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from torture_checks import BrokenPromiseError, Tree, promise
from torture_server import SECRET_ID, SECRET_KEY

HERE = Path(__file__).resolve().parent
FAST = ("--first-poll", "50ms", "--poll-interval", "100ms", "--rate", "0", "--json", "--quiet")
LIMIT_S = 300.0


class Server:
    """The endpoint in its own process. It can be killed and started again: its port and store stay."""

    def __init__(self, directory: Path, *, site: str = "embedded") -> None:
        self.directory = directory
        self.url = ""
        self._site = site
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, drill: str | None = None, *, skew_s: float = 0.0) -> None:
        """Start it, or start it again, with faults and a clock that is off."""
        self.directory.mkdir(parents=True, exist_ok=True)
        errors = (self.directory / "stderr").open("ab")
        program: list[str | Path] = [
            sys.executable,
            HERE / "torture_server.py",
            self.directory,
            str(self._port),
        ]
        with errors:
            self._process = await asyncio.create_subprocess_exec(
                *(*program, self._site, str(skew_s)),
                *([] if drill is None else [drill]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=2**26,
                start_new_session=True,
            )
        self.url = await self._answer()
        self._port = int(self.url.rpartition(":")[2])

    async def tell(self, do: str, **command: object) -> dict[str, Any]:
        """Give a command and wait for its answer."""
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(json.dumps({"do": do, **command}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._answer())
        return answer

    async def kill(self) -> None:
        process = self._running()
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    def arrived(self) -> list[tuple[float, str]]:
        """Submissions that were taken: when, in monotonic seconds, and of which digest, in hex."""
        return [(float(at), digest) for at, digest in self._lines("creates.log")]

    def creates(self) -> Counter[str]:
        """Submissions that were taken, by digest."""
        return Counter(digest for _, digest in self.arrived())

    async def taken(self, count: int, by: "Program") -> None:
        """Wait until so many submissions were taken in all, or the program is over."""
        end = time.monotonic() + LIMIT_S
        while len(self.arrived()) < count and not by.over:
            promise(time.monotonic() < end, f"no {count} submissions within {LIMIT_S:g} s")
            await asyncio.sleep(0.01 if count < 1000 else 0.2)

    def faults(self) -> Counter[str]:
        """Faults that requests met, by kind."""
        return Counter(name for _, name in self._lines("faults.log"))

    def _lines(self, name: str) -> Iterator[tuple[str, str]]:
        for line in (self.directory / name).read_text().splitlines():
            at, _, rest = line.partition(" ")
            yield at, rest

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def _answer(self) -> str:
        process = self._running()
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        if not line:
            raise BrokenPromiseError(f"the server ended: {(self.directory / 'stderr').read_text()[-2000:]}")
        return line.decode().strip()


class Program:
    """``batchscan ARGS`` in a process group of its own."""

    def __init__(self, process: asyncio.subprocess.Process, place: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._place = place

    @property
    def over(self) -> bool:
        return self._process.returncode is not None

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def code(self, limit_s: float = LIMIT_S) -> int:
        """Wait for its end; one that does not end breaks a promise."""
        try:
            async with asyncio.timeout(limit_s):
                code = await self._process.wait()
        except TimeoutError as error:
            self.send(signal.SIGKILL)
            await self._process.wait()
            raise BrokenPromiseError(f"not over within {limit_s:g} s: {self.err[-2000:]}") from error
        promise("Traceback" not in self.err, self.err)
        promise(code != 70, self.err)
        return code

    @property
    def out(self) -> str:
        return self._place.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        return self._place.with_suffix(".err").read_text()

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


class Lab:
    """Directories and programs of one piece of torture.

    Args:
        path: where all is made.
        state: the state directory, where it is not under ``path``.
    """

    def __init__(self, path: Path, state: Path | None = None) -> None:
        self.path = path
        self.state = path / "state" if state is None else state
        self.report = path / "report.jsonl"
        self._programs: list[Program] = []
        for name in ("home", "log"):
            (path / name).mkdir(parents=True, exist_ok=True)

    async def start(self, *args: str | Path, **env: str) -> Program:
        """Start ``batchscan ARGS`` on this state directory."""
        place = self.path / "log" / f"{len(self._programs):04}"
        with place.with_suffix(".out").open("wb") as out, place.with_suffix(".err").open("wb") as err:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "batchscan", *args, "--state-dir", self.state),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._environment() | env,
                cwd=self.path,
                start_new_session=True,
            )
        program = Program(process, place)
        self._programs.append(program)
        return program

    async def run(self, *args: str | Path, limit_s: float = LIMIT_S, **env: str) -> tuple[int, Program]:
        program = await self.start(*args, **env)
        return await program.code(limit_s), program

    def scan(
        self, tree: Tree, server: Server, *more: str | Path, report: Path | None = None
    ) -> list[str | Path]:
        """The command that scans a tree quickly."""
        where = ("--endpoint", server.url, "--output", report or self.report)
        return ["scan", *tree.args, *where, *FAST, *more]

    async def begun(self, program: Program) -> None:
        """Wait until the program has opened its state directory: its handlers are in place by then."""
        end = time.monotonic() + LIMIT_S
        while not any(self.state.glob(f"owners/*-{program.pid}-*")) and not program.over:
            promise(time.monotonic() < end, f"nothing begun within {LIMIT_S:g} s: {program.err}")
            await asyncio.sleep(0.005)

    def end(self) -> None:
        for program in self._programs:
            if not program.over:
                program.send(signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        kept = ("PATH", "LANG", "PYTHONPATH")
        found = {name: os.environ[name] for name in kept if name in os.environ}
        found |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        keys = {"TENCENTCLOUD_SECRET_ID": SECRET_ID, "TENCENTCLOUD_SECRET_KEY": SECRET_KEY}
        return found | keys | {"HOME": str(self.path / "home"), "BATCHSCAN_RESULT_RATE": "0"}

"""Worker processes, seen from the parent: start, ask, and end whatever does not behave.

One process and two pipes each. A worker that takes too long, dies or answers out of turn is killed with
its whole process group and replaced at the next job; the content it had is reported as not judged.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import msgspec

from batchscan.embedded.analysis.worker import LENGTH, Orders, Reply
from batchscan.embedded.detection import Detection, DetectionError

# -I keeps PYTHON* variables, the user's site and the current directory out; the parent's import path
# is handed over instead, so that a worker runs the very code that its parent runs.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from batchscan.embedded.analysis.worker import main; main()"
)
# Nothing else of the environment reaches a worker: no credentials, no proxies. The coverage tool's
# own variables let the tests measure it.
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
_FIXED_VARIABLES = {
    "SKILLTOTAL_WORKERS": "1",  # the library would start processes of its own
    "ORT_DISABLE_TELEMETRY": "1",  # read when the deep engine is imported
    "PYTHONDONTWRITEBYTECODE": "1",
}
_START_LIMIT_S = 120.0  # the deep engine imports for a while on a busy machine
_REAP_LIMIT_S = 10.0
_MAX_REPLY_BYTES = 4 * 1024 * 1024
_MAX_JOBS = 500  # a fresh process now and then: what a library leaks is not blamed on a ZIP


class WorkerProcess:
    """One place in the pool: at most one process at a time, started when it is needed.

    Args:
        kind: the engine, as ``Orders.kind``.
        directory: private to this place; created and removed here.
        time_limit_s: for one judgement, start of the process not included.
        memory_limit_bytes: private memory of the process.
    """

    def __init__(self, kind: str, directory: Path, *, time_limit_s: float, memory_limit_bytes: int) -> None:
        self._kind = kind
        self._directory = directory
        self._time_limit_s = time_limit_s
        self._memory_limit_bytes = memory_limit_bytes
        self._process: asyncio.subprocess.Process | None = None
        self._jobs = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the living worker, None when there is none."""
        return None if self._process is None else self._process.pid

    async def judge(self, content: bytes) -> Detection:
        """Judge one ZIP; never called again before it returned.

        Raises:
            DetectionError: there is no judgement, whatever the reason.
        """
        fit = False
        try:
            process = self._process or await self._start()
            self._jobs += 1
            try:
                async with asyncio.timeout(self._time_limit_s):
                    reply = await self._ask(process, content)
            except TimeoutError as exc:
                raise DetectionError(f"not judged within {self._time_limit_s:g} s") from exc
            fit = not reply.spent and self._jobs < _MAX_JOBS
        finally:
            if not fit:
                self.kill()
                await self._retire()
        if reply.detection is None:
            raise DetectionError(f"not judged: {reply.error}")
        return reply.detection

    def kill(self) -> None:
        """End the process at once, with everything that it may have started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill, and never start again."""
        self._closed = True
        self.kill()

    async def aclose(self) -> None:
        """Reap the process and remove its directory."""
        self.close()
        await self._retire()

    async def _start(self) -> asyncio.subprocess.Process:
        orders = Orders(self._kind, str(self._directory), self._memory_limit_bytes, os.getpid())
        try:
            await asyncio.to_thread(_renew, self._directory)
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-c",
                _BOOT,
                msgspec.json.encode(orders).decode(),
                _import_path(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment(),
                start_new_session=True,  # out of reach of the terminal's Ctrl-C, and a group to kill
            )
        except OSError as exc:
            raise DetectionError(f"no detection worker could be started: {exc}") from exc
        self._process, self._jobs = process, 0
        if self._closed:
            raise DetectionError("the detector was closed")
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                hello = await _receive(process)
        except TimeoutError as exc:
            raise DetectionError(f"the detection worker was not ready within {_START_LIMIT_S:g} s") from exc
        if hello.error is not None:
            raise DetectionError(hello.error)
        return process

    async def _ask(self, process: asyncio.subprocess.Process, content: bytes) -> Reply:
        if process.stdin is None:  # pragma: no cover - it was asked for as a pipe
            raise DetectionError("the detection worker has no input")
        process.stdin.write(LENGTH.pack(len(content)))
        process.stdin.write(content)
        try:
            await process.stdin.drain()
        except ConnectionError as exc:
            raise await _died(process) from exc
        return await _receive(process)

    async def _retire(self) -> None:
        """Reap a killed process; its files go with it."""
        process = self._process
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_REAP_LIMIT_S):
                    await process.communicate()
            except TimeoutError as exc:
                raise DetectionError(f"the detection worker {process.pid} cannot be ended") from exc
            self._process = None
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        places = dict.fromkeys(("HOME", "TMPDIR"), str(self._directory))
        return kept | _FIXED_VARIABLES | places


def _import_path() -> str:
    return json.dumps([os.path.realpath(entry) for entry in sys.path])  # "" is the current directory


def _renew(directory: Path) -> None:
    """An empty private directory, whatever a killed predecessor left."""
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700)


async def _receive(process: asyncio.subprocess.Process) -> Reply:
    if process.stdout is None:  # pragma: no cover - it was asked for as a pipe
        raise DetectionError("the detection worker has no output")
    try:
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        if length > _MAX_REPLY_BYTES:
            raise DetectionError(f"the detection worker answered with {length} bytes")
        body = await process.stdout.readexactly(length)
        return msgspec.json.decode(body, type=Reply)
    except asyncio.IncompleteReadError as exc:
        raise await _died(process) from exc
    except msgspec.MsgspecError as exc:
        raise DetectionError("the detection worker answered out of turn") from exc


async def _died(process: asyncio.subprocess.Process) -> DetectionError:
    try:
        async with asyncio.timeout(_REAP_LIMIT_S):
            code = await process.wait()
    except TimeoutError:
        return DetectionError("the detection worker closed its pipe")
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return DetectionError(f"the detection worker died {how}")

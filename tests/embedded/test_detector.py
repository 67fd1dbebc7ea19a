"""The detector as the endpoint uses it: real worker processes, real ZIPs, real signals."""

import asyncio
import contextlib
import io
import os
import random
import select
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from batchscan.embedded.analysis.mapping import MAPPING_VERSION
from batchscan.embedded.analysis.pool import WorkerProcess
from batchscan.embedded.analysis.scratch import scratch_directory
from batchscan.embedded.detection import Detection, DetectionError, Detector
from batchscan.embedded.detector import engine_version, open_detector
from batchscan.errors import UsageError

MEMORY = 512 * 1024 * 1024


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


SMALL = pack({"SKILL.md": b"---\nname: small\ndescription: A small one.\n---\n# Small\n"})


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A ZIP that takes the library many seconds."""
    numbers = random.Random(1)
    code = "".join(f'v{n} = "{numbers.getrandbits(256):x}"\n' for n in range(25_000)).encode()
    return pack({"SKILL.md": b"# slow", **{f"m{n}.py": code for n in range(8)}})


@pytest.fixture(autouse=True)
def tempdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    return directory


@contextlib.asynccontextmanager
async def detector(
    workers: int = 1, time_limit_s: float = 30, memory: int = MEMORY
) -> AsyncIterator[Detector]:
    async with open_detector(workers=workers, time_limit_s=time_limit_s, memory_limit_bytes=memory) as opened:
        yield opened


def places(opened: Detector) -> list[WorkerProcess]:
    found: list[WorkerProcess] = getattr(opened, "_places")  # noqa: B009 - not part of the Protocol
    return found


def pids(opened: Detector) -> list[int]:
    return [place.pid for place in places(opened) if place.pid is not None]


def about(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text()


def left(directory: Path, pattern: str = "*") -> list[Path]:
    return list(directory.rglob(pattern))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def started(opened: Detector) -> int:
    """The pid of the only worker, once its process exists."""
    await asyncio.to_thread(wait_until, lambda: pids(opened))
    return pids(opened)[0]


async def unpacked(directory: Path) -> None:
    """Until a worker has unpacked its ZIP, so that it is judging."""
    await asyncio.to_thread(wait_until, lambda: left(directory, "*.py"))


def wait_for_end(pid: int, limit_s: float) -> bool:
    """Whether the process ended in time; true also when it is long gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(limit_s * 1000))
    finally:
        os.close(descriptor)


async def test_a_clean_skill_is_benign_and_described() -> None:
    async with detector() as opened:
        found = await opened.detect(SMALL)
    assert found == Detection(
        risk_level="benign",
        score=100,
        file_count=1,
        skill_name="small",
        skill_description="A small one.",
        description="All of its content was looked at and nothing was found. That is no proof of safety.",
    )


async def test_opening_starts_nothing_and_one_worker_serves_many() -> None:
    async with detector(workers=2) as opened:
        assert opened.concurrency == 2
        assert pids(opened) == []
        for _ in range(3):
            await opened.detect(SMALL)
        assert len(pids(opened)) == 1


async def test_two_at_a_time() -> None:
    async with detector(workers=2) as opened:
        await asyncio.gather(*(opened.detect(SMALL) for _ in range(6)))
        assert len(set(pids(opened))) == 2


async def test_out_of_time_is_no_verdict_and_the_next_one_is_judged(slow: bytes, tempdir: Path) -> None:
    async with detector(time_limit_s=1) as opened:
        await opened.detect(SMALL)
        (first,) = pids(opened)
        with pytest.raises(DetectionError, match="not judged within 1 s"):
            await opened.detect(slow)
        assert wait_for_end(first, 0)
        assert left(tempdir, "*.py") == []
        assert (await opened.detect(SMALL)).risk_level == "benign"
        assert pids(opened) != [first]


async def test_out_of_memory_is_no_verdict() -> None:
    text = b"a" * 25_000_000
    async with detector(memory=64 * 1024 * 1024) as opened:
        with pytest.raises(DetectionError, match="out of memory"):
            await opened.detect(pack({"SKILL.md": b"# x", "a.txt": text}, zipfile.ZIP_STORED))
        assert pids(opened) == []
        assert (await opened.detect(SMALL)).risk_level == "benign"


async def test_a_worker_that_dies_is_no_verdict(slow: bytes, tempdir: Path) -> None:
    async with detector() as opened:
        judging = asyncio.create_task(opened.detect(slow))
        pid = await started(opened)
        await unpacked(tempdir)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(DetectionError, match="died by signal 9"):
            await judging
        assert left(tempdir, "*.py") == []
        assert (await opened.detect(SMALL)).risk_level == "benign"


async def test_a_cancelled_judgement_ends_its_worker(slow: bytes) -> None:
    async with detector() as opened:
        judging = asyncio.create_task(opened.detect(slow))
        pid = await started(opened)
        judging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await judging
        assert wait_for_end(pid, 0)
        assert (await opened.detect(SMALL)).risk_level == "benign"


async def test_closing_fails_what_is_under_way_and_leaves_nothing(slow: bytes, tempdir: Path) -> None:
    async with detector() as opened:
        judging = asyncio.create_task(opened.detect(slow))
        waiting = asyncio.create_task(opened.detect(SMALL))
        pid = await started(opened)
        await opened.aclose()
        for task in (judging, waiting):
            with pytest.raises(DetectionError):
                await task
        with pytest.raises(DetectionError, match="closed"):
            await opened.detect(SMALL)
        assert wait_for_end(pid, 0)
    assert left(tempdir) == []


async def test_a_directory_that_cannot_be_made_is_no_verdict(tempdir: Path) -> None:
    async with detector() as opened:
        (scratch,) = left(tempdir)
        (scratch / "worker-0").write_text("in the way")
        with pytest.raises(DetectionError, match="no detection worker could be started"):
            await opened.detect(SMALL)
        (scratch / "worker-0").unlink(missing_ok=True)
        assert (await opened.detect(SMALL)).risk_level == "benign"


async def test_content_that_is_no_zip_is_no_verdict() -> None:
    async with detector() as opened:
        with pytest.raises(DetectionError, match="not a readable ZIP"):
            await opened.detect(b"PK nonsense")
        (pid,) = pids(opened)
        await opened.detect(SMALL)
        assert pids(opened) == [pid]


async def test_the_worker_is_small(monkeypatch: pytest.MonkeyPatch, tempdir: Path) -> None:
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "hush")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    async with detector() as opened:
        await opened.detect(SMALL)
        (pid,) = pids(opened)
        environment = about(pid, "environ")
        assert "hush" not in environment
        assert "proxy" not in environment
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
        limits = about(pid, "limits")
        assert f"{MEMORY}" in next(line for line in limits.splitlines() if line.startswith("Max data size"))
        os.kill(pid, signal.SIGINT)
        assert (await opened.detect(SMALL)).risk_level == "benign"
        assert pids(opened) == [pid]
        assert {stat.S_IMODE(path.stat().st_mode) for path in left(tempdir)} == {0o700}


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "import os; os.execv('/bin/true', ['true'])",
    ],
)
def test_neither_network_nor_processes(attempt: str) -> None:
    setup = "import sys; from batchscan.embedded.analysis.worker import _refuse; sys.addaudithook(_refuse)"
    done = subprocess.run(
        [sys.executable, "-c", f"{setup}\n{attempt}"], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "is not allowed in a detection worker" in done.stderr


OWNER = """
import asyncio, sys
from batchscan.embedded.detector import open_detector

async def main():
    async with open_detector(workers=1, time_limit_s=60, memory_limit_bytes=1 << 29) as opened:
        asyncio.get_running_loop().create_task(opened.detect(open(sys.argv[1], "rb").read()))
        while not opened._places[0].pid:
            await asyncio.sleep(0.01)
        print(opened._places[0].pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_no_orphans_after_the_parent_was_killed(slow: bytes, tmp_path: Path, tempdir: Path) -> None:
    """The worker is busy, so it cannot notice a closed pipe: the kernel has to end it."""
    archive = tmp_path / "slow.zip"
    archive.write_bytes(slow)
    command = [sys.executable, "-c", OWNER, str(archive)]
    environment = os.environ | {"TMPDIR": str(tempdir)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        worker = int(owner.stdout.readline())
        wait_until(lambda: left(tempdir, "*.py"))
        owner.kill()
    assert wait_for_end(worker, 2)
    assert left(tempdir, "*.py")  # nobody was left to tidy up
    with scratch_directory() as fresh:
        assert list(tempdir.iterdir()) == [fresh]


def test_a_directory_in_use_is_not_swept() -> None:
    with scratch_directory() as mine:
        (mine / "file").write_text("x")
        with scratch_directory() as other:
            assert other != mine
        assert (mine / "file").exists()


@pytest.mark.parametrize(
    ("workers", "time_limit_s", "memory"), [(0, 1, MEMORY), (1, 0, MEMORY), (1, 1, 1024), (-1, 1, MEMORY)]
)
async def test_limits_that_make_no_sense(workers: int, time_limit_s: float, memory: int) -> None:
    with pytest.raises(UsageError, match=r"at least|above 0"):
        async with detector(workers, time_limit_s, memory):
            pass


async def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    with pytest.raises(UsageError, match="set TMPDIR"):
        async with detector():
            pass


def test_engine_version_is_the_rules_and_the_mapping_and_is_cheap() -> None:
    from skilltotal import RULESET_VERSION

    assert engine_version() == RULESET_VERSION * 100 + MAPPING_VERSION
    code = (
        "import sys, batchscan.embedded.detector as d\n"
        "assert 'skilltotal' not in sys.modules\n"
        "d.engine_version()\n"
        "assert 'skilltotal.engine' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)

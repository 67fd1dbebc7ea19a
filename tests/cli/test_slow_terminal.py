"""A terminal that is stopped and a pipe that nobody reads hold up what is shown, and nothing else."""

import asyncio
import json
import os
import sys
import termios
from contextlib import suppress
from typing import Any

from cli_lab import FAST, Lab, Service, skills, until

FILES = 150


def full_pipe() -> tuple[int, int, int]:
    """A pipe that takes nothing more until it is read: both ends, and how much is in it."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += os.write(writing, b"." * 4096)
    os.set_blocking(writing, True)
    return reading, writing, filled


async def start(lab: Lab, service: Service, stderr: int, **env: str) -> asyncio.subprocess.Process:
    scan = ("scan", "in", "-o", lab.report, "--endpoint", service.url, "--log-level", "info", *FAST)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchscan", *scan, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=lab.environment(env),
        cwd=lab.path,
        start_new_session=True,
    )
    os.close(stderr)
    return process


async def ended(process: asyncio.subprocess.Process) -> dict[str, Any]:
    try:
        async with asyncio.timeout(50):
            out, _ = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0
    summary: dict[str, Any] = json.loads(out)
    return summary


async def test_a_pipe_that_nobody_reads_holds_up_no_run(lab: Lab) -> None:
    """Every line was due before any could be written: the run has ended, and the lines are dropped."""
    skills(lab.inputs, FILES)
    reading, writing, filled = full_pipe()
    async with lab.service() as service:
        summary = await ended(await start(lab, service, writing))
        assert service.creates.total() == FILES
    assert summary["counts"]["scanned"] == FILES
    lab.rows_of(FILES)
    with os.fdopen(reading, "rb") as unread:
        assert len(unread.read()) == filled


async def test_what_is_read_after_all_is_submitted_is_all_there(lab: Lab) -> None:
    skills(lab.inputs, FILES)
    reading, writing, filled = full_pipe()
    async with lab.service() as service:
        process = await start(lab, service, writing)
        await until(lambda: service.creates.total() == FILES)
        with os.fdopen(reading, "rb") as unread:
            shown, summary = await asyncio.gather(asyncio.to_thread(unread.read), ended(process))
    assert summary["counts"]["scanned"] == FILES
    told = [json.loads(line) for line in shown[filled:].splitlines()]
    assert [line["event"] for line in told].count("file") == FILES
    assert len({line["path"] for line in told if line["event"] == "file"}) == FILES


async def test_a_stopped_terminal_holds_up_no_run(lab: Lab) -> None:
    """As after Ctrl-S: the kernel takes nothing for the terminal, not even the first bar."""
    skills(lab.inputs, FILES)
    ours, theirs = os.openpty()
    termios.tcflow(theirs, termios.TCOOFF)
    async with lab.service() as service:
        summary = await ended(await start(lab, service, theirs, TERM="xterm-256color"))
    os.close(ours)
    assert summary["counts"]["scanned"] == FILES
    lab.rows_of(FILES)

"""kill -9: what was accepted is judged after a restart, and billed once."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp
from engine_lab import Lab, Zipped

PROGRAM = """
import asyncio, sys
from pathlib import Path
from batchscan.embedded.server import EngineSettings, serve

class Never:
    concurrency = 1
    async def detect(self, content):
        await asyncio.Event().wait()

async def main():
    settings = EngineSettings(
        secret_id=sys.argv[2], secret_key=sys.argv[3], engine_version=20260501, total_quota=1000,
        store_path=Path(sys.argv[1]),
    )
    async with serve(settings, Never()) as engine:
        print("URL", engine.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_accepted_scans_survive_a_kill(lab: Lab, zipped: Zipped, tmp_path: Path) -> None:
    settings = lab.settings()
    errors = (tmp_path / "stderr").open("wb")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(settings.store_path), settings.secret_id, settings.secret_key,
        stdout=asyncio.subprocess.PIPE, stderr=errors,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = ""
        while not url.startswith("http"):  # the log shares stdout until the program sets it up
            line = (await process.stdout.readline()).decode()
            assert line, (tmp_path / "stderr").read_text()
            url = line.removeprefix("URL ").strip() if line.startswith("URL ") else ""
        async with aiohttp.ClientSession() as session:
            caller = lab.caller(session, url)
            created = await asyncio.gather(*(caller.create(zipped(str(n))) for n in range(20)))
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        errors.close()
    assert lab.detector.seen == []
    async with lab.engine() as (engine, caller):
        states = [(await caller.settled(reply)).response["Status"] for reply in created]
        assert states == ["SUCCESS"] * 20
        assert (await engine.stats())["billed_units"] == 60
    assert len(lab.detector.seen) == 20

"""The embedded endpoint with an instant detector, as a process: prints its URL, ends with its input.

Usage: stub_engine.py STORE
"""

import asyncio
import sys
from pathlib import Path

import structlog
from lab import SECRET_ID, SECRET_KEY

from batchscan.embedded.detection import Detection
from batchscan.embedded.server import EngineSettings, serve

_FOUND = Detection(
    risk_level="benign",
    score=98,
    file_count=1,
    skill_name="sorter",
    skill_description="Sorts a list and says in a sentence or two what it did with it, as real ones do.",
    capabilities=(("file_read", "Reads files"),),
    description="All of its content was looked at and nothing was found. That is no proof of safety.",
)


class InstantDetector:
    """Finds every skill harmless without looking."""

    concurrency = 8

    async def detect(self, _content: bytes) -> Detection:
        return _FOUND

    async def aclose(self) -> None:
        """It owns nothing."""


async def main(store: Path) -> None:
    settings = EngineSettings(
        secret_id=SECRET_ID,
        secret_key=SECRET_KEY,
        engine_version=1,
        total_quota=2**53,
        store_path=store,
        stats=True,
    )
    async with serve(settings, InstantDetector()) as engine:
        print(engine.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the URL
    asyncio.run(main(Path(sys.argv[1])))

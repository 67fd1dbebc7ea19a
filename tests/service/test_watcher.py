"""The watcher by itself: where the kernel cannot tell, and where there is nothing to watch yet."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from cli_lab import skill, until
from structlog.testing import capture_logs
from watchfiles import awatch

from batchscan.service import watching
from batchscan.service.watching import Watched, Watcher, is_written, look
from batchscan.walk import Filters


def watched(root: Path) -> Watched:
    return Watched(name="new", roots=(str(root),), filters=Filters(), settle_s=0.1)


class Taken:
    """What was submitted."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def submit(self, file: Path, count: int) -> None:
        names = (await asyncio.to_thread(file.read_bytes)).split(b"\0")
        assert names.pop() == b""
        assert len(names) == count
        self.paths += [name.decode() for name in names]


async def test_without_watches_left_directories_are_looked_through_and_the_log_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, taken = tmp_path / "in", Taken()
    asked = []

    async def refusing(*roots: str, force_polling: bool | None, **how: Any) -> AsyncGenerator[Any, None]:
        asked.append(force_polling)
        if not force_polling:
            raise OSError("OS file watch limit reached.")
        async for changes in awatch(*roots, force_polling=True, **how):
            yield changes

    monkeypatch.setattr(watching, "awatch", refusing)
    watcher = Watcher(watched(root), tmp_path / "arrivals", taken.submit)
    with capture_logs() as logs:
        root.mkdir()
        task = asyncio.create_task(watcher.run())
        await until(lambda: any(line["event"] == "watching" for line in logs))
        (root / "a.zip").write_bytes(skill("a"))
        await until(lambda: taken.paths == [str(root / "a.zip")])
        watcher.stop()
        await task
    assert asked == [None, True]
    events = [(line["event"], line.get("reason", line.get("polling"))) for line in logs]
    assert events[:2] == [("watch-polls", "OSError: OS file watch limit reached."), ("watching", True)]


async def test_a_directory_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    root, taken = tmp_path / "in", Taken()
    watcher = Watcher(watched(root), tmp_path / "arrivals", taken.submit)
    with capture_logs() as logs:
        task = asyncio.create_task(watcher.run())
        await until(lambda: any(line["event"] == "watch-waits" for line in logs))
        root.mkdir()
        (root / "a.zip").write_bytes(skill("a"))  # before the watch is on: found by its time
        await until(lambda: taken.paths == [str(root / "a.zip")])
        root.rename(tmp_path / "old")  # and another one takes its place
        root.mkdir()
        (root / "b.zip").write_bytes(skill("b"))
        await until(lambda: str(root / "b.zip") in taken.paths)
        watcher.stop()
        await task


def test_a_file_that_somebody_writes_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.write(b"x")
        file.flush()
        assert is_written(str(path))
    assert not is_written(str(path))
    with path.open("rb"):
        assert not is_written(str(path))
    assert not is_written(str(tmp_path / "none"))
    assert look(str(tmp_path / "none")) is None
    assert look(str(tmp_path)) is None

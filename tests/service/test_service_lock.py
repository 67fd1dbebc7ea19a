"""A lock that cannot be taken: why, in words, and no descriptor is left of it."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from service_lab import ServiceLab

from batchscan.errors import LedgerError
from batchscan.service import serve
from batchscan.service_config import ServiceConfig
from batchscan.settings import settle


def take_no_lock(_path: Path, patch: pytest.MonkeyPatch) -> None:
    """As on a network file system without a lock service."""

    def flock(_descriptor: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    patch.setattr(fcntl, "flock", flock)


def take_no_byte(_path: Path, patch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""

    def pwrite(_descriptor: int, _content: bytes, _at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "pwrite", pwrite)


def be_a_fifo(path: Path, _patch: pytest.MonkeyPatch) -> None:
    """It can be locked, and not be cut."""
    os.mkfifo(path)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (take_no_lock, "No locks available"),
        (take_no_byte, "No space left on device"),
        (be_a_fifo, "Invalid argument"),
    ],
)
async def test_a_lock_that_cannot_be_taken_is_told_in_words(
    lab: ServiceLab,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Path, pytest.MonkeyPatch], None],
    why: str,
) -> None:
    lab.state.mkdir(parents=True)
    path = lab.state / "serve.lock"
    settled = settle({"state_dir": str(lab.state), "config": str(lab.settings(None))})
    with monkeypatch.context() as patch:
        fault(path, patch)
        before = descriptors()
        with pytest.raises(LedgerError) as caught:
            await serve.serve({}, settled, ServiceConfig())
        assert descriptors() == before
    assert f"{path} cannot be locked ({why})" in str(caught.value)


async def test_a_directory_in_the_place_of_the_lock_is_told_in_words(lab: ServiceLab) -> None:
    (lab.state / "serve.lock").mkdir(parents=True)
    done = await lab.run("serve", "--config", lab.settings(None))
    assert done.code == 2
    assert f"{lab.state}/serve.lock cannot be locked (Is a directory)" in done.err.replace("\n", " ")

"""Load: the request that submits a digest, from a file that still holds its bytes.

What is loaded waits for its slot and its call in memory; an allowance bounds how much that is, so that
many large files wait on disk instead.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from batchscan.allowance import Allowance
from batchscan.api.protocol import Request, create_request
from batchscan.content import read_bytes
from batchscan.ledger.scans import Scans

ALLOWED_BYTES = 128 * 1024 * 1024
_WEIGHT = 2.4
"""Bytes in memory for a byte of the file: itself, and its body of base64."""


class Loader:
    """Loads what one run submits.

    Args:
        scans: knows where the run's inputs are.
        run: the run's number in the ledger.
        limit_bytes: files that have grown beyond it are not loaded.
        allowed_bytes: how much may be in memory at a time; one file alone always may.
    """

    def __init__(
        self, scans: Scans, run: int, *, limit_bytes: int, allowed_bytes: int = ALLOWED_BYTES
    ) -> None:
        self._scans = scans
        self._run = run
        self._limit_bytes = limit_bytes
        self.allowance = Allowance(allowed_bytes)

    @asynccontextmanager
    async def load(self, digest: bytes) -> AsyncIterator[Request | None]:
        """Give the request while the block runs; None when no file holds the bytes any more."""
        async with aclosing(self._scans.locations(self._run, digest)) as locations:
            async for location in locations:
                size = await asyncio.to_thread(_size, location)
                async with self.allowance.hold(int(min(size, self._limit_bytes) * _WEIGHT)):
                    request = await asyncio.to_thread(_load, location, digest, self._limit_bytes)
                    if request is not None:
                        yield request
                        return
        yield None


def _size(location: bytes) -> int:
    try:
        return Path(os.fsdecode(location)).stat().st_size
    except OSError:
        return 0  # reading it will tell


def _load(location: bytes, digest: bytes, limit_bytes: int) -> Request | None:
    """Read, check and encode one file; blocks."""
    read = read_bytes(location, limit_bytes)
    if not isinstance(read, tuple):
        return None
    _, content = read
    if hashlib.sha256(content).digest() != digest:
        return None
    return create_request(content, Path(os.fsdecode(location)).name)

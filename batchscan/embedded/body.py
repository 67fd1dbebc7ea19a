"""Reads request bodies within limits: of size while reading, of time, and of how many large ones at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

from aiohttp import web

from batchscan.embedded.wire import WireError

P = ParamSpec("P")
T = TypeVar("T")

LARGE_BYTES = 64 * 1024
LARGE_AT_ONCE = 4  # each may take about three times 10 MB while it is decoded


class Bodies:
    """The bodies of one engine."""

    def __init__(self, limit_bytes: int, timeout_s: float) -> None:
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(LARGE_AT_ONCE)

    @asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """The whole body; a large one holds its place in memory until the block ends.

        Raises:
            WireError: ``RequestSizeLimitExceeded``; ``InvalidRequest``: incomplete or too slow;
                ``ServiceUnavailable``: no place in memory within the time limit.
        """
        size = request.content_length
        if size is not None and size > self._limit_bytes:
            raise self._too_large()
        if size is not None and size <= LARGE_BYTES:
            yield await self._read(request)
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise WireError("ServiceUnavailable", "Too many large requests at once, try again.") from error
        try:
            yield await self._read(request)
        finally:
            self._turns.release()

    async def _read(self, request: web.Request) -> bytes:
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._timeout_s):
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > self._limit_bytes:
                        raise self._too_large()
                    chunks.append(chunk)
        except TimeoutError as error:
            raise WireError("InvalidRequest", f"The body took longer than {self._timeout_s:g} s.") from error
        except (OSError, web.RequestPayloadError) as error:
            raise WireError("InvalidRequest", "The body is incomplete.") from error
        return b"".join(chunks)

    def _too_large(self) -> WireError:
        return WireError("RequestSizeLimitExceeded", f"The request is larger than {self._limit_bytes} bytes.")


async def apart(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a CPU-bound function, in a thread when its input of ``size`` bytes would hold up the loop."""
    if size <= LARGE_BYTES:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)

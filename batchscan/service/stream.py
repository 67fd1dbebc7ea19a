"""A stream from a thread that writes to a request's answer that is sent: bounded, and ended by either side.

The thread waits while the reader is behind; a reader that has gone makes its next write fail. An answer that
fails on the way is cut off, so that nobody takes half of it for the whole.
"""

import asyncio
import io
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from aiohttp import web

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PIECE: Final = 256 * 1024
_WAITING: Final = 4
_WRITE_S: Final = 60.0


Write = Callable[[BinaryIO], None]


class _Channel(io.RawIOBase):
    """The writing end, for one thread; what is written comes out of the queue in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._loop = loop
        self._room = threading.Semaphore(_WAITING)
        self._gone = threading.Event()
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, piece: "ReadableBuffer", /) -> int:
        content = bytes(piece)
        self._room.acquire()
        if self._gone.is_set():
            raise BrokenPipeError("the reader has gone")
        self._position += len(content)
        self._loop.call_soon_threadsafe(self.pieces.put_nowait, content)
        return len(content)

    def finish(self) -> None:
        """In the thread: nothing more will come."""
        self._loop.call_soon_threadsafe(self.pieces.put_nowait, None)

    def taken(self) -> None:
        """In the loop: there is room for one more."""
        self._room.release()

    def leave(self) -> None:
        """Nobody reads any more; of both sides."""
        self._gone.set()
        self._room.release()


async def _pieces(write: Write) -> AsyncGenerator[bytes, None]:
    """Run ``write`` in a thread and yield what it writes; raises what it raises."""
    channel = _Channel(asyncio.get_running_loop())

    def work() -> None:
        file = io.BufferedWriter(channel, _PIECE)
        try:
            write(cast("BinaryIO", file))
            file.flush()
        finally:
            channel.leave()  # what is buffered after a failure is not told
            with suppress(OSError):
                file.close()
            channel.finish()

    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        while (piece := await channel.pieces.get()) is not None:
            channel.taken()
            yield piece
        await task
    finally:
        channel.leave()
        if not task.done():
            await asyncio.gather(task, return_exceptions=True)


async def stream(
    request: web.Request,
    write: Write,
    *,
    content_type: str,
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """Answer with what ``write`` writes in a thread.

    What it raises before it has written a first piece is raised; later, the answer is cut off.
    """
    response = web.StreamResponse(headers={**headers, "Content-Type": content_type})
    async with aclosing(_pieces(write)) as pieces:
        try:
            async for piece in pieces:
                if not response.prepared:
                    await response.prepare(request)
                async with asyncio.timeout(_WRITE_S):
                    await response.write(piece)
        except Exception:
            if not response.prepared:
                raise
            if request.transport is not None:
                request.transport.abort()
            raise
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
    return response

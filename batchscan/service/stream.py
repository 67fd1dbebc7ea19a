"""A stream from a thread that writes to a request's answer that is sent: bounded, and ended by either side.

The thread waits while the reader is behind; a reader that has gone makes its next write fail. An answer that
fails on the way is cut off, so that nobody takes half of it for the whole.
"""

import asyncio
import io
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import structlog
from aiohttp import web

from batchscan.service.problems import RefusedError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = structlog.get_logger(__name__)

_PIECE: Final = 256 * 1024
_WAITING: Final = 4
_WRITE_S: Final = 60.0
_LOOK_S: Final = 1.0

Write = Callable[[BinaryIO], None]


class _UnreadError(Exception):
    """Who asked does not read the answer to its end."""


class _Channel(io.RawIOBase):
    """The writing end, for one thread; what is written is read in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._failure: Exception | None = None
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
            self._room.release()  # the next write is to fail, too, and not to wait
            raise BrokenPipeError("the reader has gone")
        self._position += len(content)
        self._loop.call_soon_threadsafe(self._pieces.put_nowait, content)
        return len(content)

    def finish(self, failure: Exception | None) -> None:
        """In the thread: nothing more will come, because of a failure or not."""
        self._failure = failure
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, None)

    async def written(self) -> AsyncIterator[bytes]:
        """In the loop: what is written, to its end; raises what it failed with."""
        while (piece := await self._pieces.get()) is not None:
            self._room.release()
            yield piece
        if self._failure is not None:
            raise self._failure

    def leave(self) -> None:
        """Nobody reads any more; of both sides."""
        self._gone.set()
        self._room.release()


class Downloads:
    """Sends what threads write, each in a thread of its own.

    A slow reader keeps none of the threads that the rest of the service shares, and the service's end waits
    for no large report: these are bounded, and daemons.

    Args:
        most: at a time.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._free = threading.Semaphore(most)

    async def send(
        self,
        request: web.Request,
        write: Write,
        *,
        content_type: str,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        """Answer with what ``write`` writes in a thread.

        What it raises before it has written a first piece is raised; later, the answer is cut off. So it is
        when its reader goes, or reads nothing for ``_WRITE_S``; that is no error. ``headers`` are sent
        with the first piece, so it may add to them before.

        Raises:
            RefusedError: as many answers are under way as there may be.
        """
        response = web.StreamResponse(headers={"Content-Type": content_type})
        transport = request.transport
        channel = self._begin(write)
        try:
            async for piece in channel.written():
                await _prepare(request, response, headers)
                await _taken(request, response.write(piece))
            await _prepare(request, response, headers)
            await _taken(request, response.write_eof())
        except _UnreadError as error:
            log.info("an answer was not read to its end", reason=str(error))
            _cut(transport)
        except BaseException:  # also when the service stops
            if response.prepared:
                _cut(transport)
            raise
        finally:
            channel.leave()
        return response

    def _begin(self, write: Write) -> _Channel:
        busy = RefusedError(
            503,
            f"{self._most} reports are being sent, which is all there may be; ask again",
            headers={"Retry-After": "5"},
        )
        if not self._free.acquire(blocking=False):
            raise busy
        channel = _Channel(asyncio.get_running_loop())

        def work() -> None:
            file = io.BufferedWriter(channel, _PIECE)
            failure = None
            try:
                write(cast("BinaryIO", file))
                file.flush()
            except Exception as error:  # noqa: BLE001 - raised again where the answer is sent
                failure = error
            channel.leave()  # what is buffered after a failure is not told
            with suppress(OSError):
                file.close()
            self._free.release()
            channel.finish(failure)

        context = copy_context()  # for the log: which request it is
        try:
            threading.Thread(target=context.run, args=(work,), name="download", daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            self._free.release()
            raise busy from error
        return channel


async def _prepare(request: web.Request, response: web.StreamResponse, headers: Mapping[str, str]) -> None:
    if not response.prepared:
        response.headers.update(headers)
        await response.prepare(request)


async def _taken(request: web.Request, sending: Coroutine[Any, Any, None]) -> None:
    """Send, for as long as the reader takes some of it, however little.

    Raises:
        _UnreadError: it has gone, or has taken nothing for ``_WRITE_S``.
    """
    task = asyncio.ensure_future(sending)
    quiet_s, waiting = 0.0, -1
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
            before, waiting = waiting, _waiting(request)
            quiet_s = quiet_s + _LOOK_S if waiting == before else 0.0
            if quiet_s >= _WRITE_S:
                raise _UnreadError(f"nothing was read for {_WRITE_S:.0f} s")
        await task
    except ConnectionError as error:
        raise _UnreadError("the reader has gone") from error
    finally:
        task.cancel()


def _waiting(request: web.Request) -> int:
    """Bytes that the system has not taken yet."""
    return 0 if request.transport is None else request.transport.get_write_buffer_size()


def _cut(transport: asyncio.Transport | None) -> None:
    """End the connection by a reset: by its mere end, HTTP/1.0 takes what has come for the whole."""
    if transport is None:
        return
    with suppress(OSError):  # it is closed
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    transport.abort()

"""An outlet: text on its way to a stream whose reader may be slow, or may not read at all.

Whoever writes never waits. A thread carries the text to the stream's file, in order, each write in one piece.
What waits is bounded; beyond that the oldest goes, and in its place stands how many writes that were. So a
stopped terminal or a pipe that nobody reads delays what is shown, and nothing else.
"""

import io
import os
import select
import threading
from collections import deque
from typing import Final, TextIO, cast

WAITING_WRITES: Final = 1000
WAITING_BYTES: Final = 256 * 1024
_PATIENCE_S: Final = 1.0
"""At the end: wait as long as something is read at least so often."""


class Outlet(io.TextIOBase):
    """A stream for text that may be delayed or dropped: logs and progress, never data.

    Args:
        stream: one with a file; it is flushed now, and nobody else should write to it from here on.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._descriptor = stream.fileno()
        stream.flush()
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._carrying = False
        self._carried = 0  # bytes
        self._given_up: int | None = None
        self._failure: OSError | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute that can be set
        """Of the stream."""
        return self._stream.encoding

    @property
    def behind(self) -> bool:
        """Whether there is text that the reader has not even begun to take."""
        return bool(self._waiting)

    def fileno(self) -> int:
        """Of the stream."""
        return self._descriptor

    def isatty(self) -> bool:
        """Of the stream."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Hand text over; an empty one is nothing.

        Raises:
            OSError: the stream has failed before, and nothing more is taken.
        """
        content = text.encode(self._stream.encoding, self._stream.errors or "strict")
        with self._changed:
            if self._failure is not None:
                raise OSError(self._failure.errno, self._failure.strerror)
            if content:
                self._waiting.append(content)
                self._bytes += len(content)
                self._trim()
                self._begin()
        return len(text)

    def settle(self) -> bool:
        """Wait until all is written, as long as there is somebody who reads; tells whether it is."""
        with self._changed:
            while not self._done():
                before = self._carried
                if self._given_up == before:  # once is enough for a reader who is no further than then
                    return False
                if not self._changed.wait_for(lambda: self._done() or self._carried > before, _PATIENCE_S):  # noqa: B023 - called in here only
                    self._given_up = before
        return self._failure is None

    def _done(self) -> bool:
        return not (self._waiting or self._carrying)

    def _trim(self) -> None:
        while len(self._waiting) > 1 and (len(self._waiting) > WAITING_WRITES or self._bytes > WAITING_BYTES):
            self._bytes -= len(self._waiting.popleft())
            self._dropped += 1

    def _begin(self) -> None:
        self._changed.notify_all()
        if self._thread is None:
            # daemon: a reader who never comes must not keep the process
            self._thread = threading.Thread(target=self._carry, name="outlet", daemon=True)
            self._thread.start()

    def _carry(self) -> None:
        while True:
            try:
                self._write_all(self._next())
            except OSError as error:  # whoever writes next is told
                with self._changed:
                    self._failure, self._carrying, self._bytes = error, False, 0
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._carrying = False
                self._changed.notify_all()

    def _next(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            content = self._waiting.popleft()
            self._bytes -= len(content)
            self._carrying = True
            dropped, self._dropped = self._dropped, 0
        told = (
            f"batchscan: {dropped} messages were dropped here, nobody read them in time\n" if dropped else ""
        )
        return told.encode() + content

    def _write_all(self, content: bytes) -> None:
        # past the stream: it would hold its lock, which the interpreter needs when it ends
        while content:
            try:
                written = os.write(self._descriptor, content)
            except BlockingIOError:  # somebody else who has the terminal made it so
                select.select((), (self._descriptor,), ())
                continue
            content = content[written:]
            with self._changed:
                self._carried += written
                self._changed.notify_all()


_outlets: dict[TextIO, Outlet] = {}


def aside(stream: TextIO) -> TextIO:
    """Give the outlet of a stream, always the same; one without a file is given back as it is."""
    found = _outlets.get(stream)
    if found is None:
        try:
            found = Outlet(stream)
        except (OSError, ValueError):  # no file behind it, closed, or already failed
            return stream
        _outlets[stream] = found
    return cast("TextIO", found)


def current(stream: TextIO) -> TextIO:
    """Give the stream's outlet where it has one, else the stream."""
    return cast("TextIO", _outlets.get(stream, stream))


def settle() -> None:
    """Wait until all that was written aside is shown, as long as somebody reads."""
    for outlet in _outlets.values():
        outlet.settle()

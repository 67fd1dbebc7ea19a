"""Files that have come and are not submitted yet: which are whole, and which go together. Knows no clock.

A file is whole once nothing was heard of it for the settle time, it looks as it did then, and nobody has it
open to write. What comes together is held until all of it is whole, but not for ever, and not without bound.
"""

from collections.abc import Callable
from typing import Final

import msgspec

BATCH: Final = 1000
"""Files of one run at most."""

MOST: Final = 100_000
"""Files that are waited for at most; the next run of the schedule finds the others."""

HELD: Final = 10
"""Settle times for which whole files wait for those that are not."""


class Sight(msgspec.Struct, frozen=True):
    """How a file looks."""

    size: int
    mtime_ns: int
    inode: int


class Eyes(msgspec.Struct, frozen=True):
    """How files are looked at.

    Attributes:
        look: None where there is no such regular file.
        is_written: somebody has it open to write.
    """

    look: Callable[[str], Sight | None]
    is_written: Callable[[str], bool]


class _Unsettled(msgspec.Struct):
    sight: Sight | None
    quiet_since: float


class Arrivals:
    """Files that have come.

    Args:
        settle_s: the settle time, seconds.
        eyes: look at files; may block.

    Attributes:
        left_out: files that there was no room for.
    """

    def __init__(self, settle_s: float, eyes: Eyes) -> None:
        self._settle_s = settle_s
        self._eyes = eyes
        self._unsettled: dict[str, _Unsettled] = {}
        self._whole: dict[str, None] = {}
        self._whole_since = 0.0
        self.left_out = 0

    @property
    def waiting(self) -> int:
        """How many have not been taken yet."""
        return len(self._unsettled) + len(self._whole)

    def seen(self, path: str, now: float) -> None:
        """Something happened to a file."""
        self._whole.pop(path, None)
        known = self._unsettled.get(path)
        if known is not None:
            known.quiet_since = now
        elif self.waiting < MOST:
            self._unsettled[path] = _Unsettled(self._eyes.look(path), now)
        else:
            self.left_out += 1

    def take(self, now: float) -> tuple[str, ...]:
        """Take the files of the next run; none as long as more may belong to it."""
        for path, file in list(self._unsettled.items()):
            if now - file.quiet_since >= self._settle_s:
                self._settle(path, file, now)
        if not self._whole:
            return ()
        late = now - self._whole_since >= HELD * self._settle_s
        if self._unsettled and len(self._whole) < BATCH and not late:
            return ()
        batch = tuple(self._whole)[:BATCH]
        for path in batch:
            del self._whole[path]
        self._whole_since = now
        return batch

    def put_back(self, paths: tuple[str, ...], now: float) -> None:
        """Take files back that could not be submitted."""
        for path in paths:
            self.seen(path, now)

    def _settle(self, path: str, file: _Unsettled, now: float) -> None:
        sight = self._eyes.look(path)
        if sight is None:  # gone before it was whole
            del self._unsettled[path]
        elif sight != file.sight or self._eyes.is_written(path):
            file.sight, file.quiet_since = sight, now
        else:
            del self._unsettled[path]
            if not self._whole:
                self._whole_since = now
            self._whole[path] = None

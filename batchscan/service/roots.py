"""Roots: the directories whose files may be scanned on a caller's word, and the way from a name to a place.

A name is walked from its root one component at a time, each opened relative to the one before and without
following a link; a link is read and walked in the same way. So no link that is swapped in meanwhile leads
out, and what comes back is a real path below a root. The files themselves are looked at again when they are
opened (``content``).
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batchscan.errors import UsageError
from batchscan.walk import display_path

_MOST_LINKS: Final = 40
_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST: Final = 4096


class OutsideRootsError(UsageError):
    """What was named is not below a root, or is not there: a caller is not told which."""


class Roots:
    """Directories that may be scanned; blocks.

    Args:
        paths: absolute; each must be a directory.

    Raises:
        UsageError: one is none, or cannot be entered.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._names = {name: _real(path) for path in paths for name in (os.path.realpath(path), str(path))}

    @property
    def real(self) -> tuple[str, ...]:
        """The real paths of the roots."""
        return tuple(dict.fromkeys(map(os.fsdecode, self._names.values())))

    def place(self, name: str) -> str:
        """Tell the real path of a file or directory that a caller named.

        Args:
            name: an absolute path without ``..``.

        Raises:
            OutsideRootsError: it is no such path, not below a root, or not there.
        """
        raw = _checked(name)
        if not self._names:
            raise OutsideRootsError(
                "this service scans no files on a caller's word: its [service] roots name no directory"
            )
        for alias, root in self._names.items():
            inside = _below(raw, os.fsencode(alias))
            if inside is not None:
                return os.fsdecode(_walk(root, inside, name))
        raise _outside(name)


def _real(path: Path) -> bytes:
    real = os.path.realpath(bytes(path))
    try:
        os.close(os.open(real, _LOOK | os.O_DIRECTORY))
    except OSError as error:
        raise UsageError(
            f"[service] roots: {display_path(bytes(path))}: {error.strerror}; name a directory"
        ) from error
    return real


def _checked(name: str) -> bytes:
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError as error:
        raise OutsideRootsError("a path cannot hold such a character") from error
    shown = display_path(raw[:_LONGEST])
    if b"\0" in raw:
        raise OutsideRootsError("a path cannot hold a NUL byte")
    if len(raw) > _LONGEST:
        raise OutsideRootsError(f"a path is at most {_LONGEST} bytes long")
    if not raw.startswith(b"/"):
        raise OutsideRootsError(
            f"{shown!r} is not absolute; the service has no directory that it could start from"
        )
    if b".." in raw.split(b"/"):
        raise OutsideRootsError(f"{shown!r}: write the path without ..")
    return raw


def _below(raw: bytes, root: bytes) -> list[bytes] | None:
    """Tell the components of a path below a root, None when it is not below it by its name."""
    parts = _parts(raw)
    top = _parts(root)
    return parts[len(top) :] if parts[: len(top)] == top else None


def _parts(raw: bytes) -> list[bytes]:
    return [part for part in raw.split(b"/") if part not in (b"", b".")]


def _walk(root: bytes, parts: list[bytes], name: str) -> bytes:
    """Walk from the root without ever leaving it; return the real path of where the way ends."""
    way: list[bytes] = []
    left = list(reversed(parts))
    links = 0
    while left:
        part = left.pop()
        if part == b"..":  # only a link's target has these
            if not way:
                raise _outside(name)
            way.pop()
            continue
        with _entered(root, way, name) as directory:
            mode, target = _look(directory, part, name)
        if target is None:
            way.append(part)
            if left and not stat.S_ISDIR(mode):
                raise _outside(name)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise _outside(name)
        if target.startswith(b"/"):
            inside = _below(target, root)
            if inside is None or b".." in inside:
                raise _outside(name)
            way = []
            left.extend(reversed(inside))
        else:
            left.extend(reversed([p for p in target.split(b"/") if p not in (b"", b".")]))
    return b"/".join([root.rstrip(b"/"), *way]) or b"/"


@contextmanager
def _entered(root: bytes, way: Sequence[bytes], name: str) -> Iterator[int]:
    """Open the directory at the end of a way of real components."""
    descriptor = -1
    try:
        descriptor = os.open(root, _LOOK | os.O_DIRECTORY)
        for part in way:
            below = os.open(part, _LOOK | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        raise _outside(name) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _look(directory: int, part: bytes, name: str) -> tuple[int, bytes | None]:
    """Tell what kind of thing a component is, and where it leads if it is a link."""
    try:
        descriptor = os.open(part, _LOOK, dir_fd=directory)
    except OSError as error:
        raise _outside(name) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISLNK(mode):
            return mode, None
        return mode, os.readlink(b"", dir_fd=descriptor)
    except OSError as error:
        raise _outside(name) from error
    finally:
        os.close(descriptor)


def _outside(name: str) -> OutsideRootsError:
    shown = display_path(os.fsencode(name))
    return OutsideRootsError(f"{shown!r} is not below a directory that may be scanned, or is not there")

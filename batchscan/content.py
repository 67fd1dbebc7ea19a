"""One read of a file: its bytes, or its digest and inspection. Blocks; callers use a thread."""

import hashlib
import os
import stat as stat_module
from collections.abc import Container

from batchscan import archive
from batchscan.ledger.standing import Content
from batchscan.models import Artifact, FileStat, Problem, Rejection
from batchscan.walk import OUTSIDE, is_open_inside

_READ_TRIES = 3


def too_large(size: int, limit_bytes: int) -> Problem:
    """Say that a file is over the limit, both in bytes."""
    return Problem("too-large", f"{size} bytes; the service takes at most {limit_bytes}")


def read_bytes(
    location: bytes, limit_bytes: int, roots: Container[bytes] | None = None
) -> tuple[FileStat, bytes] | Rejection:
    """Read a regular file in one piece, at most ``limit_bytes`` of it; blocks.

    A file that changes while it is read is read again, a few times. One that is not below ``roots`` is not
    read: it is opened first and the kernel asked where it is, so that no link can be swapped in between.
    """
    try:
        # NONBLOCK: opening a FIFO that took the file's place must not hang.
        descriptor = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Rejection(Problem("missing", "no such file; it was deleted or moved"))
    except OSError as error:
        return Rejection(Problem("unreadable", error.strerror or "cannot be opened"))
    try:
        if roots is not None and not is_open_inside(descriptor, roots):
            return Rejection(OUTSIDE)
        return _read_steady(descriptor, limit_bytes)
    except OSError as error:
        return Rejection(Problem("unreadable", error.strerror or "cannot be read"))
    finally:
        os.close(descriptor)


def read_content(
    location: bytes, limit_bytes: int, roots: Container[bytes] | None = None
) -> tuple[FileStat, Content] | Rejection:
    """Read, hash and inspect one file; blocks."""
    read = read_bytes(location, limit_bytes, roots)
    if isinstance(read, Rejection):
        return read
    stat, content = read
    digest = hashlib.sha256(content).digest()
    found = archive.inspect(content)
    if isinstance(found, Problem):
        return stat, Content(Artifact(digest, stat.size, 0), found)
    return stat, Content(Artifact(digest, stat.size, found.file_count, found.notes))


def _read_steady(descriptor: int, limit_bytes: int) -> tuple[FileStat, bytes] | Rejection:
    for _ in range(_READ_TRIES):
        before = os.fstat(descriptor)
        if not stat_module.S_ISREG(before.st_mode):
            return Rejection(Problem("not-a-file", "not a regular file"))
        if before.st_size > limit_bytes:
            return Rejection(too_large(before.st_size, limit_bytes), before.st_size)
        os.lseek(descriptor, 0, os.SEEK_SET)
        content = _read_whole(descriptor, before.st_size)
        after = os.fstat(descriptor)
        if len(content) == before.st_size and _same(before, after):
            return FileStat(after.st_size, after.st_mtime_ns, after.st_ino), content
    return Rejection(Problem("changing", "the file changed each time it was read; scan it again later"))


def _read_whole(descriptor: int, size: int) -> bytes:
    # One byte more than expected shows that the file has grown.
    parts, left = [], size + 1
    while left > 0 and (part := os.read(descriptor, left)):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)

"""A file that one process at a time writes: opened, locked, checked, replaced. Blocking; call off the loop.

The lock is ``flock`` on the file itself, so it ends with the process however that dies, and it
belongs to the descriptor: whoever replaces the file locks the successor before the rename, so that
there is no moment at which the path leads to an unlocked file.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path

from batchscan.errors import ReportError, UsageError

_OPEN_TRIES = 8
_FLAGS = os.O_RDWR | os.O_APPEND  # for both, so that not even a FIFO holds us up
_BLOCK_BYTES = 1 << 16


def open_locked(path: Path, *, exclusive: bool = False, private: bool = False) -> int:
    """Open for appending and reading, creating the file if needed, and lock it. Returns the descriptor.

    Args:
        path: the file; its directory must exist.
        exclusive: refuse a file that exists.
        private: a new file is for its owner alone.

    Raises:
        UsageError: it exists although ``exclusive``, is no regular file, cannot be written, has no
            directory, or another process holds the lock.
    """
    for _ in range(_OPEN_TRIES):
        descriptor = _open(path, exclusive=exclusive, private=private)
        try:
            if _lock(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise UsageError(f"{path}: was replaced again and again while opening; another program writes there")


def _open(path: Path, *, exclusive: bool, private: bool) -> int:
    try:
        flags = _FLAGS | os.O_CREAT | (os.O_EXCL if exclusive else 0)
        descriptor = os.open(path, flags, 0o600 if private else 0o644)
    except FileExistsError as error:
        raise UsageError(
            f"{path}: exists; name another output file, or replace it with --overwrite"
        ) from error
    except FileNotFoundError as error:
        raise UsageError(f"{path}: its directory does not exist; create it first") from error
    except IsADirectoryError as error:
        raise UsageError(f"{path}: is a directory; name a file for the report") from error
    except OSError as error:
        reason = error.strerror
        raise UsageError(f"{path}: cannot be written ({reason}); name another output file") from error
    return descriptor


def _lock(descriptor: int, path: Path) -> bool:
    """Lock; False when the path meanwhile leads to another file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise UsageError(f"{path}: is not a regular file; a report must be one, so that it can be resumed")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"{path}: another run is writing this report; wait for it, or use another file"
        ) from error
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be locked ({error.strerror}); use a file system with flock"
        ) from error
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def create_successor(path: Path, of: int) -> int:
    """Open, lock and empty the file that will replace ``of``, with the same permissions.

    Raises:
        UsageError: as ``open_locked``.
    """
    descriptor = open_locked(path)
    try:
        os.ftruncate(descriptor, 0)
        copy_permissions(of, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def copy_permissions(source: int, target: int) -> None:
    """Give ``target`` the permissions of ``source``; a private report is replaced by a private one."""
    mode = stat.S_IMODE(os.fstat(source).st_mode)
    if mode != stat.S_IMODE(os.fstat(target).st_mode):  # a file of another owner cannot be changed at all
        os.fchmod(target, mode)


def sync_directory(path: Path) -> None:
    """Make the directory entry of ``path`` survive a power cut."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems have no such thing
            raise
    finally:
        os.close(descriptor)


def size_of(descriptor: int) -> int:
    """Bytes in the file."""
    return os.fstat(descriptor).st_size


def end_of_lines(descriptor: int) -> int:
    """Offset behind the last line's end, found from the back; 0 when no line is complete."""
    end = size_of(descriptor)
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def write_failure(path: Path, error: OSError) -> ReportError:
    """Say what to do about a report that could not be written."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    todo = "make room" if full else "check the disk"
    return ReportError(
        f"{path}: the report could not be written ({error.strerror}); {todo}, then `batchscan resume`: "
        "verdicts that were paid for are in the ledger"
    )

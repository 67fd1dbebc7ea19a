"""Who holds a claim: a locked file per live process, so that a killed one is known to be dead at once.

A lease alone would make every resume after a kill wait for its end. The kernel drops a file lock with
the process that held it, whatever ended it, and also across containers that share the directory.
"""

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batchscan.errors import LedgerError


@contextmanager
def own(directory: Path) -> Iterator[str]:
    """Hold this process's owner name for as long as the block runs.

    Args:
        directory: where the lock files are; made where there is none.

    Raises:
        LedgerError: the directory cannot be written.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    path = directory / name
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"state directory: cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield name
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(descriptor)


def is_alive(directory: Path, owner: str) -> bool:
    """Whether the process of that name still runs; a dead one's lock file is cleared away."""
    path = directory / owner
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with suppress(FileNotFoundError):
            path.unlink()
        return False
    finally:
        os.close(descriptor)

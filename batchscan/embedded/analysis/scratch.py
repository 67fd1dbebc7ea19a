"""The private directory that skills are unpacked into, and that never outlives its owner for long.

It is mode 0700 and locked (``flock``) by the process that owns it. The kernel drops the lock when that
process dies, however it dies, so whoever starts next can tell an abandoned directory from one in use
and removes it.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "batchscan-unpack-"
_PREFIX_UNLOCKED = "batchscan-new-"  # not yet locked: nobody sweeps this name


@contextlib.contextmanager
def scratch_directory(parent: Path | None = None) -> Iterator[Path]:
    """A new private directory below ``parent`` (default: the system's), removed at the end.

    Raises:
        OSError: it cannot be created.
    """
    parent = parent or Path(tempfile.gettempdir())
    sweep(parent)
    fresh = Path(tempfile.mkdtemp(prefix=_PREFIX_UNLOCKED, dir=parent))
    descriptor = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        directory = fresh.rename(parent / (_PREFIX + fresh.name.removeprefix(_PREFIX_UNLOCKED)))
        try:
            yield directory
        finally:
            shutil.rmtree(directory)
    finally:
        os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove what dead owners left below ``parent``; what another user or a live process owns stays."""
    for entry in parent.glob(_PREFIX + "*"):
        # Another process may sweep the same entry at the same time: losing that race is fine.
        with contextlib.suppress(OSError):
            descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_uid == os.getuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry)
            finally:
                os.close(descriptor)

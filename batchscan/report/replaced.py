"""A file that appears under its name when it is whole, or not at all; until then the older one stays."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

from batchscan.errors import ReportError, UsageError
from batchscan.report.outfile import sync_directory


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Open what takes the place of ``path`` when the block ends, and is dropped when it fails.

    It is written beside ``path``, so that the file system need only give it the name, and synced before.

    Raises:
        UsageError: there is no such directory, or something that is no file has the name.
        ReportError: it could not be written; what was there is as it was.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: is not a regular file; name another output file")
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                yield cast("BinaryIO", file)
                file.flush()
                os.fchmod(file.fileno(), _mode(path))
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        sync_directory(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: its directory does not exist; create it first") from error
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        todo = "make room" if full else "check directory and disk"
        raise ReportError(
            f"{path}: could not be written ({error.strerror}); {todo}, and do it again: what was there is"
            " as it was"
        ) from error


def refuse_overwriting(path: Path, source: Path, what: str = "the report itself") -> None:
    """Make sure that an output is not what is read.

    Raises:
        UsageError: it is.
    """
    with suppress(OSError):  # one of them is not there, or cannot be looked at: whoever opens it will say so
        if path.samefile(source):
            raise UsageError(f"{path}: is {what}; name another --output")


def _mode(path: Path) -> int:
    """Permissions as any new file of this user, or those of the file that is replaced."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask

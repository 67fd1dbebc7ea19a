"""A copy of the ledger while runs go on: one moment of it, whole and checked, or no file at all.

A copy made otherwise lacks what is in the write-ahead log. The ledger is only read, as in ``verify``.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from batchscan.errors import LedgerError, UsageError
from batchscan.ledger.verify import Verification, verify

_BUSY_S: Final = 10.0


def back_up(ledger: Path, copy: Path) -> Verification:
    """Copy a ledger into a file that is not there yet, which only its owner can read; blocks.

    Returns:
        What the check of the copy found: its rows, and no fault.

    Raises:
        UsageError: there is such a file already, or it cannot be made.
        LedgerError: the ledger cannot be read, is not sound, or there is no room; the file is gone again.
    """
    try:
        os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise UsageError(
            f"{copy}: is there already, and nothing is overwritten; name another file"
        ) from error
    except OSError as error:
        raise UsageError(f"{copy}: cannot be made ({error.strerror}); name another file") from error
    try:
        _copy(ledger, copy)
        found = verify(copy)
    except BaseException:
        _remove(copy)
        raise
    if found.faults:
        _remove(copy)
        raise LedgerError(
            f"ledger {ledger}: NOT sound, so no copy is kept; see `batchscan status --verify`, and keep the"
            " backups that there are"
        )
    return found


def _copy(ledger: Path, copy: Path) -> None:
    source = sqlite3.connect(f"file:{quote(str(ledger))}?mode=ro", uri=True, timeout=_BUSY_S)
    with closing(source), closing(sqlite3.connect(copy, isolation_level=None)) as target:
        try:
            source.backup(target)  # in one step: writers go on, and it need not begin again
            target.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
        except sqlite3.Error as error:
            raise LedgerError(f"ledger {ledger}: cannot be copied to {copy} ({error})") from error


def _remove(copy: Path) -> None:
    for name in (copy, Path(f"{copy}-journal"), Path(f"{copy}-wal"), Path(f"{copy}-shm")):
        name.unlink(missing_ok=True)

"""Standard input, kept beside the ledger while its run is unfinished: a resumed run reads it again."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from batchscan.errors import UsageError

_BLOCK = 1 << 20
_DIRECTORY = "stdin"


class Spool(msgspec.Struct, frozen=True):
    """A copy of standard input, hex SHA-256 beside it."""

    file: Path
    sha256: str

    @classmethod
    def read_stdin(cls, state_dir: Path) -> "Spool":
        """Copy standard input to the state directory, made where there is none; blocks until it ends.

        Raises:
            UsageError: standard input is a terminal, or the copy cannot be written.
        """
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("- reads a list of paths from standard input, which is a terminal; pipe one in")
        directory = state_dir / _DIRECTORY
        digest = hashlib.sha256()
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # of several, only the last has the mode
            directory.mkdir(mode=0o700, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=directory)
            try:
                with os.fdopen(descriptor, "wb") as copy:
                    while block := sys.stdin.buffer.read(_BLOCK):
                        digest.update(block)
                        copy.write(block)
            except BaseException:  # Ctrl-C too
                Path(name).unlink()
                raise
        except OSError as error:
            raise UsageError(f"cannot keep standard input in {directory}: {error.strerror}") from error
        return cls(Path(name), digest.hexdigest())

    def keep(self, state_dir: Path, run_id: str) -> None:
        """Keep the copy for a run."""
        self.file.rename(spool_path(state_dir, run_id))

    def discard(self) -> None:
        """Remove the copy."""
        self.file.unlink(missing_ok=True)


@contextmanager
def spooled(state_dir: Path, *, wanted: bool) -> Iterator[Spool | None]:
    """Copy standard input where it is wanted; the copy is removed unless it was kept meanwhile.

    Not on an event loop, where no signal could end it.

    Raises:
        UsageError: as ``Spool.read_stdin``.
    """
    if not wanted:
        yield None
        return
    spool = Spool.read_stdin(state_dir)
    try:
        yield spool
    finally:
        spool.discard()


def spool_path(state_dir: Path, run_id: str) -> Path:
    """Where a run's standard input is kept."""
    return state_dir / _DIRECTORY / run_id

"""Standard streams that may be closed, broken or full: what the commands write goes through here."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from batchscan.errors import UsageError


def fill_standard_streams() -> None:
    """Put the null device where the caller closed a standard stream.

    Otherwise the next file that is opened, the ledger say, takes the number of the stream and gets what
    is printed. What the encoding of stdout cannot say is escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    # open to the end of the process
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - a number, not a path
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as above
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - as above
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def data_on_stdout() -> Iterator[None]:
    """Write data to ``sys.stdout`` inside; a reader that has had enough is no failure.

    Raises:
        UsageError: it cannot be written otherwise.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    except OSError as error:
        silence_stdout()
        raise UsageError(
            f"standard output cannot be written ({error.strerror}); send it elsewhere"
        ) from error


def silence_stdout() -> None:
    """Let what is still buffered go nowhere; the interpreter would complain when it flushes at exit."""
    _silence(sys.stdout)


def flush_or_silence() -> None:
    """Flush what the interpreter would flush at exit; where that fails, it would end with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _silence(stream)


def _silence(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

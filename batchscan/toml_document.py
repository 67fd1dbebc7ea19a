"""A TOML file of the operator's: read whole, within limits, and refused in words."""

import difflib
import stat
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchscan.errors import UsageError


class Purpose(msgspec.Struct, frozen=True):
    """What a file is for: ``holds`` in words, the ``flag`` that names it, how large it may be."""

    holds: str
    flag: str
    largest_bytes: int = 1024 * 1024


def read_toml(path: Path, purpose: Purpose) -> Mapping[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: it cannot be read, is no regular file, too large, or not TOML; names the file.
    """
    return parse_toml(path, read_text(path, purpose))


def parse_toml(path: Path, text: str) -> Mapping[str, Any]:
    """Parse what was read of ``path``.

    Raises:
        UsageError: it is not TOML; names the file, and the line where that is known.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: not TOML: nested too deeply") from error


def read_text(path: Path, purpose: Purpose) -> str:
    """Read the text of a TOML file.

    Raises:
        UsageError: as ``read_toml``, but for what only the parser sees.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path}: not a regular file; name a TOML file of {purpose.holds}")
        with path.open("rb") as file:
            content = file.read(purpose.largest_bytes + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; check {purpose.flag}") from error
    if len(content) > purpose.largest_bytes:
        raise UsageError(f"{path}: larger than {purpose.largest_bytes} bytes: not a file of {purpose.holds}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not TOML: byte {error.start} is not UTF-8") from error


def unknown_key(key: str, known: Collection[str]) -> str:
    """Say that there is no such key, and which one may be meant."""
    close = difflib.get_close_matches(key, known, 1)
    return f"no such key; {f'is {close[0]} meant?' if close else 'known are ' + ', '.join(sorted(known))}"

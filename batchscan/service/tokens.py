"""The bearer token: read from a file that only its owner can read, and read anew when the file changes.

So a token is rotated by replacing the file, without a restart. While the file cannot be used, no token is
right: a service that lost its token lets nobody in.
"""

import hashlib
import hmac
import os
import stat
import time
from pathlib import Path
from typing import Final

import structlog

from batchscan.api.keyfiles import is_private
from batchscan.errors import UsageError

log = structlog.get_logger(__name__)

_SHORTEST: Final = 16
_LONGEST: Final = 4096
_LOOK_AGAIN_S: Final = 1.0


class TokenFile:
    """Knows the token of now. Holds only its SHA-256.

    Raises:
        UsageError: the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at = time.monotonic()
        self._seen, self._digest = _read(path)

    def matches(self, token: str) -> bool:
        """Whether a caller's token is the right one; takes as long for a wrong one."""
        self._refresh()
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(given, self._digest or b"") and self._digest is not None

    def derive(self, secret: bytes) -> bytes | None:
        """Make a key of the token and a secret: another token, another key. None while no token is right."""
        self._refresh()
        return None if self._digest is None else hmac.digest(secret, self._digest, "sha256")

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_AGAIN_S:
            return
        self._looked_at = now
        try:
            if _mark(self._path.stat()) != self._seen:
                self._seen, self._digest = _read(self._path)
                log.warning("the token was read anew", file=str(self._path))
        except (OSError, UsageError) as error:
            if self._digest is not None:
                log.error("no token is right any more", file=str(self._path), reason=str(error))  # noqa: TRY400 - said whole
            self._seen, self._digest = None, None


_Mark = tuple[int, int, int, int]


def _mark(found: os.stat_result) -> _Mark:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _read(path: Path) -> tuple[_Mark | None, bytes | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{path}: the token cannot be read ({error.strerror}); see token_file") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path}: not a regular file; write a token into one")
        if not is_private(found):
            raise UsageError(f"{path}: others can read or change the token; chmod 600 {path}")
        content = os.read(descriptor, _LONGEST + 1)
    finally:
        os.close(descriptor)
    token = content.strip()
    if not _SHORTEST <= len(token) <= _LONGEST or any(byte <= 0x20 or byte >= 0x7F for byte in token):  # noqa: PLR2004 - printable ASCII
        raise UsageError(
            f"{path}: is no token: {_SHORTEST} characters or more in one line, without blanks;"
            " `openssl rand -hex 32` makes one"
        )
    return _mark(found), hashlib.sha256(token).digest()

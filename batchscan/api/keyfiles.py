"""Keys in files of the vendor's tools: INI (its SDKs) and JSON (``tccli``, its command line).

Unlike the Python SDK the token is read in both, quotes around INI values are taken off, and half a key is
an error instead of a reason to look elsewhere: keys of another account would be billed.
"""

import asyncio
import configparser
import json
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from batchscan.api.keys import Credentials, Secret, expiry
from batchscan.api.rotation import RotatingCredentials
from batchscan.errors import CredentialsError

_MAX_FILE: Final = 65536
_KIND: Final = re.compile(r"[a-z][a-z-]{0,19}")
_log = structlog.get_logger(__name__)


class Found(msgspec.Struct, frozen=True):
    """What a file holds for a profile.

    Attributes:
        source: the file, and the section where it has such.
        credentials: None when ``machine_role``.
        role_arn, session_name: of a role to assume with them; unchecked.
        machine_role: the file says to take the keys of the machine's role.
    """

    source: str
    credentials: Credentials | None
    role_arn: str | None = None
    session_name: str | None = None
    machine_role: bool = False


class FileCredentials(RotatingCredentials):
    """Credentials that were read from a file; read again, in a thread, on ``refresh`` and before they expire.

    The vendor's command line renews the temporary keys in it.
    """

    def __init__(
        self,
        credentials: Credentials,
        read: Callable[[], Credentials | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        async def fetch() -> Credentials:
            found = await asyncio.to_thread(read)
            if found is None:
                raise CredentialsError(f"{credentials.source}: the credentials that were there are gone")
            return found

        super().__init__(
            fetch,
            source=credentials.source,
            advice="log in again with tccli (any of its commands renews a login that is still good)",
            first=credentials,
            clock=clock,
        )


def is_private(found: os.stat_result) -> bool:
    """Whether nobody but us has a file.

    One that is somebody else's may be given to us through its group, as a pod's secrets are.
    """
    given = 0o040 if found.st_uid != os.geteuid() else 0
    return not found.st_mode & 0o077 & ~given


Parse = Callable[[str, str, str], Found | None]


def read_file(path: Path, profile: str, parse: Parse) -> Found | None:
    """What ``path`` holds for ``profile``; None when there is no such file or nothing for it.

    Raises:
        CredentialsError: it cannot be read, or what it holds is not whole.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise CredentialsError(f"{path}: not a file")
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CredentialsError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_private(found):
        mode = stat.filemode(found.st_mode)
        _log.warning("credentials-readable-by-others", path=str(path), mode=mode, advice="chmod 600")
    if len(content) > _MAX_FILE:
        raise CredentialsError(f"{path}: larger than {_MAX_FILE} bytes: not a file of credentials")
    problem: str
    try:
        return parse(content.decode("utf-8-sig"), profile, str(path))
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except configparser.Error as error:
        problem = f"not an INI file ({type(error).__name__}): begin it with [{profile}]"
    except (ValueError, RecursionError) as error:
        problem = f"not JSON ({type(error).__name__})"
    # raised out here: those errors quote lines of the file, so they must not travel as cause or context
    raise CredentialsError(f"{path}: {problem}")


def parse_ini(content: str, profile: str, source: str) -> Found | None:
    """The section of ``profile`` in a file of the vendor's SDKs."""
    parser = configparser.RawConfigParser()  # raw: a % in a key is a %
    parser.read_string(content)
    if not parser.has_section(profile):
        return None
    values = {name: _unquoted(value) for name, value in parser.items(profile) if value}
    where = f"{source} [{profile}]"
    credentials = whole(where, values, names=("secret_id", "secret_key"), token=values.get("token"))
    if credentials is None:
        return None
    return Found(where, credentials, values.get("role_arn"), values.get("role_session_name"))


def parse_profile(content: str, profile: str, source: str) -> Found | None:
    """The profile that the vendor's command line keeps in a file of its own."""
    values = json.loads(content)
    if not isinstance(values, dict):
        raise CredentialsError(f"{source}: not a JSON object")
    kind = values.get("type")
    if kind == "cvm-role":  # whatever else is left in the file: its own command line decides the same
        return Found(source, None, machine_role=True)
    if (kind or "default") != "default" and not values.get("secretKey"):
        # a name only: what is pasted into the wrong place may be a key
        named = kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "that has no name"
        raise CredentialsError(
            f"{source}: profile {profile} is of a type {named} and holds no key: "
            "log in with tccli, or give a key in the environment"
        )
    expires_at = values.get("expiresAt") or None
    if expires_at is not None and expiry(expires_at) is None:
        raise CredentialsError(f"{source}: expiresAt is not a time in epoch seconds")
    token = values.get("token")
    credentials = whole(source, values, names=("secretId", "secretKey"), token=token)
    if credentials is None:
        return None
    dated = msgspec.structs.replace(credentials, expires_at=expiry(expires_at))
    return Found(source, dated, _text(values, "role-arn"), _text(values, "role-session-name"))


def whole(
    source: str, values: Mapping[str, object], *, names: tuple[str, str], token: object
) -> Credentials | None:
    """Whole credentials, or None when there is no part of them.

    Raises:
        CredentialsError: a part is missing, or is no text.
    """
    found = {name: values.get(name) or None for name in names}
    if not any(found.values()) and not token:
        return None
    for name, value in (*found.items(), ("token", token or "")):
        if value is None:
            raise CredentialsError(f"{source}: {name} is not set, but other parts of a key are")
        if not isinstance(value, str):
            raise CredentialsError(f"{source}: {name} is not a text")
    secret_id, secret_key = (str(value) for value in found.values())
    return Credentials(secret_id, Secret(secret_key), Secret(str(token)) if token else None, source)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) and value else None

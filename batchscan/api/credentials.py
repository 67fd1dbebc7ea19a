"""Where the account's keys come from, and a type that keeps them out of every text.

The places are those of the vendor's own tools: environment variables, ``~/.tencentcloud/credentials``
(INI, its SDKs) and ``~/.tccli/<profile>.credential`` (JSON, its command line). Unlike the Python SDK the
token is read in all three, quotes around INI values are taken off, and half a key is an error instead of
a reason to look elsewhere: keys of another account would be billed.
"""

import asyncio
import configparser
import hmac
import json
import re
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, Protocol

import msgspec
import structlog

from batchscan.errors import CredentialsError

SECRET_ID: Final = "TENCENTCLOUD_SECRET_ID"  # noqa: S105 - the name of a variable
SECRET_KEY: Final = "TENCENTCLOUD_SECRET_KEY"  # noqa: S105 - the name of a variable
TOKENS: Final = ("TENCENTCLOUD_TOKEN", "TENCENTCLOUD_SESSION_TOKEN")
PROFILE: Final = "TCCLI_PROFILE"

_DEFAULT_PROFILE = "default"
_MAX_FILE = 65536
_log = structlog.get_logger(__name__)


class Secret:
    """A text that no ``repr``, ``str``, format, log or pickle shows; ``reveal`` is the only way to it."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself: only for signing and for the token's header."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash(self.__value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not copied or stored")


class Credentials(msgspec.Struct, frozen=True):
    """One key of an account.

    Attributes:
        secret_id: which key; not secret, but left out of ``repr`` all the same.
        secret_key: what requests are signed with.
        token: comes with temporary keys and must be sent with them.
        source: where it was found, for people.

    Raises:
        CredentialsError: a part is empty, padded with spaces, or not printable ASCII; no header could
            carry it.
    """

    secret_id: str
    secret_key: Secret
    token: Secret | None
    source: str

    def __post_init__(self) -> None:
        parts = {"secret id": self.secret_id, "secret key": self.secret_key.reveal()}
        if self.token is not None:
            parts["token"] = self.token.reveal()
        for name, value in parts.items():
            if not value.strip():
                raise CredentialsError(f"{self.source}: the {name} is empty")
            if value != value.strip():
                raise CredentialsError(f"{self.source}: the {name} begins or ends with a space: remove it")
            if not value.isascii() or not value.isprintable() or " " in value:
                raise CredentialsError(f"{self.source}: the {name} holds characters that no key has")

    def __repr__(self) -> str:
        return f"Credentials(source={self.source!r})"


class CredentialSource(Protocol):
    """Gives the current credentials."""

    async def get(self) -> Credentials:
        """What requests are signed with now; cheap.

        Raises:
            CredentialsError: there are none.
        """

    async def refresh(self) -> Credentials:
        """Read anew, after the service has refused a token.

        Raises:
            CredentialsError: there are none any more.
        """


class StaticCredentials:
    """Credentials that do not change while the process runs: from the environment, or made for a test."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def get(self) -> Credentials:
        """The credentials."""
        return self._credentials

    async def refresh(self) -> Credentials:
        """The same: an environment cannot be read anew."""
        return self._credentials


class FileCredentials:
    """Credentials that were read from a file; ``refresh`` reads it again, in a thread."""

    def __init__(self, credentials: Credentials, read: Callable[[], Credentials | None]) -> None:
        self._credentials = credentials
        self._read = read

    async def get(self) -> Credentials:
        """What was read last."""
        return self._credentials

    async def refresh(self) -> Credentials:
        """Read the file again: the vendor's command line renews the temporary keys in it."""
        credentials = await asyncio.to_thread(self._read)
        if credentials is None:
            raise CredentialsError(f"{self._credentials.source}: the credentials that were there are gone")
        self._credentials = credentials
        return credentials


def find_credentials(profile: str | None, env: Mapping[str, str], home: Path) -> CredentialSource:
    """The first of environment, INI file and command line profile that holds a key. Reads files.

    Args:
        profile: section of the INI file and name of the command line's profile; None for what
            ``TCCLI_PROFILE`` names, else ``default``.
        env: the environment; an empty variable counts as not set.
        home: where ``.tencentcloud`` and ``.tccli`` are.

    Raises:
        CredentialsError: nothing found (the message names all places), or what was found is not whole.
    """
    name = profile or env.get(PROFILE) or _DEFAULT_PROFILE
    if not re.fullmatch(r"\w[\w.@+-]{0,63}", name):
        raise CredentialsError(
            f"profile {name[:80]!r} is not a name: begin with a letter or digit, go on with . _ - @ + too"
        )
    found = _from_environment(env)
    if found is not None:
        return StaticCredentials(found)
    ini = home / ".tencentcloud" / "credentials"
    profile_file = home / ".tccli" / f"{name}.credential"
    for path, parse in ((ini, _parse_ini), (profile_file, _parse_profile)):
        read = partial(_read_file, path, name, parse)
        credentials = read()
        if credentials is not None:
            return FileCredentials(credentials, read)
    raise CredentialsError(
        f"no credentials found. Looked at: the variables {SECRET_ID} and {SECRET_KEY} (with {TOKENS[0]} or "
        f"{TOKENS[1]} for temporary keys); the section [{name}] of {ini}; {profile_file}"
    )


def _from_environment(env: Mapping[str, str]) -> Credentials | None:
    tokens = {env[name] for name in TOKENS if env.get(name)}
    if len(tokens) > 1:
        raise CredentialsError(f"environment: {TOKENS[0]} and {TOKENS[1]} differ: unset one of them")
    return _credentials("environment", env, names=(SECRET_ID, SECRET_KEY), token=next(iter(tokens), None))


def _credentials(
    source: str, values: Mapping[str, object], *, names: tuple[str, str], token: object
) -> Credentials | None:
    """Whole credentials, or None when there is no part of them."""
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


_Parse = Callable[[str, str, str], Credentials | None]


def _read_file(path: Path, profile: str, parse: _Parse) -> Credentials | None:
    """What a file holds for a profile; None when there is no such file or nothing for it."""
    problem: str
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise CredentialsError(f"{path}: not a file")
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CredentialsError(f"{path}: cannot be read: {error.strerror}") from error
    if mode & 0o077:
        _log.warning(
            "credentials-readable-by-others", path=str(path), mode=stat.filemode(mode), advice="chmod 600"
        )
    if len(content) > _MAX_FILE:
        raise CredentialsError(f"{path}: larger than {_MAX_FILE} bytes: not a file of credentials")
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


def _parse_ini(content: str, profile: str, source: str) -> Credentials | None:
    parser = configparser.RawConfigParser()  # raw: a % in a key is a %
    parser.read_string(content)
    if not parser.has_section(profile):
        return None
    values = {name: _unquoted(value) for name, value in parser.items(profile) if value}
    where = f"{source} [{profile}]"
    return _credentials(where, values, names=("secret_id", "secret_key"), token=values.get("token"))


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _parse_profile(content: str, profile: str, source: str) -> Credentials | None:
    values = json.loads(content)
    if not isinstance(values, dict):
        raise CredentialsError(f"{source}: not a JSON object")
    kind = values.get("type")
    if kind not in {None, "", "default"} and not values.get("secretKey"):
        raise CredentialsError(
            f"{source}: profile {profile} is of type {str(kind)[:40]!r} and holds no key: "
            "log in with tccli, or give a key in the environment"
        )
    return _credentials(source, values, names=("secretId", "secretKey"), token=values.get("token"))

"""A key of an account, and the type that keeps it out of every text."""

import hmac
from datetime import UTC, datetime
from typing import NoReturn, Protocol

import msgspec

from batchscan.errors import CredentialsError

_DIGITS = 20
_YEAR_2100 = 4_102_444_800


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
        expires_at: from when on the service refuses it, epoch seconds; None: not known, or never.

    Raises:
        CredentialsError: a part is empty, padded with spaces, or not printable ASCII; no header could
            carry it.
    """

    secret_id: str
    secret_key: Secret
    token: Secret | None
    source: str
    expires_at: float | None = None

    def __post_init__(self) -> None:
        problem = _problem(self.secret_id, self.secret_key, self.token)
        if problem is not None:
            raise CredentialsError(f"{self.source}: {problem}")

    def __repr__(self) -> str:
        return f"Credentials(source={self.source!r})"

    def described(self) -> str:
        """Where it comes from and until when it is good; never a part of the key."""
        if self.expires_at is None:
            return f"{self.source} ({'no expiry known' if self.token else 'does not expire'})"
        return f"{self.source} (until {moment(self.expires_at)})"


def moment(epoch_s: float) -> str:
    """A time for people: RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def expiry(value: object) -> float | None:
    """Epoch seconds of a time that a source gave; None when it is no time before the year 2100."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:_DIGITS])
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _YEAR_2100:
        return None
    return float(value)


def _problem(secret_id: str, secret_key: Secret, token: Secret | None) -> str | None:
    # returned and not raised from here: a traceback may show this frame's variables
    parts = {"secret id": secret_id, "secret key": secret_key.reveal()}
    if token is not None:
        parts["token"] = token.reveal()
    for name, value in parts.items():
        if not value.strip():
            return f"the {name} is empty"
        if value != value.strip():
            return f"the {name} begins or ends with a space: remove it"
        if not value.isascii() or not value.isprintable() or " " in value:
            return f"the {name} holds characters that no key has"
    return None


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

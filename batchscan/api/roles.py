"""Roles whose temporary keys the vendor's Security Token Service (STS) gives.

``AssumeRole`` is signed with keys of another source; ``AssumeRoleWithWebIdentity`` is not signed but shows
a token that the cluster wrote to a file (TKE, the vendor's Kubernetes). Sources: the vendor's pages of the
two actions, version 2018-08-13, and its SDK, which is the tests' witness. Unlike the SDK the service of the
right site is asked, the base key may be temporary itself, and a clock that is off is corrected once.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import yarl

from batchscan.api import reading, signature
from batchscan.api.endpoints import Endpoint
from batchscan.api.exchange import Ask, Limits, Reply, Route, checked, exchange
from batchscan.api.keys import Credentials, CredentialSource, Secret, expiry
from batchscan.api.rotation import RotatingCredentials
from batchscan.errors import CredentialsError

SERVICE: Final = "sts"
VERSION: Final = "2018-08-13"
CHINA_URL: Final = "https://sts.tencentcloudapi.com/"
INTL_URL: Final = "https://sts.intl.tencentcloudapi.com/"
DEFAULT_REGION: Final = "ap-guangzhou"
DEFAULT_SESSION: Final = "batchscan"
DEFAULT_DURATION_S: Final = 7200
MAX_DURATION_S: Final = 43200

_LIMITS = Limits(connect_s=5.0, total_s=12.0)  # a second call, after a remedy, must fit as well
_CONTENT_TYPE = "application/json"
_DOMAIN = ".tencentcloudapi.com"
_MAX_TOKEN = 65536
_MIN_DURATION_S = 60
_PARTS = ("TmpSecretId", "TmpSecretKey", "Token")


class Role(msgspec.Struct, frozen=True):
    """A role to assume.

    Attributes:
        arn: such as ``qcs::cam::uin/12345678:roleName/auditor``.
        session_name: seen in the account's audit log; vendor: 2 to 128 letters, digits and ``_+=,.@-``.
        duration_s: life of its keys, seconds; vendor: at most 43,200, and what the role allows.

    Raises:
        CredentialsError: one of them is not of that form.
    """

    arn: str
    session_name: str = DEFAULT_SESSION
    duration_s: int = DEFAULT_DURATION_S

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]{1,512}", self.arn):
            raise CredentialsError(
                "the name of the role is not one such as qcs::cam::uin/1234:roleName/auditor"
            )
        if not re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,128}", self.session_name):
            raise CredentialsError(
                f"role {self.arn}: its session name must be 2 to 128 letters, digits and _+=,.@-"
            )
        if not _MIN_DURATION_S <= self.duration_s <= MAX_DURATION_S:
            raise CredentialsError(
                f"role {self.arn}: its keys can live {_MIN_DURATION_S} to {MAX_DURATION_S} seconds, "
                f"not {self.duration_s}"
            )


class Sts(msgspec.Struct, frozen=True):
    """Where roles are asked for.

    Attributes:
        url: of the service; plain http only on this machine.
        region: the vendor wants one, though the keys are good in all.
        route: how to get there.

    Raises:
        CredentialsError: the URL cannot be used, or the region is no name of one.
    """

    url: str
    region: str = DEFAULT_REGION
    route: Route = Route()

    def __post_init__(self) -> None:
        checked(self.url)
        if not re.fullmatch(r"[a-z0-9-]{1,64}", self.region):
            raise CredentialsError("the region is not a name such as ap-guangzhou")

    @property
    def host(self) -> str:
        """What is sent as ``Host`` and signed."""
        return yarl.URL(self.url).host_port_subcomponent or ""


def sts_url(endpoint: Endpoint) -> str:
    """The token service of the same site: accounts of the two sites do not know each other.

    China for the vendor's hosts outside ``intl``, the international one for all others.
    """
    host = f".{endpoint.host}"
    return CHINA_URL if host.endswith(_DOMAIN) and not host.endswith(f".intl{_DOMAIN}") else INTL_URL


def assumed_role(
    role: Role, base: CredentialSource, base_name: str, sts: Sts, clock: Callable[[], float] = time.time
) -> RotatingCredentials:
    """Credentials of ``role``, assumed with those of ``base``; ``base_name`` says where these are from."""
    source = f"role {role.arn} ({sts.host}, with the keys of {base_name})"
    return RotatingCredentials(_AssumeRole(role, base, sts, source, clock).fetch, source=source, clock=clock)


def web_identity_role(
    role: Role, provider: str, token_file: Path, sts: Sts, clock: Callable[[], float] = time.time
) -> RotatingCredentials:
    """Credentials of ``role``, for a token in ``token_file`` that identity provider ``provider`` issued.

    The file is read at every fetch: the cluster replaces the token before it expires.
    """
    source = f"role {role.arn} ({sts.host}, with the identity in {token_file})"

    async def fetch() -> Credentials:
        token = await asyncio.to_thread(_read_token, token_file, source)
        ask = _unsigned(role, provider, token, sts, clock())
        return _credentials(await exchange(ask, source, sts.route), source)

    return RotatingCredentials(fetch, source=source, clock=clock)


class _AssumeRole:
    def __init__(
        self, role: Role, base: CredentialSource, sts: Sts, source: str, clock: Callable[[], float]
    ) -> None:
        self._role = role
        self._base = base
        self._sts = sts
        self._source = source
        self._now = clock
        self._offset_s = 0.0

    async def fetch(self) -> Credentials:
        reply = await self._call(await self._base.get())
        match _code(reply):
            case "AuthFailure.TokenFailure":
                reply = await self._call(await self._base.refresh())
            case "AuthFailure.SignatureExpire" if reply.server_time is not None:
                self._offset_s = reply.server_time - self._now()
                reply = await self._call(await self._base.get())
        return _credentials(reply, self._source)

    async def _call(self, key: Credentials) -> Reply:
        ask = _ask("AssumeRole", _fields(self._role), self._sts, self._now() + self._offset_s)
        return await exchange(_signed(ask, key, self._sts.host), self._source, self._sts.route)


def _fields(role: Role) -> dict[str, object]:
    return {
        "RoleArn": role.arn,
        "RoleSessionName": role.session_name,
        "DurationSeconds": role.duration_s,
    }


def _ask(action: str, fields: Mapping[str, object], sts: Sts, now: float) -> Ask:
    headers = {
        "Host": sts.host,
        "Content-Type": _CONTENT_TYPE,
        "X-TC-Action": action,
        "X-TC-Version": VERSION,
        "X-TC-Region": sts.region,
        "X-TC-Timestamp": str(int(now)),
        "X-TC-Language": "en-US",
    }
    return Ask(sts.url, _LIMITS, headers, json.dumps(fields).encode("ascii"))


def _unsigned(role: Role, provider: str, token: Secret, sts: Sts, now: float) -> Ask:
    fields = {"ProviderId": provider, "WebIdentityToken": token.reveal()}
    ask = _ask("AssumeRoleWithWebIdentity", fields | _fields(role), sts, now)
    headers = {**ask.headers, "Authorization": "SKIP"}
    return msgspec.structs.replace(ask, headers=headers, secrets=(token.reveal(),))


def _signed(ask: Ask, key: Credentials, host: str) -> Ask:
    timestamp = int(ask.headers["X-TC-Timestamp"])
    secret_key = key.secret_key.reveal()
    digits = signature.signature(
        secret_key=secret_key,
        timestamp=timestamp,
        service=SERVICE,
        signed_headers=(("content-type", _CONTENT_TYPE), ("host", host)),
        payload_hash=signature.payload_sha256(ask.body or b""),
    )
    scope = f"{key.secret_id}/{time.strftime('%Y-%m-%d', time.gmtime(timestamp))}/{SERVICE}/tc3_request"
    headers = {
        **ask.headers,
        "Authorization": f"{signature.ALGORITHM} Credential={scope}, "
        f"SignedHeaders=content-type;host, Signature={digits}",
    }
    secrets = [secret_key, digits]
    if key.token is not None:
        headers["X-TC-Token"] = key.token.reveal()
        secrets.append(key.token.reveal())
    return msgspec.structs.replace(ask, headers=headers, secrets=tuple(secrets))


def _code(reply: Reply) -> str | None:
    return reading.error_code(reading.envelope(reply.body).get("Error"))


def _credentials(reply: Reply, source: str) -> Credentials:
    outcome = _read(reply, source)
    if isinstance(outcome, CredentialsError):
        raise outcome
    return outcome


def _read(reply: Reply, source: str) -> Credentials | CredentialsError:
    response = reading.envelope(reply.body)
    if "Error" in response:
        code = reading.error_code(response["Error"]) or "a code that is none"
        told = reading.error_message(response["Error"]) or "no reason given"
        request_id = reading.request_id(response)
        where = "" if request_id is None else f" (request {request_id})"
        return CredentialsError(f"{source}: refused: {code}: {told}{where}")
    if not response:
        return CredentialsError(
            f"{source}: an answer that is none of this API: HTTP {reply.status}, {len(reply.body)} bytes"
        )
    return temporary(reading.mapping(response.get("Credentials")), response, source)


def temporary(
    parts: Mapping[str, Any], times: Mapping[str, Any], source: str
) -> Credentials | CredentialsError:
    """The temporary key in an answer, or what is wrong with it: returned, so that no frame shows the key."""
    values = {name: parts.get(name) for name in _PARTS}
    missing = [name for name, value in values.items() if not isinstance(value, str) or not value]
    expires_at = expiry(times.get("ExpiredTime")) or expiry(reading.timestamp(times.get("Expiration")))
    if expires_at is None:
        missing.append("ExpiredTime")
    if missing:
        return CredentialsError(f"{source}: an answer without {', '.join(missing)}")
    secret_id, secret_key, token = (str(value) for value in values.values())
    try:
        return Credentials(secret_id, Secret(secret_key), Secret(token), source, expires_at)
    except CredentialsError as error:
        return error


def _read_token(path: Path, source: str) -> Secret:
    outcome = _token(path)
    if isinstance(outcome, Secret):
        return outcome
    raise CredentialsError(f"{source}: {outcome}")


def _token(path: Path) -> Secret | str:
    try:
        if not path.is_file():
            return "there is no such file"
        with path.open("rb") as file:
            content = file.read(_MAX_TOKEN + 1)
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    text = content.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[!-~]+", text) or len(content) > _MAX_TOKEN:
        return "the file holds no token: one line of printable ASCII"
    return Secret(text)

"""Where the account's keys come from: the places of the vendor's own tools, in a fixed order.

Environment variables, ``~/.tencentcloud/credentials`` and its system-wide twin (INI, the vendor's SDKs),
``~/.tccli/<profile>.credential`` (JSON, its command line), then the role of a pod or of the machine. What
is found first is used, and a role to assume is assumed with it. ``docs/credentials.md`` says it for people.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from batchscan.api.endpoints import Endpoint
from batchscan.api.exchange import Route
from batchscan.api.keyfiles import FileCredentials, Found, Parse, parse_ini, parse_profile, read_file, whole
from batchscan.api.keys import Credentials, CredentialSource, Secret, StaticCredentials
from batchscan.api.metadata import AUTO, METADATA_URL, machine_role
from batchscan.api.roles import (
    DEFAULT_DURATION_S,
    DEFAULT_REGION,
    DEFAULT_SESSION,
    Role,
    Sts,
    assumed_role,
    sts_url,
    web_identity_role,
)
from batchscan.errors import CredentialsError

__all__ = [
    "SECRET_ID",
    "SECRET_KEY",
    "CredentialSource",
    "Credentials",
    "FileCredentials",
    "RoleServices",
    "Secret",
    "StaticCredentials",
    "find_credentials",
    "profile_name",
]

SECRET_ID: Final = "TENCENTCLOUD_SECRET_ID"  # noqa: S105 - the name of a variable
SECRET_KEY: Final = "TENCENTCLOUD_SECRET_KEY"  # noqa: S105 - the name of a variable
TOKENS: Final = ("TENCENTCLOUD_TOKEN", "TENCENTCLOUD_SESSION_TOKEN")
REGION: Final = "TENCENTCLOUD_REGION"
ROLE_ARN: Final = "TENCENTCLOUD_ROLE_ARN"
ROLE_SESSION_NAME: Final = "TENCENTCLOUD_ROLE_SESSION_NAME"
ROLE_DURATION: Final = "TENCENTCLOUD_ROLE_DURATION"
CVM_ROLE: Final = "TENCENTCLOUD_CVM_ROLE"
TKE: Final = ("TKE_REGION", "TKE_PROVIDER_ID", "TKE_WEB_IDENTITY_TOKEN_FILE", "TKE_ROLE_ARN")
PROFILE: Final = "TCCLI_PROFILE"
SYSTEM_INI: Final = Path("/etc/tencentcloud/credentials")

_DEFAULT_PROFILE = "default"
_log = structlog.get_logger(__name__)


class RoleServices(msgspec.Struct, frozen=True):
    """Where roles are asked for; the addresses are others only in tests.

    Attributes:
        sts_url: of the token service.
        route: how to reach it: the proxy and authorities that the scan service is reached with.
        metadata_url: of the machine's metadata server, which is always reached directly.
    """

    sts_url: str
    route: Route = Route()
    metadata_url: str = METADATA_URL

    @classmethod
    def of(
        cls, endpoint: Endpoint, *, proxy: str | None = None, ca_file: Path | None = None
    ) -> "RoleServices | None":
        """Those of an endpoint's site; None for an endpoint on this machine, where nobody else is asked.

        Raises:
            UsageError: the proxy is no URL.
        """
        return None if endpoint.is_loopback else cls(sts_url(endpoint), Route(proxy, ca_file))


def profile_name(profile: str | None, env: Mapping[str, str]) -> str:
    """The profile that counts: the given one, else what ``TCCLI_PROFILE`` names, else ``default``."""
    return profile or env.get(PROFILE) or _DEFAULT_PROFILE


def find_credentials(
    profile: str | None,
    env: Mapping[str, str],
    home: Path,
    roles: RoleServices | None = None,
    *,
    system_ini: Path = SYSTEM_INI,
    clock: Callable[[], float] = time.time,
) -> CredentialSource:
    """The first source that holds a key, and around it the role to assume. Reads files, asks nobody.

    Args:
        profile: section of the INI file and name of the command line's profile; see ``profile_name``.
        env: the environment; an empty variable counts as not set.
        home: where ``.tencentcloud`` and ``.tccli`` are.
        roles: where roles are asked for; None: not at all, keys are used as they are.
        system_ini: where to look after the INI file at home.
        clock: epoch seconds.

    Raises:
        CredentialsError: nothing found (the message names all places), or what was found is not whole.
    """
    name = profile_name(profile, env)
    if not re.fullmatch(r"\w[\w.@+-]{0,63}", name):
        raise CredentialsError(
            f"profile {name[:80]!r} is not a name: begin with a letter or digit, go on with . _ - @ + too"
        )
    files = _files(name, home, system_ini)
    reads = [partial(read_file, path, name, parse) for path, parse in files]
    source, found = _keys(env, reads, clock)
    if roles is not None:
        source = source or _own_role(env, found, roles, clock)
    elif found is not None and found.machine_role:
        raise CredentialsError(
            f"{found.source}: names the role of this machine, which is of no use with an endpoint on it"
        )
    if source is None:
        unasked = "" if roles is not None else "; no role is asked for an endpoint on this machine"
        raise CredentialsError(_nothing_found(name, [path for path, _ in files]) + unasked)
    role = _role(env, found)
    if role is None:
        return source[0]
    if roles is None:
        _log.warning(
            "role-not-assumed", role=role.arn, reason="no role is asked for an endpoint on this machine"
        )
        return source[0]
    sts = Sts(roles.sts_url, env.get(REGION) or DEFAULT_REGION, roles.route)
    return assumed_role(role, source[0], source[1], sts, clock)


_Named = tuple[CredentialSource, str]


def _files(profile: str, home: Path, system_ini: Path) -> Sequence[tuple[Path, Parse]]:
    return (
        (home / ".tencentcloud" / "credentials", parse_ini),
        (system_ini, parse_ini),
        (home / ".tccli" / f"{profile}.credential", parse_profile),
    )


def _keys(
    env: Mapping[str, str], reads: Sequence[Callable[[], Found | None]], clock: Callable[[], float]
) -> tuple[_Named | None, Found | None]:
    """The first source of keys that are there already, and what the file holds that decided."""
    key = _from_environment(env)
    if key is not None:
        return (StaticCredentials(key), key.source), None
    for read in reads:
        found = read()
        if found is None:
            continue
        if found.credentials is None:
            return None, found
        return (FileCredentials(found.credentials, partial(_credentials, read), clock), found.source), found
    return None, None


def _credentials(read: Callable[[], Found | None]) -> Credentials | None:
    found = read()
    return None if found is None else found.credentials


def _from_environment(env: Mapping[str, str]) -> Credentials | None:
    tokens = {env[name] for name in TOKENS if env.get(name)}
    if len(tokens) > 1:
        raise CredentialsError(f"environment: {TOKENS[0]} and {TOKENS[1]} differ: unset one of them")
    return whole("environment", env, names=(SECRET_ID, SECRET_KEY), token=next(iter(tokens), None))


def _own_role(
    env: Mapping[str, str], found: Found | None, roles: RoleServices, clock: Callable[[], float]
) -> _Named | None:
    """The role of the pod or of the machine, where one was named."""
    if found is None and any(env.get(name) for name in TKE):
        missing = [name for name in TKE if not env.get(name)]
        if missing:
            raise CredentialsError(
                f"environment: {', '.join(missing)} not set, but other parts of a pod's identity are"
            )
        region, provider, token_file, arn = (env[name] for name in TKE)
        pod = web_identity_role(
            Role(arn, _session(env), _duration_s(env)),
            provider,
            Path(token_file),
            Sts(roles.sts_url, region, roles.route),
            clock,
        )
        return pod, pod.source
    name = env.get(CVM_ROLE) or (AUTO if found is not None else None)
    if name is None:
        return None
    machine = machine_role(name, roles.metadata_url, clock)
    return machine, machine.source


def _role(env: Mapping[str, str], found: Found | None) -> Role | None:
    """The role to assume: the environment's, else that of the file."""
    arn = env.get(ROLE_ARN) or (found and found.role_arn)
    if not arn:
        return None
    return Role(arn, _session(env, found), _duration_s(env))


def _session(env: Mapping[str, str], found: Found | None = None) -> str:
    return env.get(ROLE_SESSION_NAME) or (found and found.session_name) or DEFAULT_SESSION


def _duration_s(env: Mapping[str, str]) -> int:
    told = env.get(ROLE_DURATION)
    if not told:
        return DEFAULT_DURATION_S
    if not re.fullmatch(r"[0-9]{1,9}", told):
        raise CredentialsError(f"environment: {ROLE_DURATION} is not a number of seconds")
    return int(told)


def _nothing_found(profile: str, paths: list[Path]) -> str:
    home_ini, system_ini, profile_file = paths
    return (
        f"no credentials found. Looked at: the variables {SECRET_ID} and {SECRET_KEY} (with {TOKENS[0]} or "
        f"{TOKENS[1]} for temporary keys); the section [{profile}] of {home_ini} and of {system_ini}; "
        f"{profile_file}; the role of a pod ({', '.join(TKE)}); the role of this machine (only asked for "
        f"when {CVM_ROLE} holds its name or {AUTO}). {ROLE_ARN} names a role to assume with keys of these"
    )

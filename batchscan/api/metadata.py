"""The role of the virtual machine (CVM) this runs on, from the vendor's metadata server.

Only asked when it was named: to probe for it on every machine is slow where there is none, and whoever
answers under that name would choose whose account is used. It speaks plain http, on a link-local address.
"""

import re
import time
from collections.abc import Callable
from typing import Final

from batchscan.api.exchange import Ask, Limits, Reply, checked, exchange
from batchscan.api.keys import Credentials
from batchscan.api.roles import temporary
from batchscan.api.rotation import RotatingCredentials
from batchscan.errors import CredentialsError

METADATA_HOST: Final = "metadata.tencentyun.com"
METADATA_URL: Final = f"http://{METADATA_HOST}/latest/meta-data/cam/security-credentials/"
AUTO: Final = "auto"
"""In place of a role's name: the one that the machine has."""

_LIMITS = Limits(connect_s=2.0, total_s=5.0)
_NOT_FOUND = 404
_OK = 200
_ROLE = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}")


def machine_role(
    name: str, url: str = METADATA_URL, clock: Callable[[], float] = time.time
) -> RotatingCredentials:
    """Credentials of the machine's role.

    Args:
        name: of the role, or ``auto``.
        url: of the metadata server's list of roles, with the slash at the end.
        clock: epoch seconds.

    Raises:
        CredentialsError: the name is none, or the URL leads to another machine in the clear.
    """
    if not _ROLE.fullmatch(name):
        raise CredentialsError(f"role {name[:80]!r} of this machine: give its name, or {AUTO}")
    checked(url, METADATA_HOST)
    source = f"role {name} of this machine (its metadata server)"

    async def fetch() -> Credentials:
        role = await _bound_role(url, source) if name == AUTO else name
        reply = await exchange(Ask(url + role, _LIMITS), source)
        outcome = _read(reply, f"role {role} of this machine (its metadata server)")
        if isinstance(outcome, CredentialsError):
            raise outcome
        return outcome

    return RotatingCredentials(fetch, source=source, clock=clock)


async def _bound_role(url: str, source: str) -> str:
    reply = await exchange(Ask(url, _LIMITS), source)
    name = reply.text().strip()
    if reply.status == _NOT_FOUND or (reply.status == _OK and not name):
        raise CredentialsError(f"{source}: no role is bound to this machine")
    if reply.status != _OK or not _ROLE.fullmatch(name):
        raise CredentialsError(f"{source}: instead of a role's name came HTTP {reply.status}, {reply!r}")
    return name


def _read(reply: Reply, source: str) -> Credentials | CredentialsError:
    if reply.status == _NOT_FOUND:
        return CredentialsError(f"{source}: it is not bound to this machine")
    fields = reply.fields()
    code = fields.get("Code")
    if reply.status != _OK or code != "Success":
        told = code if isinstance(code, str) and _ROLE.fullmatch(code) else "no code"
        return CredentialsError(f"{source}: no keys given: HTTP {reply.status}, {told}")
    return temporary(fields, fields, source)

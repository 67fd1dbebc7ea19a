"""What will expire: the service keeps a verdict for 90 days, then the content has to be submitted again."""

import sys
import time

import msgspec

from batchscan.ledger.history import Expiring, expiring, expiring_files
from batchscan.ledger.store import Ledger
from batchscan.models import RiskLevel
from batchscan.report.rows import rfc3339
from batchscan.report.text import encodable, printable
from batchscan.walk import display_path

DAYS = 7.0
_DAY_S = 86400.0


class ExpiringVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose verdict has expired or will soon."""

    expires_at: str | None
    expired: bool
    verdict: RiskLevel
    scope: str
    sha256: str
    path: str


async def find_expiring(ledger: Ledger, days: float = DAYS) -> list[Expiring]:
    """Count the verdicts that expire within days, by scope.

    Raises:
        LedgerError: the ledger failed.
    """
    now = time.time()
    return await expiring(ledger, now=now, until=now + days * _DAY_S)


def show_expiring(found: list[Expiring], days: float = DAYS) -> None:
    """Say on stdout how many that are; nothing where there are none."""
    for one in found:
        parts = [f"{one.expiring:,} expire within {days:g} days"] if one.expiring else []
        parts += [f"{one.expired:,} have expired"] if one.expired else []
        print(f"verdicts at {printable(one.scope)}: {', '.join(parts)}")  # noqa: T201 - data goes to stdout


async def list_expiring(ledger: Ledger, days: float, *, as_json: bool) -> None:
    """List on stdout the files whose verdicts have expired or will within days, in the order of the path.

    Raises:
        LedgerError: the ledger failed.
    """
    now = time.time()
    async for page in expiring_files(ledger, until=now + days * _DAY_S):
        for one in page:
            found = ExpiringVerdict(
                expires_at=rfc3339(one.expires_at),
                expired=one.expires_at <= now,
                verdict=RiskLevel(one.level),
                scope=encodable(one.scope),
                sha256=one.digest.hex(),
                path=display_path(one.location),
            )
            if as_json:
                sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
            else:
                text = f"{found.expires_at}  {found.verdict:<10}  {found.scope}  {found.path}"
                print(printable(text))  # noqa: T201 - data goes to stdout

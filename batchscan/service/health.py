"""Health: what ``/healthz`` and ``/readyz`` answer. Decided here, from facts; asked for by whoever serves.

Alive is a process whose tasks turn; one that is not must be restarted. Ready is one that can take work;
one that is not is left in peace and gets none. The answer names checks and never a path or a reason: it is
given to whoever asks. The reason is logged, once for each change.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import structlog
from sqlalchemy import Connection

from batchscan.errors import LedgerError
from batchscan.ledger.store import Ledger

log = structlog.get_logger(__name__)

OK: Final = 200
UNAVAILABLE: Final = 503
LEDGER_PATIENCE_S: Final = 3.0
"""A probe waits no longer; a ledger that is held longer than this takes no work now."""


class Health(msgspec.Struct, frozen=True):
    """How each check stands.

    Attributes:
        checks: what was looked at, and whether it holds.
    """

    checks: dict[str, bool]

    @property
    def ok(self) -> bool:
        """Whether all of them hold."""
        return all(self.checks.values())

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return OK if self.ok else UNAVAILABLE

    def body(self) -> bytes:
        """The answer, as JSON."""
        told = {name: "ok" if holds else "failed" for name, holds in sorted(self.checks.items())}
        return msgspec.json.encode({"status": "ok" if self.ok else "failed", "checks": told})


class Pulse:
    """Beats of the tasks that must never stop; each says by itself when it is to be missed.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}

    def beat(self, task: str, *, within_s: float) -> None:
        """Say that a task is alive, and that it will say so again within so many seconds."""
        self._due[task] = self._clock() + within_s

    def end(self, task: str) -> None:
        """Say that a task has ended as it should."""
        self._due.pop(task, None)

    def health(self) -> Health:
        """Tell which tasks are alive. That this is called at all shows that the event loop turns."""
        now = self._clock()
        return Health({"loop": True, **{task: now <= due for task, due in self._due.items()}})


def readiness(*, ledger: str | None, config: str | None, draining: bool) -> Health:
    """Tell whether work can be taken.

    Args:
        ledger: why it cannot be written, see ``ledger_problem``; None: it can.
        config: what is wrong with the settings file as it is now; None: nothing.
        draining: the service is about to stop.
    """
    return Health({"ledger": ledger is None, "config": config is None, "accepting": not draining})


async def ledger_problem(ledger: Ledger, *, patience_s: float = LEDGER_PATIENCE_S) -> str | None:
    """Commit a write that changes nothing, and say why that did not work; None when it did."""
    try:
        async with asyncio.timeout(patience_s):
            await ledger.write(_touch)
    except TimeoutError:
        return f"ledger {ledger.path}: no write was committed within {patience_s:g} s"
    except LedgerError as error:
        return str(error)
    return None


def _touch(connection: Connection) -> None:
    """Write the schema's number over itself: one page, which really goes to the disk."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA user_version={int(version)}")


class Changes:
    """Logs a check once when it fails and once when it holds again, and not at each probe."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def note(self, health: Health, reasons: Mapping[str, str | None]) -> None:
        """Compare with what was so before."""
        for check, holds in health.checks.items():
            if holds and check in self._failed:
                self._failed.discard(check)
                log.info("a check holds again", check=check)
            elif not holds and check not in self._failed:
                self._failed.add(check)
                log.warning("a check failed", check=check, reason=reasons.get(check))

"""How much is to be done and was spent, as metrics show it; read beside the work and not by it.

The file is opened read-only with a connection of its own: counting a million digests takes a while, and the
ledger's own thread must not be late for its slots meanwhile.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from batchscan.errors import LedgerError
from batchscan.ledger.budget import day_purse
from batchscan.models import ScanState

UNFINISHED = (ScanState.ADMITTED, ScanState.SUBMITTING, ScanState.SCANNING)
_BUSY_S = 5.0


class Gauges(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger says of one scope.

    Attributes:
        scope: profile and endpoint host.
        in_progress: contents on record without a verdict, by state.
        oldest: of those that a run waits for, since when the oldest is due (``admitted``) or with the
            service (``scanning``), epoch seconds; a state without any is left out.
        engines: versions that the service has named.
        engine_seen_at: when the latest of them was named first, epoch seconds.
        day_billed, day_reserved: files, of the day (UTC).
    """

    scope: str
    in_progress: dict[ScanState, int]
    oldest: dict[ScanState, float]
    engines: int = 0
    engine_seen_at: float | None = None
    day_billed: int = 0
    day_reserved: int = 0


def read_gauges(path: Path, *, now: float, scope: str | None = None) -> list[Gauges]:
    """Read the ledger's file; blocks.

    Args:
        path: the ledger.
        now: epoch seconds.
        scope: only this one; None: all that the ledger has.

    Raises:
        LedgerError: it cannot be read.
    """
    try:
        ledger = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S
        )
        with closing(ledger):
            ledger.execute("BEGIN")
            scopes = ledger.execute("SELECT id, name FROM scope").fetchall()
            runs = _waiting_runs(ledger)
            return [
                _gauges(ledger, number, name, runs, now) for number, name in scopes if scope in (None, name)
            ]
    except sqlite3.Error as error:
        raise LedgerError(f"ledger {path}: cannot be read for metrics ({error})") from error


def _waiting_runs(ledger: sqlite3.Connection) -> list[int]:
    found = ledger.execute(
        "SELECT id FROM run WHERE EXISTS (SELECT 1 FROM waiting WHERE waiting.run = run.id)"
    )
    return [number for (number,) in found]


def _gauges(ledger: sqlite3.Connection, number: int, name: str, runs: Sequence[int], now: float) -> Gauges:
    # the condition on next_at lets the index of due work answer, as in ``queries.work``
    counts = {
        state: ledger.execute(
            "SELECT count(*) FROM scan WHERE scope = ? AND state = ? AND next_at IS NOT NULL", (number, state)
        ).fetchone()[0]
        for state in UNFINISHED
    }
    engines, seen_at = ledger.execute(
        "SELECT count(*), max(first_seen_at) FROM engine WHERE scope = ?", (number,)
    ).fetchone()
    spent, reserved = ledger.execute(
        "SELECT spent, reserved FROM purse WHERE scope = ? AND name = ?", (number, day_purse(now))
    ).fetchone() or (0, 0)
    return Gauges(
        scope=name,
        in_progress=counts,
        oldest=_oldest(ledger, number, runs, now),
        engines=engines,
        engine_seen_at=seen_at,
        day_billed=spent,
        day_reserved=reserved,
    )


def _oldest(
    ledger: sqlite3.Connection, scope: int, runs: Sequence[int], now: float
) -> dict[ScanState, float]:
    """Look only at what a run waits for: what nobody asks about any more may stay unfinished for ever."""
    wanted = f"w.run IN ({','.join(map(str, runs))}) AND w.digest = scan.digest"
    found = {}
    for state, what, of in (
        (ScanState.ADMITTED, "next_at", "ORDER BY next_at LIMIT 1"),
        (ScanState.SCANNING, "min(submitted_at)", ""),
    ):
        row = ledger.execute(
            f"SELECT {what} FROM scan WHERE scope = ? AND state = ? AND next_at IS NOT NULL"  # noqa: S608 - constants and numbers
            f" AND EXISTS (SELECT 1 FROM waiting w WHERE {wanted}) {of}",
            (scope, state),
        ).fetchone()
        if row is not None and row[0] is not None:
            found[state] = min(float(row[0]), now)
    return found

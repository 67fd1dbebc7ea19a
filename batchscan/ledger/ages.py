"""How long work has been waiting, by age; read beside the work and not by it, as ``gauges`` is."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from batchscan.errors import LedgerError
from batchscan.models import ScanState

BOUNDS_S: Final = (600.0, 3600.0, 6 * 3600.0, 86_400.0)
"""Upper bounds of the ages that are told apart, seconds; above the last is one more."""

_BUSY_S: Final = 2.0
_STATES: Final = (ScanState.ADMITTED, ScanState.SUBMITTING, ScanState.SCANNING)


class Ages(msgspec.Struct, frozen=True):
    """Contents that a run waits for, by how long.

    Attributes:
        to_submit: that have yet to be accepted by the service, since they were due first.
        to_judge: that the service has accepted, since then.
    """

    to_submit: tuple[int, ...]
    to_judge: tuple[int, ...]


def read_ages(path: Path, scope: str, *, now: float) -> Ages:
    """Count what waits at a scope; blocks, for about a second where half a million do.

    Raises:
        LedgerError: the file cannot be read.
    """
    try:
        ledger = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S
        )
        with closing(ledger):
            found = ledger.execute(_QUERY, (now, scope, *_STATES)).fetchall()
    except sqlite3.Error as error:
        raise LedgerError(f"ledger {path}: cannot be read for what waits ({error})") from error
    counts = {ScanState.ADMITTED: [0] * (len(BOUNDS_S) + 1), ScanState.SCANNING: [0] * (len(BOUNDS_S) + 1)}
    for state, place, count in found:
        counts[ScanState.SCANNING if state == ScanState.SCANNING else ScanState.ADMITTED][place] += count
    return Ages(tuple(counts[ScanState.ADMITTED]), tuple(counts[ScanState.SCANNING]))


_AGE: Final = "CASE " + " ".join(f"WHEN age <= {bound} THEN {i}" for i, bound in enumerate(BOUNDS_S))
# what is to be submitted is due since next_at; a claim's lease and a poll lie ahead
_QUERY: Final = f"""
SELECT state, {_AGE} ELSE {len(BOUNDS_S)} END AS place, count(*) FROM (
    SELECT state, ? - CASE state WHEN 'scanning' THEN submitted_at ELSE next_at END AS age
    FROM scan JOIN scope ON scope.id = scan.scope
    WHERE scope.name = ? AND state IN (?, ?, ?) AND next_at IS NOT NULL
    AND EXISTS (
        SELECT 1 FROM waiting
        WHERE waiting.run IN (SELECT id FROM run WHERE state IN ('running', 'interrupted', 'incomplete'))
        AND waiting.digest = scan.digest AND NOT waiting.given_up
    )
) GROUP BY state, place
"""  # noqa: S608 - made of numbers of this module

"""One line in the log for each input, when its row is written: all that happened to it, to be grepped.

Rows that are new are told at ``info``. Those that the ledger answered are told at ``debug`` only: a quiet
night has a million of them. Where neither level is logged, a batch of rows costs one look at the level.
"""

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog

from batchscan.models import Outcome, Row

EVENT: Final = "file"

_log = structlog.get_logger(__name__)
_level = logging.getLogger(__name__)


def tell_rows(rows: Sequence[Row]) -> None:
    """Log rows that were written."""
    if not _level.isEnabledFor(logging.INFO):
        return
    everything = _level.isEnabledFor(logging.DEBUG)
    for row in rows:
        if row.outcome is not Outcome.REUSED:
            _log.info(EVENT, **_facts(row))
        elif everything:
            _log.debug(EVENT, **_facts(row))


def _facts(row: Row) -> dict[str, object]:
    facts: dict[str, object] = {
        "path": row.path,
        "sha256": row.sha256,
        "size": row.size,
        "outcome": row.outcome,
        "verdict": row.verdict,
        "score": row.score,
        "engine_version": row.engine_version,
        "duplicate_of": row.duplicate_of,
        "attempts": row.attempts,
        "polls": row.polls,
        "took_s": None if row.outcome is Outcome.REUSED else _since(row.submitted_at),
        "billed_files": row.billed_files,
    }
    if row.error is not None:
        facts |= {"code": row.error.code, "reason": row.error.message, "request_id": row.error.request_id}
    return {name: value for name, value in facts.items() if value is not None}


def _since(submitted_at: str | None) -> float | None:
    """Seconds since the service took it, as long as its row was waited for."""
    if submitted_at is None:
        return None
    return round(time.time() - datetime.fromisoformat(submitted_at).timestamp(), 3)

"""The grace: what was decided on content while it had a verdict, for the days in which it has none.

The end counts from the day of the verdict's own decision, so a decision that is carried from file to file
does not live longer. What is remembered is what the report asks for, in a temporary database on disk.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from batchscan.decisions.document import Carried, Decision, read_decisions, read_head
from batchscan.decisions.policy import Action, strictness
from batchscan.decisions.ruling import NO_VERDICT, moment
from batchscan.errors import UsageError
from batchscan.models import Outcome
from batchscan.report.lines import read_rows
from batchscan.report.rows import rfc3339

GRACED: Final = frozenset({Outcome.PENDING, Outcome.FAILED})
"""The outcomes in which a decision of before may be kept: the content is fine, the answer is missing."""

_CACHE_KIB: Final = 32 * 1024


class Held(msgspec.Struct, frozen=True):
    """A decision of before, and the verdict that it rested on."""

    action: Action
    carried: Carried


class Memory:
    """Decisions of before by content; of several on the same content the strictest."""

    def __init__(self, scratch: sqlite3.Connection | None = None) -> None:
        self._scratch = scratch

    def find(self, sha256: str) -> Held | None:
        """Look content up."""
        if self._scratch is None:
            return None
        found = self._scratch.execute("SELECT held FROM content WHERE sha256 = ?", (sha256,)).fetchone()
        return None if found is None or found[0] is None else msgspec.json.decode(found[0], type=Held)


@contextmanager
def remembered(previous: Path, report: Path, grace: timedelta, now: datetime) -> Iterator[Memory]:
    """Remember what was decided on the content of a report that has no verdict.

    Args:
        previous: the file of decisions of before.
        report: whose content is asked for.
        grace: how long a decision outlives its verdict.
        now: with its zone.

    Raises:
        BatchscanError: one of the files cannot be read, or the temporary directory is full.
    """
    made_at = read_head(previous).made_at
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as scratch:  # unnamed: gone with the process
            scratch.execute("PRAGMA journal_mode = OFF")
            scratch.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            scratch.execute(
                "CREATE TABLE content (sha256 TEXT PRIMARY KEY, strictness INT, until TEXT, held BLOB)"
                " WITHOUT ROWID"
            )
            scratch.execute("BEGIN")
            scratch.executemany("INSERT OR IGNORE INTO content (sha256) VALUES (?)", _asked_for(report))
            if scratch.execute("SELECT 1 FROM content LIMIT 1").fetchone():
                scratch.executemany(
                    "UPDATE content SET strictness = :strictness, until = :until, held = :held"
                    " WHERE sha256 = :sha256 AND (strictness IS NULL OR strictness < :strictness"
                    " OR (strictness = :strictness AND until > :until))",
                    _known(previous, made_at, grace, now),
                )
            yield Memory(scratch)
    except sqlite3.Error as error:
        raise UsageError(
            f"the previous decisions could not be looked up ({error}); make room in the temporary directory,"
            " or name another one with TMPDIR"
        ) from error


def _asked_for(report: Path) -> Iterator[tuple[str]]:
    for row in read_rows(report):
        if row.outcome in GRACED and row.sha256 is not None:
            yield (row.sha256,)


def _known(previous: Path, made_at: str, grace: timedelta, now: datetime) -> Iterator[dict[str, object]]:
    encode = msgspec.json.Encoder().encode
    for decision in read_decisions(previous):
        carried = _carried(decision, made_at, grace, now)
        if carried is not None:
            yield {
                "sha256": decision.sha256,
                "strictness": strictness(decision.decision),
                "until": carried.until,
                "held": encode(Held(decision.decision, carried)),
            }


def _carried(decision: Decision, made_at: str, grace: timedelta, now: datetime) -> Carried | None:
    """Tell what may be carried on of a decision, None where it rested on no verdict or the grace is over."""
    before = decision.carried
    if before is None and decision.verdict is not None and decision.reason.code not in NO_VERDICT:
        before = Carried(
            decided_at=made_at,
            until="9999-12-31T23:59:59Z",
            verdict=decision.verdict,
            score=decision.score,
            rules=decision.rules,
            endpoint=decision.endpoint,
            engine_version=decision.engine_version,
        )
    if before is None or decision.sha256 is None:
        return None
    decided_at = min(moment(before.decided_at), now)  # a clock that was ahead gives no more days
    until = min(decided_at + grace, moment(before.until))
    if until <= now:
        return None
    return msgspec.structs.replace(before, decided_at=_text(decided_at), until=_text(until))


def _text(time: datetime) -> str:
    """Write whole seconds, so that texts sort as times do."""
    return str(rfc3339(int(time.timestamp())))

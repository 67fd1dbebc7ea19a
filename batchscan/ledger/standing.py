"""How digests and inputs stand: the records that admission and settlement read from the ledger."""

import hashlib
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, and_, select
from sqlalchemy import Row as Record

from batchscan.ledger.schema import scan, verdict
from batchscan.models import Artifact, Candidate, FileStat, Problem, ScanState, Verdict

_PROBLEM = msgspec.json.Decoder(Problem)
_VERDICT = msgspec.json.Decoder(Verdict)
_STATES = {state.value: state for state in ScanState}  # an enum's own look-up costs four times as much

FINISHED = (ScanState.DONE, ScanState.FAILED)
"""The states of a digest that nothing is to be done about."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a digest stands at the scope: its verdict or its failure, and what led there.

    Attributes:
        verdict: set when a verdict is on record.
        problem: the last error, else None.
        run: the run that fetched the verdict or gave the digest up.
        expires_at: when the verdict must be fetched anew, epoch seconds.
    """

    state: ScanState
    verdict: Verdict | None = None
    problem: Problem | None = None
    run: int | None = None
    attempts: int = 0
    polls: int = 0
    submitted_at: float | None = None
    scanned_at: float | None = None
    expires_at: float | None = None


class Content(msgspec.Struct, frozen=True):
    """What a file holds: an artifact, or the reason why the service cannot take it."""

    artifact: Artifact
    problem: Problem | None = None


class Known(msgspec.Struct, frozen=True):
    """What the ledger knows of a location."""

    stat: FileStat
    content: Content
    standing: Standing | None


class Item(msgspec.Struct, frozen=True):
    """An input whose content is known, to be admitted. ``fresh`` says that the file was read now."""

    candidate: Candidate
    content: Content
    fresh: bool


class Decision(msgspec.Struct, frozen=True):
    """What admission decided for one item.

    ``standing`` is set when the input's row can be written now; else the input waits, unless its
    content is not acceptable at all.
    """

    item: Item
    duplicate_of: str | None
    standing: Standing | None

    @property
    def waits(self) -> bool:
        """Whether the input's row has to wait for the service."""
        return self.standing is None and self.item.content.problem is None


class Waiting(msgspec.Struct, frozen=True):
    """An input that waits, with all that its row will need.

    ``changes`` counts how often its file had changed by the time that it was to be sent.
    """

    key: bytes
    candidate: Candidate
    artifact: Artifact
    duplicate_of: str | None
    standing: Standing
    changes: int = 0


class Freshness(msgspec.Struct, frozen=True):
    """Which verdicts may be reused: not expired at ``now``, not scanned before ``oldest``."""

    now: float
    oldest: float = 0.0

    def live(self, standing: Standing | None) -> bool:
        """Whether the standing carries a verdict that may be reused."""
        return (
            standing is not None
            and standing.state is ScanState.DONE
            and standing.verdict is not None
            and (standing.expires_at or 0.0) > self.now
            and (standing.scanned_at or 0.0) >= self.oldest
        )


def input_key(source: str, path: str, line: int | None) -> bytes:
    """Name an input within its run; computed alike from a candidate and from a report row."""
    return hashlib.blake2b(f"{source}\0{path}\0{line}".encode(), digest_size=16).digest()


def candidate_key(candidate: Candidate) -> bytes:
    """Name a candidate within its run."""
    return input_key(candidate.source, candidate.path, candidate.line)


CURRENT_VERDICT = and_(
    verdict.c.scope == scan.c.scope,
    verdict.c.digest == scan.c.digest,
    verdict.c.engine_version == scan.c.engine_version,
    scan.c.state == ScanState.DONE,
)
"""Joins a scan with the verdict that stands; older engines' verdicts are history."""


_STANDING = (
    scan.c.state,
    scan.c.attempt,
    scan.c.polls,
    scan.c.submitted_at,
    scan.c.problem,
    scan.c.run.label("failed_by"),
    verdict.c.result,
    verdict.c.scanned_at,
    verdict.c.expires_at,
    verdict.c.run.label("fetched_by"),
)
_WIDTH = len(_STANDING)


def select_standing(*columns: ColumnElement[Any]) -> Select[Any]:
    """Select ``columns``, then what ``standing`` needs; the caller joins ``scan`` and ``verdict``."""
    return select(*columns, *_STANDING)


def standing(row: Record[*tuple[Any, ...]] | tuple[Any, ...]) -> Standing:
    """Read a row of ``select_standing`` whose ``scan`` is there."""
    # By position: names cost more than all else here, and a quiet night reads a million such rows.
    (state, attempt, polls, submitted_at, problem, failed_by, result, scanned_at, expires_at, fetched_by) = (
        row[-_WIDTH:]
    )
    return Standing(
        state=_STATES[state],
        verdict=None if result is None else _VERDICT.decode(result),
        problem=None if problem is None else _PROBLEM.decode(problem),
        run=failed_by if result is None else fetched_by,
        attempts=attempt,
        polls=polls,
        submitted_at=submitted_at,
        scanned_at=scanned_at,
        expires_at=expires_at,
    )

"""The reads whose cost decides: each follows an index, however many rows the ledger has."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Select, and_, bindparam, exists, func, or_, select, tuple_

from batchscan.ledger.chosen import waits, waits_for_its_turn
from batchscan.ledger.padding import padded
from batchscan.ledger.schema import artifact, file, scan, verdict, waiting
from batchscan.ledger.standing import CURRENT_VERDICT, FINISHED, select_standing
from batchscan.models import ScanState, Stage

WAKES = {
    Stage.SUBMIT: (ScanState.ADMITTED, ScanState.SUBMITTING),
    Stage.POLL: (ScanState.SCANNING,),
}
"""The states of a digest that is to come forward in a stage."""


def due(scope: int, run: int, state: ScanState, *, until: float, limit: int) -> Select[Any]:
    """Digests of one state that a run waits for, the earliest first.

    One state at a time: so the index gives the order, and nothing sorts a million due rows.
    """
    wanted = exists().where(
        waiting.c.run == run, waiting.c.digest == scan.c.digest, waiting.c.given_up.is_(False)
    )
    return (
        select(scan.c.digest, scan.c.next_at)
        .where(scan.c.scope == scope, scan.c.state == state, scan.c.next_at <= until, wanted)
        .order_by(scan.c.next_at)
        .limit(limit)
    )


def in_line(scope: int, run: int, *, most_files: int, until: float, limit: int) -> Select[Any]:
    """Digests that a run may submit and whose files are no more than a budget has left, the fewest first.

    Those that the run is to submit again are due at once, whatever they have. What is under way already
    costs nothing more, comes first in the index, and is passed over: that is a matter of minutes' work.
    """
    due_now = and_(scan.c.state.in_(WAKES[Stage.SUBMIT]), scan.c.next_at <= until)
    again = and_(scan.c.state.in_(FINISHED), waits_for_its_turn(run, waiting.c.digest))
    return (
        select(waiting.c.digest, func.coalesce(func.min(scan.c.next_at), 0.0))
        .join(scan, and_(scan.c.scope == scope, scan.c.digest == waiting.c.digest))
        .where(waiting.c.run == run, waiting.c.files <= most_files, waiting.c.given_up.is_(False))
        .where(or_(due_now, again))
        .group_by(waiting.c.files, waiting.c.digest)
        .order_by(waiting.c.files, waiting.c.digest)
        .limit(limit)
    )


def left(scope: int, run: int, states: Sequence[ScanState]) -> Select[Any]:
    """One digest that a run waits for and that is in one of the states, if there is any."""
    return (
        select(waiting.c.digest)
        .join(scan, and_(scan.c.scope == scope, scan.c.digest == waiting.c.digest))
        .where(waiting.c.run == run, waiting.c.given_up.is_(False), scan.c.state.in_(states))
        .limit(1)
    )


def work(scope: int, states: Sequence[ScanState]) -> Select[Any, Any]:
    """How many digests are in one of the states, and how many files are inside them."""
    # the condition on next_at lets the index of due work answer
    return (
        select(func.count(), func.sum(artifact.c.file_count))
        .select_from(scan.join(artifact, artifact.c.digest == scan.c.digest))
        .where(scan.c.scope == scope, scan.c.state.in_(states), scan.c.next_at.is_not(None))
    )


def locations(run: int, digest: bytes, *, after: bytes, limit: int) -> Select[Any]:
    """Keys and candidates of a run's inputs that wait for a digest, in the order of the key."""
    return (
        select(waiting.c.key, waiting.c.candidate)
        .where(waiting.c.run == run, waiting.c.digest == digest, waiting.c.key > after)
        .order_by(waiting.c.key)
        .limit(limit)
    )


def claimed(scope: int) -> tuple[ColumnElement[bool], ...]:
    """The digests under a claim.

    Each has its lease end in ``next_at``; to say so lets the index of due work answer.
    """
    return (scan.c.scope == scope, scan.c.state == ScanState.SUBMITTING, scan.c.next_at > 0.0)


def waiting_page(
    scope: int,
    run: int,
    digests: Sequence[bytes] | None,
    *,
    after: tuple[bytes, bytes] | None,
    limit: int,
    finished: bool,
) -> Select[Any]:
    """The next ``limit`` waiting inputs; with ``finished``, those whose digest is not have no state.

    The limit is on what is looked at, not on what is found: one call holds the ledger up no longer
    than that takes.
    """
    part = select(waiting).where(waiting.c.run == run).order_by(waiting.c.digest, waiting.c.key).limit(limit)
    if digests is not None:
        part = part.where(waiting.c.digest.in_(padded(digests)))
    if after is not None:
        part = part.where(tuple_(waiting.c.digest, waiting.c.key) > tuple_(*after))
    seen = part.subquery()
    its_scan = and_(scan.c.scope == scope, scan.c.digest == seen.c.digest)
    if finished:
        its_scan = and_(its_scan, scan.c.state.in_(FINISHED), ~waits(run, seen.c.digest))
    return (
        select_standing(
            seen.c.digest,
            seen.c.key,
            seen.c.candidate,
            seen.c.duplicate_of,
            seen.c.changes,
            artifact.c.size,
            artifact.c.file_count,
            artifact.c.notes,
        )
        .select_from(
            seen.join(artifact, artifact.c.digest == seen.c.digest)
            .outerjoin(scan, its_scan)
            .outerjoin(verdict, CURRENT_VERDICT)
        )
        .order_by(seen.c.digest, seen.c.key)
    )


_KNOWN = (
    select_standing(
        file.c.location,
        file.c.size,
        file.c.mtime_ns,
        file.c.inode,
        file.c.digest,
        artifact.c.file_count,
        artifact.c.notes,
        artifact.c.problem.label("refusal"),
    )
    .select_from(
        file.join(artifact, artifact.c.digest == file.c.digest)
        .outerjoin(scan, and_(scan.c.scope == bindparam("scope"), scan.c.digest == file.c.digest))
        .outerjoin(verdict, CURRENT_VERDICT)
    )
    .where(file.c.location.in_(bindparam("at", expanding=True)))
)


def known(dialect: Dialect, scope: int, at: Sequence[bytes]) -> tuple[str, tuple[Any, ...]]:
    """The stat cache's files at these locations, with what their content is and how it stands.

    As text for the driver and its parameters: a quiet night reads a million such rows, and a row that
    SQLAlchemy makes costs as much again as all that SQLite does for it.
    """
    places = padded(at)
    text, others = _known_text(dialect, len(places))
    return text, (*(scope if name == "scope" else value for name, value in others), *places)


@lru_cache(maxsize=16)
def _known_text(dialect: Dialect, count: int) -> tuple[str, list[tuple[str, Any]]]:
    """The statement for that many locations, which are its last parameters; the others come with names."""
    expanded = _KNOWN.compile(dialect=dialect).construct_expanded_state({"scope": 0, "at": [b""] * count})
    names, values = list(expanded.positiontup or ()), expanded.positional_parameters
    others = [(name, value) for name, value in zip(names, values, strict=True) if not name.startswith("at_")]
    if len(others) != len(names) - count or any(name.startswith("at_") for name in names[: len(others)]):
        raise AssertionError(names)
    return expanded.statement, others

"""The report row: ``batchscan.result/1`` built from what the stages know. Pure, no I/O.

Every row of every report is built here, so what holds for one holds for all: a verdict stands exactly
on ``scanned`` and ``reused`` rows, an error exactly on the others, and every string can be encoded.
"""

from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from batchscan.models import TOLD_AGAIN, Candidate, Outcome, Problem, RiskLevel, Row, Skill, Verdict
from batchscan.report.text import encodable

JUDGED: Final = frozenset({Outcome.SCANNED, Outcome.REUSED})
"""The outcomes that carry a verdict; the others carry an error."""

_MAX_DEPTH = 64
_TOO_DEEP = f"(left out: nested deeper than {_MAX_DEPTH} levels)"
_DIGEST_BYTES = 32
_DAY_S = 86_400
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_FIRST_SECOND = (date.min.toordinal() - _EPOCH_DAY) * _DAY_S
_AFTER_LAST_SECOND = (date.max.toordinal() + 1 - _EPOCH_DAY) * _DAY_S - 0.0005  # rounds to milliseconds

_encoder = msgspec.json.Encoder()


class ScanFacts(msgspec.Struct, frozen=True):
    """What the ledger knows about the scan behind a row.

    Attributes:
        attempts: submissions made for the digest.
        polls: times its result was asked for.
        submitted_at: when the service accepted it, epoch seconds.
        expires_at: until when the verdict may be reused, epoch seconds.
    """

    attempts: int = 0
    polls: int = 0
    submitted_at: float | None = None
    expires_at: float | None = None


_NO_FACTS = ScanFacts()
_NO_VERDICT = Verdict(level=RiskLevel.SUSPICIOUS, engine_version=0)  # lends its empty fields, no other


def build_row(  # noqa: PLR0913 - a row is where all rooms meet; every argument has its name at the call
    *,
    run_id: str,
    endpoint: str,
    candidate: Candidate,
    outcome: Outcome,
    size: int | None,
    digest: bytes | None,
    notes: tuple[str, ...] = (),
    duplicate_of: str | None = None,
    verdict: Verdict | None = None,
    facts: ScanFacts = _NO_FACTS,
    problem: Problem | None = None,
) -> Row:
    """Build the one row of an input.

    Args:
        run_id: the run that writes it.
        endpoint: who was asked: ``embedded``, ``intl``, ``china`` or a URL without a query.
        candidate: the input.
        outcome: what became of it.
        size: bytes of the content, None when it was never looked at.
        digest: 32 raw bytes of its SHA-256, None when it was not read.
        notes: findings of the inspection, in kebab case; repeated ones are written once.
        duplicate_of: path of the first input with the same bytes in this run.
        verdict: the judgement; its ``report_url`` is written as it is.
        facts: counts and times of the scan.
        problem: why there is no verdict.

    Raises:
        ValueError: a verdict without ``scanned`` or ``reused`` or the other way round, an error on a
            judged row or none on another, a verdict without a digest, a digest that is not 32 bytes.
    """
    _check(outcome, digest, verdict, problem)
    judged = verdict or _NO_VERDICT
    if judged.told_again and outcome is Outcome.SCANNED:
        notes = (*notes, TOLD_AGAIN)
    return Row(
        run_id=run_id,
        path=candidate.path,
        source=candidate.source,
        manifest_line=candidate.line,
        id=None if candidate.id is None else _sane(candidate.id),
        metadata=None if candidate.metadata is None else _sane(candidate.metadata),
        size=size,
        sha256=None if digest is None else digest.hex(),
        outcome=outcome,
        duplicate_of=duplicate_of,
        verdict=None if verdict is None else verdict.level,
        score=judged.score,
        endpoint=endpoint,
        engine_version=None if verdict is None else verdict.engine_version,
        skill=Skill(judged.skill_name, judged.skill_description, judged.file_count),
        primary_rule=judged.primary_rule,
        rules=judged.rules,
        capabilities=judged.capabilities,
        summary=judged.summary,
        mitigation=judged.mitigation,
        report_url=judged.report_url,
        notes=tuple(dict.fromkeys(notes)) if notes else (),
        error=problem,
        attempts=facts.attempts,
        polls=facts.polls,
        submitted_at=rfc3339(facts.submitted_at),
        scanned_at=rfc3339(judged.scanned_at),
        expires_at=rfc3339(facts.expires_at),
    )


def encode_row(row: Row) -> bytes:
    r"""Encode one line of the report: compact JSON in UTF-8 and the line's end, ``\n``.

    What JSON in UTF-8 cannot carry is escaped (lone surrogates) or left out (bottomless nesting).
    """
    try:
        return _encoder.encode(row) + b"\n"
    except (UnicodeEncodeError, RecursionError):
        fields = {name: _sane(getattr(row, name)) for name in row.__struct_fields__}
        return _encoder.encode(fields) + b"\n"


def rfc3339(epoch: float | None) -> str | None:
    """Write epoch seconds as RFC 3339 in UTC: ``2026-06-18T08:00:00Z``, milliseconds only if not zero.

    None for None, and for what RFC 3339 cannot say: not a number, or outside the years 1 to 9999.
    """
    if epoch is None or not _FIRST_SECOND <= epoch < _AFTER_LAST_SECOND:
        return None
    minutes, millis = divmod(round(epoch * 1000), 60_000)
    second, milli = divmod(millis, 1000)
    return _minute(minutes) + _SECONDS[second] + _MILLIS[milli]


# A quiet night writes three million times; neighbours in a marketplace were mostly scanned together.

_SECONDS = tuple(f"{second:02d}" for second in range(60))
_MILLIS = ("Z", *(f".{milli:03d}Z" for milli in range(1, 1000)))


@lru_cache(maxsize=4096)
def _minute(minutes: int) -> str:
    day, minute = divmod(minutes, 24 * 60)
    return f"{date.fromordinal(_EPOCH_DAY + day).isoformat()}T{minute // 60:02d}:{minute % 60:02d}:"


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a row, as shipped in the package."""
    return load_schema("result.schema.json")


def load_schema(name: str) -> dict[str, Any]:
    """Read a JSON Schema that lies beside this module."""
    content = files(__package__).joinpath(name).read_bytes()
    return msgspec.json.decode(content, type=dict[str, Any])


def _check(outcome: Outcome, digest: bytes | None, verdict: Verdict | None, problem: Problem | None) -> None:
    judged = outcome in JUDGED
    if judged != (verdict is not None):
        raise ValueError(f"a row that is {outcome} {'needs' if judged else 'cannot have'} a verdict")
    if judged == (problem is not None):
        raise ValueError(f"a row that is {outcome} {'cannot have' if judged else 'needs'} an error")
    if judged and digest is None:
        raise ValueError(f"a row that is {outcome} needs the digest that was judged")
    if digest is not None and len(digest) != _DIGEST_BYTES:
        raise ValueError(f"a digest has {_DIGEST_BYTES} bytes, not {len(digest)}")


def _sane(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value, and the records of a row
    """Copy a value so that the encoder takes it."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, msgspec.Struct):
        return {name: _sane(getattr(value, name), depth + 1) for name in value.__struct_fields__}
    if isinstance(value, (dict, list, tuple)) and depth >= _MAX_DEPTH:
        return _TOO_DEEP
    if isinstance(value, dict):
        return {_sane(key): _sane(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sane(item, depth + 1) for item in value]
    return value

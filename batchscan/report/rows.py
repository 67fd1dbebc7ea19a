"""The report row: ``batchscan.result/1`` built from what the stages know. Pure, no I/O.

Every row of every report is built here, so what holds for one holds for all: a verdict stands exactly
on ``scanned`` and ``reused`` rows, an error exactly on the others, and every string can be encoded.
"""

import math
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final

import msgspec

from batchscan.models import Candidate, Capability, Outcome, Problem, Row, Rule, Skill, Verdict
from batchscan.report.text import encodable

JUDGED: Final = frozenset({Outcome.SCANNED, Outcome.REUSED})
"""The outcomes that carry a verdict; the others carry an error."""

_MAX_DEPTH = 64
_TOO_DEEP = f"(left out: nested deeper than {_MAX_DEPTH} levels)"
_DIGEST_BYTES = 32
_EPOCH = datetime.fromtimestamp(0, UTC)

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
    return Row(
        run_id=run_id,
        path=encodable(candidate.path),
        source=encodable(candidate.source),
        manifest_line=candidate.line,
        id=_sane(candidate.id),
        metadata=_sane(candidate.metadata),
        size=size,
        sha256=None if digest is None else digest.hex(),
        outcome=outcome,
        duplicate_of=_text(duplicate_of),
        endpoint=encodable(endpoint),
        notes=tuple(dict.fromkeys(encodable(note) for note in notes)),
        error=None if problem is None else _problem(problem),
        attempts=facts.attempts,
        polls=facts.polls,
        submitted_at=rfc3339(facts.submitted_at),
        expires_at=rfc3339(facts.expires_at),
        **({} if verdict is None else _judged(verdict)),
    )


def encode_row(row: Row) -> bytes:
    r"""Encode one line of the report: compact JSON in UTF-8 and the line's end, ``\n``."""
    return _encoder.encode(row) + b"\n"


def rfc3339(epoch: float | None) -> str | None:
    """Write epoch seconds as RFC 3339 in UTC: ``2026-06-18T08:00:00Z``, milliseconds only if not zero.

    None for None, and for what RFC 3339 cannot say: not a number, or outside the years 1 to 9999.
    """
    if epoch is None or math.isnan(epoch):
        return None
    try:
        millis = round(epoch * 1000)
        moment = _EPOCH + timedelta(milliseconds=millis)
    except OverflowError:
        return None
    precision = "milliseconds" if millis % 1000 else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


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


def _judged(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.level,
        "score": verdict.score,
        "engine_version": verdict.engine_version,
        "skill": Skill(_text(verdict.skill_name), _text(verdict.skill_description), verdict.file_count),
        "primary_rule": _text(verdict.primary_rule),
        "rules": tuple(_rule(rule) for rule in verdict.rules),
        "capabilities": tuple(Capability(encodable(c.id), encodable(c.name)) for c in verdict.capabilities),
        "summary": _text(verdict.summary),
        "mitigation": _text(verdict.mitigation),
        "report_url": _text(verdict.report_url),
        "scanned_at": rfc3339(verdict.scanned_at),
    }


def _rule(rule: Rule) -> Rule:
    return Rule(encodable(rule.id), _text(rule.name), encodable(rule.engine), encodable(rule.description))


def _problem(problem: Problem) -> Problem:
    return Problem(encodable(problem.code), encodable(problem.message), _text(problem.request_id))


def _text(text: str | None) -> str | None:
    return None if text is None else encodable(text)


def _sane(value: Any, depth: int = 0) -> Any:  # noqa: ANN401 - a JSON value passed through from a manifest
    """Copy a JSON value so that the encoder takes it: no lone surrogates, no bottomless nesting."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, (dict, list, tuple)) and depth >= _MAX_DEPTH:
        return _TOO_DEEP
    if isinstance(value, dict):
        return {_sane(key): _sane(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_sane(item, depth + 1) for item in value]
    return value

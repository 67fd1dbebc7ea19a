"""Explain: everything that is known of one file, for a person or as JSON. Nothing is sent or changed."""

import asyncio
import os
import re
import sys
import time
from functools import partial

import msgspec

from batchscan.errors import UsageError
from batchscan.ledger.history import (
    Judgement,
    Known,
    Live,
    Place,
    digests_at,
    digests_below,
    digests_between,
    known_of,
    locations,
)
from batchscan.ledger.store import Ledger
from batchscan.models import Capability, FileStat, Problem, RiskLevel, Rule
from batchscan.report.rows import rfc3339
from batchscan.report.text import encodable, printable
from batchscan.walk import display_path, look

EXPLANATION_SCHEMA = "batchscan.explanation/1"
_MOST = 20
_PREFIX = re.compile(r"[0-9a-fA-F]{8,64}")


class FileSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A file that held it; ``now``: ``as then``, ``changed``, ``missing`` or ``unreadable``."""

    path: str
    size: int
    now: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands at one scope: profile and endpoint."""

    scope: str
    state: str
    engine_version: int | None
    attempts: int
    polls: int
    submitted_at: str | None
    due_at: str | None
    reserved_files: int
    error: Problem | None


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict; ``report_url`` is null unless it was kept with ``--report-urls``."""

    scope: str
    stands: bool
    expired: bool
    verdict: RiskLevel
    score: int | None
    engine_version: int
    file_count: int | None
    skill: str | None
    primary_rule: str | None
    rules: tuple[Rule, ...]
    capabilities: tuple[Capability, ...]
    summary: str | None
    mitigation: str | None
    report_url: str | None
    scanned_at: str | None
    expires_at: str | None
    run_id: str | None


class RunMention(msgspec.Struct, frozen=True, kw_only=True):
    """A run that had to do with it."""

    run_id: str
    how: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one content. The order of the fields is the order of the keys."""

    schema: str = EXPLANATION_SCHEMA
    sha256: str
    size: int
    file_count: int
    notes: tuple[str, ...]
    error: Problem | None
    files: list[FileSeen]
    standings: list[Standing]
    verdicts: list[Judged]
    runs: list[RunMention]


async def explain_all(ledger: Ledger, name: str) -> list[Explanation]:
    """Find what a name means and explain it; an empty list when nothing is known of it.

    Args:
        ledger: what is looked at, at all its scopes.
        name: a path, absolute, from here, or as a report shows it; or the beginning of a SHA-256.

    Raises:
        UsageError: too many contents begin or end so.
    """
    now = time.time()
    found = [await known_of(ledger, digest) for digest in await _meant(ledger, name)]
    return [await asyncio.to_thread(_explained, known, now) for known in found if known is not None]


def show_explanations(found: list[Explanation], *, as_json: bool) -> None:
    """Print them on stdout: a JSON object a line, or a block for a person."""
    for number, explanation in enumerate(found):
        if as_json:
            sys.stdout.buffer.write(msgspec.json.encode(explanation) + b"\n")
        else:
            lines = [""] * bool(number) + [printable(line) for line in _lines(explanation)]
            print("\n".join(lines))  # noqa: T201 - data goes to stdout


async def _meant(ledger: Ledger, name: str) -> list[bytes]:
    """The contents that a name stands for: an exact path first, then a hash, then the end of a path."""
    raw = os.fsencode(name)
    if b"\0" in raw or not raw:
        return []
    exact = await digests_at(ledger, _absolute(raw))
    if exact:
        return exact
    if _PREFIX.fullmatch(name):
        first, last = (bytes.fromhex(name.ljust(64, fill)) for fill in "0f")
        digests = await digests_between(ledger, first, last, limit=2)
        if len(digests) > 1:
            raise UsageError(f"{name}: several contents have a SHA-256 that begins so; give more of it")
        if digests:
            return digests
    below = await digests_below(ledger, raw.removeprefix(b"./"), limit=_MOST + 1)
    if not below and "\\" in name:
        below = await _shown_as(ledger, name)
    if len(below) > _MOST:
        raise UsageError(f"{name!r}: more than {_MOST} files have a path that ends so; give more of it")
    return below


def _absolute(raw: bytes) -> bytes:
    """Absolute as discovery has it: raw bytes, and no link is followed."""
    return os.path.abspath(raw)  # noqa: PTH100 - a Path has no bytes


async def _shown_as(ledger: Ledger, name: str) -> list[bytes]:
    """Contents of files whose path cannot be written as it is, by how reports show it."""
    found: dict[bytes, None] = {}
    async for page in locations(ledger):
        for location, digest in page:
            if f"/{display_path(location)}".endswith(f"/{name}"):
                found[digest] = None
        if len(found) > _MOST:
            break
    return list(found)


def _explained(known: Known, now: float) -> Explanation:
    return Explanation(
        sha256=known.digest.hex(),
        size=known.size,
        file_count=known.file_count,
        notes=known.notes,
        error=known.problem,
        files=[_seen(place) for place in known.places],
        standings=[_standing(live) for live in known.live],
        verdicts=[_judged(judgement, now) for judgement in known.judgements],
        runs=[RunMention(run_id=mention.run_id, how=mention.how) for mention in known.runs],
    )


def _seen(place: Place) -> FileSeen:
    found = look(partial(os.stat, place.location))
    if isinstance(found, FileStat):
        # One that was read just after it had changed has no time on record: its size has to do.
        same = found.size == place.stat.size and place.stat.mtime_ns in (-1, found.mtime_ns)
        now = "as then" if same else "changed"
    else:
        now = found.code
    return FileSeen(path=display_path(place.location), size=place.stat.size, now=now)


def _standing(live: Live) -> Standing:
    return Standing(
        scope=encodable(live.scope),
        state=live.state,
        engine_version=live.engine_version,
        attempts=live.attempts,
        polls=live.polls,
        submitted_at=rfc3339(live.submitted_at),
        due_at=rfc3339(live.next_at),
        reserved_files=live.reserved_files,
        error=live.problem,
    )


def _judged(judgement: Judgement, now: float) -> Judged:
    found = judgement.verdict
    return Judged(
        scope=encodable(judgement.scope),
        stands=judgement.stands,
        expired=judgement.expires_at <= now,
        verdict=found.level,
        score=found.score,
        engine_version=found.engine_version,
        file_count=found.file_count,
        skill=found.skill_name,
        primary_rule=found.primary_rule,
        rules=found.rules,
        capabilities=found.capabilities,
        summary=found.summary,
        mitigation=found.mitigation,
        report_url=found.report_url,
        scanned_at=rfc3339(judgement.scanned_at),
        expires_at=rfc3339(judgement.expires_at),
        run_id=judgement.run_id,
    )


def _lines(found: Explanation) -> list[str]:
    lines = [f"{found.sha256}  {found.size:,} bytes, {found.file_count:,} files inside"]
    if found.notes:
        lines.append(f"  notes: {', '.join(found.notes)}")
    if found.error is not None:
        lines.append(f"  not taken: {found.error.code}: {found.error.message}")
    files = [f"{file.path} ({file.now})" for file in found.files]
    lines += [f"  file: {file}" for file in files or ["none is known to hold it"]]
    for standing in found.standings:
        lines += _standing_lines(standing)
    for judged in found.verdicts:
        lines += _verdict_lines(judged)
    if not found.verdicts:
        lines.append("  verdict: none yet")
    lines += [f"  run {mention.run_id} {mention.how}" for mention in found.runs]
    return lines


def _standing_lines(standing: Standing) -> list[str]:
    parts = [f"{standing.attempts} submissions, {standing.polls} polls"]
    if standing.submitted_at is not None:
        parts.append(f"submitted {standing.submitted_at}")
    if standing.due_at is not None:
        parts.append(f"due {standing.due_at}")
    if standing.reserved_files:
        parts.append(f"{standing.reserved_files} files reserved")
    lines = [f"  at {standing.scope}: {standing.state}; {', '.join(parts)}"]
    if standing.error is not None:
        lines.append(f"    last error: {standing.error.code}: {standing.error.message}")
    return lines


def _verdict_lines(judged: Judged) -> list[str]:
    state = "stands" if judged.stands else "history"
    expiry = "expired" if judged.expired else "expires"
    score = "" if judged.score is None else f" (score {judged.score})"
    run = judged.run_id or "a run that is not known any more"
    lines = [
        f"  {judged.verdict}{score} by engine {judged.engine_version} at {judged.scope}: {state}",
        f"    scanned {judged.scanned_at}, {expiry} {judged.expires_at}, fetched by {run}",
    ]
    for rule in judged.rules:
        name = f" {rule.name}" if rule.name else ""
        lines.append(f"    rule {rule.id}{name} ({rule.engine}): {rule.description}")
    for label, text in (("summary", judged.summary), ("mitigation", judged.mitigation)):
        if text:
            lines.append(f"    {label}: {text}")
    if judged.report_url is not None:
        lines.append(f"    report: {judged.report_url}")
    return lines

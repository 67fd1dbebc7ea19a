"""The nouns of the scan: frozen records that every room shares, and nothing that does I/O.

Times are seconds since the Unix epoch (UTC) as floats, sizes are bytes, digests are the 32 raw bytes
of a SHA-256. Text forms (hex, RFC 3339) exist only in the report row and on the wire.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec

ROW_SCHEMA = "batchscan.result/1"
SUMMARY_SCHEMA = "batchscan.summary/1"


class Outcome(StrEnum):
    """What became of one input."""

    SCANNED = "scanned"
    REUSED = "reused"
    REJECTED = "rejected"
    FAILED = "failed"
    PENDING = "pending"


class RiskLevel(StrEnum):
    """The service's judgement. Anything else it says is not a verdict."""

    MALICIOUS = "malicious"
    SUSPICIOUS = "suspicious"
    BENIGN = "benign"


class ScanState(StrEnum):
    """Where a digest stands at one scope. Only the ledger moves it."""

    ADMITTED = "admitted"
    SUBMITTING = "submitting"
    SCANNING = "scanning"
    DONE = "done"
    FAILED = "failed"


class RunState(StrEnum):
    """Where a run stands.

    ``running`` and ``interrupted`` lack rows, ``incomplete`` has pending rows: all three can be
    resumed. ``complete`` has a final row for every input.
    """

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    INCOMPLETE = "incomplete"
    COMPLETE = "complete"


class Stage(StrEnum):
    """The two steps that a scheduler wakes a digest for."""

    SUBMIT = "submit"
    POLL = "poll"


class Problem(msgspec.Struct, frozen=True):
    """Why an input has no verdict: the row's ``error``.

    ``code`` is the vendor's (``InternalError``) or ours in kebab case (``not-a-zip``); decisions are
    taken on it, never on ``message``.
    """

    code: str
    message: str
    request_id: str | None = None


class FileStat(msgspec.Struct, frozen=True):
    """What says that a file is unchanged since it was last read."""

    size: int
    mtime_ns: int
    inode: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a run, as discovered. It ends as exactly one row.

    Exactly one of ``stat`` and ``problem`` is set: an input is either a regular file that could be
    looked at, or it already failed (a broken manifest line, a missing file, a FIFO).

    Attributes:
        source: the directory, file or manifest it came from, as the operator wrote it.
        path: what the row shows: relative to the source root where there is one, made printable by
            ``discover.display_path`` (undecodable bytes escaped; distinct paths stay distinct).
        location: absolute path in raw bytes, the key of the stat cache; None when there is no file.
        line: 1-based line (plain list), record (``-0``) or data line of a manifest, else None.
        id: passed through from a manifest line, any JSON value.
        metadata: passed through from a manifest line, any JSON value.
    """

    source: str
    path: str
    location: bytes | None = None
    stat: FileStat | None = None
    problem: Problem | None = None
    line: int | None = None
    id: Any = None
    metadata: Any = None


class Inspection(msgspec.Struct, frozen=True):
    """What the central directory of a ZIP says.

    Attributes:
        file_count: entries that are not directories; what the service bills.
        notes: findings in kebab case, sorted, each at most once.
    """

    file_count: int
    notes: tuple[str, ...] = ()


class Artifact(msgspec.Struct, frozen=True):
    """Content that the service can take, known by its digest."""

    digest: bytes
    size: int
    file_count: int
    notes: tuple[str, ...] = ()


class Rejection(msgspec.Struct, frozen=True):
    """Content that the service cannot take, and why. ``digest`` is None when it was not read."""

    problem: Problem
    size: int | None = None
    digest: bytes | None = None


class Rule(msgspec.Struct, frozen=True):
    """One rule hit; ``engine`` is ``AI`` or ``STATIC``."""

    id: str
    name: str | None
    engine: str
    description: str


class Capability(msgspec.Struct, frozen=True):
    """Something the skill can do; not a statement of risk."""

    id: str
    name: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A finished judgement of one digest by one engine version.

    ``report_url`` is a bearer secret: None unless the operator asked for it with ``--report-urls``.
    ``told_again``: it came of a submission that the service answered with a scan that was known here already.
    """

    level: RiskLevel
    engine_version: int
    score: int | None = None
    skill_name: str | None = None
    skill_description: str | None = None
    file_count: int | None = None
    primary_rule: str | None = None
    rules: tuple[Rule, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    summary: str | None = None
    mitigation: str | None = None
    report_url: str | None = None
    scanned_at: float | None = None
    told_again: bool = False


class Skill(msgspec.Struct, frozen=True):
    """The skill as the service read it; ``file_count`` is what its scan costs."""

    name: str | None = None
    description: str | None = None
    file_count: int | None = None


TOLD_AGAIN: Final = "told-again"
"""The note of a row that was submitted, and whose verdict is of a scan that was on record: not billed."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a report, ``batchscan.result/1``: every key always present, null where empty.

    The order of the fields is the order of the keys. The schema is shipped as
    ``report/result.schema.json``.
    """

    schema: str = ROW_SCHEMA
    run_id: str
    path: str
    source: str
    manifest_line: int | None = None
    id: Any = None
    metadata: Any = None
    size: int | None = None
    sha256: str | None = None
    outcome: Outcome
    duplicate_of: str | None = None
    verdict: RiskLevel | None = None
    score: int | None = None
    endpoint: str
    engine_version: int | None = None
    skill: Skill = Skill()
    primary_rule: str | None = None
    rules: tuple[Rule, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    summary: str | None = None
    mitigation: str | None = None
    report_url: str | None = None
    notes: tuple[str, ...] = ()
    error: Problem | None = None
    attempts: int = 0
    polls: int = 0
    submitted_at: str | None = None
    scanned_at: str | None = None
    expires_at: str | None = None

    @property
    def billed_files(self) -> int:
        """Files that were billed for this row: those of a scan that its run paid for, else none."""
        paid = self.outcome is Outcome.SCANNED and self.duplicate_of is None and TOLD_AGAIN not in self.notes
        return (self.skill.file_count or 0) if paid else 0

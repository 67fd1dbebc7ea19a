"""Tables of the ledger, as SQLAlchemy Core metadata: one definition for SQLite and, later, PostgreSQL.

Scopes and runs are small integers here, because a million rows repeat them. ``next_at`` is NULL once
a digest needs no more waking, which keeps the index of due work as small as the work.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 4
APPLICATION_ID = 0x62736331
"""Marks a SQLite file as ours (``bsc1``), so that another program's file is never written to."""

metadata = MetaData()

scope = Table(
    "scope",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    UniqueConstraint("name"),
    comment="profile and endpoint host: whose verdicts these are",
)

file = Table(
    "file",
    metadata,
    Column("location", LargeBinary, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    sqlite_with_rowid=False,
    comment="the stat cache: absolute path in raw bytes to digest",
)

artifact = Table(
    "artifact",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("file_count", Integer, nullable=False),
    Column("notes", LargeBinary, nullable=False, comment="JSON list"),
    Column("problem", LargeBinary, comment="JSON; why the service cannot take it, NULL when it can"),
    sqlite_with_rowid=False,
)

scan = Table(
    "scan",
    metadata,
    Column("scope", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("state", Text, nullable=False),
    Column("engine_version", Integer),
    Column("attempt", Integer, nullable=False, default=0, comment="submissions since it was admitted"),
    Column("polls", Integer, nullable=False, default=0),
    Column("tries", Integer, nullable=False, default=0, comment="failed calls since the last good one"),
    Column(
        "put_off",
        Integer,
        nullable=False,
        default=0,
        server_default="0",
        comment="those tries that had nothing to do with the content: throttled, nobody there",
    ),
    Column("owner", Text, comment="process that holds the claim"),
    Column("next_at", Float, comment="when it is due: submission, lease end or poll"),
    Column("submitted_at", Float),
    Column("problem", LargeBinary, comment="JSON; the last error"),
    Column("run", Integer, comment="the run that gave it up, where it is failed"),
    PrimaryKeyConstraint("scope", "digest"),
    sqlite_with_rowid=False,
    comment="the live state of a digest at a scope; the primary key makes a submission unique",
)
Index("scan_due", scan.c.scope, scan.c.state, scan.c.next_at, sqlite_where=scan.c.next_at.is_not(None))

verdict = Table(
    "verdict",
    metadata,
    Column("scope", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("engine_version", Integer, nullable=False),
    Column("result", LargeBinary, nullable=False, comment="JSON of models.Verdict"),
    Column("scanned_at", Float, nullable=False, comment="as the service says, else when fetched"),
    Column("expires_at", Float, nullable=False),
    Column("run", Integer, nullable=False, comment="the run that fetched it"),
    PrimaryKeyConstraint("scope", "digest", "engine_version"),
    sqlite_with_rowid=False,
    comment="the latest verdict of each engine",
)
Index("verdict_expiry", verdict.c.scope, verdict.c.expires_at)

waiting = Table(
    "waiting",
    metadata,
    Column("run", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("key", LargeBinary(16), nullable=False, comment="which input: hash of source, path, line"),
    Column("path", Text, nullable=False),
    Column("candidate", LargeBinary, nullable=False, comment="JSON of models.Candidate"),
    Column("duplicate_of", Text),
    Column("given_up", Boolean, nullable=False, default=False, comment="the run waits no longer"),
    Column("changes", Integer, nullable=False, default=0, comment="times its file had changed when read"),
    Column("files", Integer, comment="files in the ZIP, where the run chooses what comes next by it"),
    PrimaryKeyConstraint("run", "digest", "key"),
    sqlite_with_rowid=False,
    comment="inputs of a run that have no row yet",
)
Index(
    "waiting_files",
    waiting.c.run,
    waiting.c.files,
    waiting.c.digest,
    sqlite_where=waiting.c.files.is_not(None),
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("scope", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("request", Text, nullable=False, comment="JSON: sources, filters, endpoint name; no secret"),
    Column("report", LargeBinary, nullable=False, comment="absolute path in raw bytes"),
    Column("counts", Text, nullable=False, comment="JSON: calls made so far"),
    Column("summary", Text, comment="JSON: batchscan.summary/1 of its last end, NULL before"),
    UniqueConstraint("run_id"),
)

cap = Table(
    "cap",
    metadata,
    Column("scope", Integer, nullable=False),
    Column("action", Text, nullable=False),
    Column("next_at", Float, nullable=False, comment="the next free slot"),
    Column("gap", Float, nullable=False, comment="seconds between slots, widened after a refusal"),
    Column("taken_at", Float, nullable=False, comment="when the last slot was taken: shows a clock set back"),
    PrimaryKeyConstraint("scope", "action"),
    comment="the shared slot of the limiter",
)

purse = Table(
    "purse",
    metadata,
    Column("scope", Integer, nullable=False),
    Column("name", Text, nullable=False, comment="a run, or a day"),
    Column("allowance", Integer, comment="files that may be billed, NULL when they are only counted"),
    Column("base", Integer, nullable=False, default=0, comment="used when the allowance was granted"),
    Column("reserved", Integer, nullable=False, default=0, comment="files sent, or about to be, not judged"),
    Column("spent", Integer, nullable=False, default=0, comment="files billed"),
    PrimaryKeyConstraint("scope", "name"),
    sqlite_with_rowid=False,
    comment="budgets: what a run and a day have spent",
)

charge = Table(
    "charge",
    metadata,
    Column("scope", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("purse", Text, nullable=False),
    Column("files", Integer, nullable=False),
    PrimaryKeyConstraint("scope", "digest", "purse"),
    sqlite_with_rowid=False,
    comment="what is reserved in which purse for a digest; gone once that is settled",
)

chosen = Table(
    "chosen",
    metadata,
    Column("run", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("level", Text, comment="the verdict that it had, NULL when it had failed"),
    Column("engine_version", Integer, comment="who gave it"),
    Column("waits", Boolean, nullable=False, comment="to be submitted again, and not yet taken for that"),
    Column("held", Boolean, nullable=False, comment="not before the sample has been looked at"),
    PrimaryKeyConstraint("run", "digest"),
    sqlite_with_rowid=False,
    comment="what a rescan submits again, and the verdict that it had",
)

superseded = Table(
    "superseded",
    metadata,
    Column("scope", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("engine_version", Integer, nullable=False),
    Column("scanned_at", Float, nullable=False),
    Column("result", LargeBinary, nullable=False, comment="JSON of models.Verdict"),
    Column("expires_at", Float, nullable=False),
    Column("run", Integer, nullable=False, comment="the run that fetched it"),
    PrimaryKeyConstraint("scope", "digest", "engine_version", "scanned_at"),
    sqlite_with_rowid=False,
    comment="verdicts that a later one of the same engine took the place of",
)

engine = Table(
    "engine",
    metadata,
    Column("scope", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("first_seen_at", Float, nullable=False),
    PrimaryKeyConstraint("scope", "version"),
    sqlite_with_rowid=False,
    comment="engine versions that the service has named",
)

queue = Table(
    "queue",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, nullable=False, comment="of the run that it is, or will be"),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False, comment="the higher, the sooner"),
    Column("origin", Text, nullable=False, comment="who asked for it: api, or a schedule's name"),
    Column("work", Text, nullable=False, comment="JSON: what is to be done; no secret"),
    Column("queued_at", Float, nullable=False),
    Column("began_at", Float),
    Column("ended_at", Float),
    Column("cancelled", Boolean, nullable=False, comment="somebody asked for its end"),
    Column("problem", Text, comment="JSON; why it failed"),
    Column("idempotency_key", Text, comment="the same key is the same run"),
    Column("fingerprint", LargeBinary, comment="of what came with the key"),
    UniqueConstraint("run_id"),
    UniqueConstraint("idempotency_key"),
    comment="runs of the service, from when they are asked for",
)
Index(
    "queue_open",
    queue.c.state,
    queue.c.priority,
    queue.c.id,
    sqlite_where=queue.c.state.in_(("queued", "running")),
)

schedule = Table(
    "schedule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("rule", Text, nullable=False, comment="cron expression and zone: another rule begins anew"),
    Column("decided_until", Float, nullable=False, comment="due times up to here had their run, or will not"),
    Column("next_at", Float, comment="the first due time after that; NULL while it is switched off"),
    Column("last_due", Float, comment="the due time that was run last"),
    Column("last_run", Text, comment="its run"),
    Column("missed", Integer, nullable=False, comment="due times that passed while nothing was up"),
    Column("skipped", Integer, nullable=False, comment="those that came while the run before was not over"),
    Column("skipped_due", Float, comment="the last of them"),
    sqlite_with_rowid=False,
    comment="how far the schedules of the settings file came",
)

aftermath = Table(
    "aftermath",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("schedule", Text, nullable=False, comment="whose run it is"),
    Column("plan", Text, nullable=False, comment="JSON: what is to follow, as it was asked for; no secret"),
    Column("steps", Text, comment="JSON: what was done and what failed; NULL while it is owed"),
    Column("done_at", Float),
    sqlite_with_rowid=False,
    comment="what follows runs of schedules once they are over",
)
Index("aftermath_owed", aftermath.c.run_id, sqlite_where=aftermath.c.steps.is_(None))

seen = Table(
    "seen",
    metadata,
    Column("run", Integer, nullable=False),
    Column("short", Integer, nullable=False, comment="the beginning of the digest"),
    Column("digest", LargeBinary(32), nullable=False),
    Column("key", LargeBinary(16), nullable=False),
    Column("path", Text, nullable=False),
    UniqueConstraint("run", "short"),
    prefixes=["TEMP"],
    comment="this process's runs: first input of each digest",
)

reported = Table(
    "reported",
    metadata,
    Column("run", Integer, nullable=False),
    Column("key", LargeBinary(16), nullable=False),
    PrimaryKeyConstraint("run", "key"),
    prefixes=["TEMP"],
    sqlite_with_rowid=False,
    comment="this process's runs: inputs that had their row, or waited, when it resumed",
)

TEMPORARY = (seen, reported)
PERSISTENT = tuple(table for table in metadata.sorted_tables if table not in TEMPORARY)

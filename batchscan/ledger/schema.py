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

SCHEMA_VERSION = 1
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
    comment="history: a row is never changed but by a later answer of the same engine",
)

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
    PrimaryKeyConstraint("run", "digest", "key"),
    sqlite_with_rowid=False,
    comment="inputs of a run that have no row yet",
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
    Column("counts", Text, nullable=False, comment="JSON: calls made so far, summary at the end"),
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

seen = Table(
    "seen",
    metadata,
    Column("run", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("key", LargeBinary(16), nullable=False),
    Column("path", Text, nullable=False),
    PrimaryKeyConstraint("run", "digest"),
    prefixes=["TEMP"],
    sqlite_with_rowid=False,
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

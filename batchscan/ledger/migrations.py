"""Migrations: how a ledger of an earlier schema becomes one of today's.

``STEPS[n]`` leads from version ``n`` to the next. A step is plain SQL of its time: today's tables in
``schema`` are none of its business, they will have changed by tomorrow. All steps that a ledger needs run in
one transaction, so it is either as new as today or as old as before. A released step is never changed.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

Step = Callable[[Connection], None]


def _keep_summaries(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE run ADD COLUMN summary TEXT")


def _queue_runs(connection: Connection) -> None:
    connection.exec_driver_sql(
        """CREATE TABLE queue (
            id INTEGER NOT NULL,
            run_id TEXT NOT NULL,
            state TEXT NOT NULL,
            priority INTEGER NOT NULL,
            origin TEXT NOT NULL,
            work TEXT NOT NULL,
            queued_at FLOAT NOT NULL,
            began_at FLOAT,
            ended_at FLOAT,
            cancelled BOOLEAN NOT NULL,
            problem TEXT,
            idempotency_key TEXT,
            fingerprint BLOB,
            PRIMARY KEY (id),
            UNIQUE (run_id),
            UNIQUE (idempotency_key)
        )"""
    )
    connection.exec_driver_sql(
        "CREATE INDEX queue_open ON queue (state, priority, id) WHERE state IN ('queued', 'running')"
    )


def _keep_schedules(connection: Connection) -> None:
    connection.exec_driver_sql(
        """CREATE TABLE schedule (
            name TEXT NOT NULL,
            rule TEXT NOT NULL,
            decided_until FLOAT NOT NULL,
            next_at FLOAT,
            last_due FLOAT,
            last_run TEXT,
            missed INTEGER NOT NULL,
            skipped INTEGER NOT NULL,
            skipped_due FLOAT,
            PRIMARY KEY (name)
        ) WITHOUT ROWID"""
    )
    connection.exec_driver_sql(
        """CREATE TABLE aftermath (
            run_id TEXT NOT NULL,
            schedule TEXT NOT NULL,
            "plan" TEXT NOT NULL,
            steps TEXT,
            done_at FLOAT,
            PRIMARY KEY (run_id)
        ) WITHOUT ROWID"""
    )
    connection.exec_driver_sql("CREATE INDEX aftermath_owed ON aftermath (run_id) WHERE steps IS NULL")


STEPS: Mapping[int, Step] = {1: _keep_summaries, 2: _queue_runs, 3: _keep_schedules}


def upgrade(connection: Connection, version: int, newest: int) -> None:
    """Carry a ledger from ``version`` to ``newest``; call inside a transaction.

    Raises:
        KeyError: there is no such step, which the tests rule out for released versions.
    """
    for number in range(version, newest):
        STEPS[number](connection)
        connection.exec_driver_sql(f"PRAGMA user_version={number + 1}")

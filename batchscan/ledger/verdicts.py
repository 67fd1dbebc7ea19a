"""Verdicts as they come in, and the engines that give them. Nothing that was paid for is overwritten."""

import msgspec
from sqlalchemy import Connection, bindparam, insert, select, union_all
from sqlalchemy.dialects.sqlite import insert as upsert

from batchscan.ledger.schema import engine, superseded, verdict
from batchscan.ledger.store import Ledger
from batchscan.models import RiskLevel, Verdict

_COLUMNS = [column.name for column in superseded.columns]
_THIS_ENGINE = (
    verdict.c.scope == bindparam("p_scope"),
    verdict.c.digest == bindparam("p_digest"),
    verdict.c.engine_version == bindparam("p_engine"),
)
# Built once: they are run for each verdict, and nearly always find nothing.
_SCANNED_AT = select(verdict.c.scanned_at).where(*_THIS_ENGINE)
_SUPERSEDE = (
    insert(superseded)
    .prefix_with("OR IGNORE")
    .from_select(
        _COLUMNS,
        select(*(verdict.c[name] for name in _COLUMNS)).where(
            *_THIS_ENGINE, verdict.c.scanned_at != bindparam("p_at")
        ),
    )
)
_RESULTS = union_all(
    *(
        select(table.c.result).where(
            table.c.scope == bindparam("p_scope"), table.c.digest == bindparam("p_digest")
        )
        for table in (verdict, superseded)
    )
)
_VERDICT = msgspec.json.Decoder(Verdict)


def keep_verdict(
    connection: Connection,
    scope: int,
    digest: bytes,
    found: Verdict,
    *,
    run: int,
    now: float,
    retention_s: float,
) -> None:
    """Record a verdict as the latest of its engine; one that it takes the place of becomes history.

    The same scan told again is no second verdict: the service repeats what it knows.
    """
    scanned_at = found.scanned_at if found.scanned_at is not None else now
    values = {
        "result": msgspec.json.encode(found),
        "scanned_at": scanned_at,
        "expires_at": scanned_at + retention_s,
        "run": run,
    }
    which = {"p_scope": scope, "p_digest": digest, "p_engine": found.engine_version, "p_at": scanned_at}
    connection.execute(_SUPERSEDE, which)
    connection.execute(
        upsert(verdict)
        .values(scope=scope, digest=digest, engine_version=found.engine_version, **values)
        .on_conflict_do_update(
            index_elements=[verdict.c.scope, verdict.c.digest, verdict.c.engine_version], set_=values
        )
    )


def is_on_record(connection: Connection, scope: int, digest: bytes, found: Verdict) -> bool:
    """Whether it is a scan that the ledger knows, told again: the service bills nothing for it.

    One without a time is taken for a new one: what may have been billed counts as billed.
    """
    which = {"p_scope": scope, "p_digest": digest, "p_engine": found.engine_version}
    return found.scanned_at is not None and connection.scalar(_SCANNED_AT, which) == found.scanned_at


def was_malicious(connection: Connection, scope: int, digest: bytes) -> bool:
    """Whether any verdict on record, superseded ones included, calls the digest malicious."""
    which = {"p_scope": scope, "p_digest": digest}
    results = connection.execute(_RESULTS, which).scalars()
    return any(_VERDICT.decode(result).level is RiskLevel.MALICIOUS for result in results)


class Engines:
    """The engine versions that the service has named at the ledger's scope."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._scope = ledger.scope
        self._noted: set[int] = set()

    async def note(self, version: int, *, now: float) -> list[int]:
        """Note that the service judges by this version.

        Returns:
            The versions known before, ascending, if this one is new and there were others; told once, to
            one of all processes.
        """
        if version in self._noted:
            return []
        self._noted.add(version)

        def work(connection: Connection) -> list[int]:
            mine = engine.c.scope == self._scope
            before = connection.execute(select(engine.c.version).where(mine)).scalars().all()
            if version in before:
                return []
            connection.execute(insert(engine).values(scope=self._scope, version=version, first_seen_at=now))
            return sorted(before)

        return await self._ledger.write(work)

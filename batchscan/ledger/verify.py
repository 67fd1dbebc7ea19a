"""Verification: whether the ledger's file is sound and what it says adds up. It only reads.

The file is opened read-only with the driver alone: what opens it for work would first write to it, and a
damaged file is to be kept as it is for repair. One snapshot is looked at, so a live run does not disturb.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from batchscan.errors import LedgerError
from batchscan.ledger import schema
from batchscan.ledger.runs import RunRequest
from batchscan.ledger.standing import candidate_key
from batchscan.models import Candidate, Problem, RunState, ScanState, Verdict

_SHOWN = 20
_BUSY_S = 10.0


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong with the ledger, how often, and one place where."""

    what: str
    count: int
    example: str


class Verification(msgspec.Struct, frozen=True):
    """What was found: rows by table, and every fault."""

    ledger: str
    rows: dict[str, int]
    faults: list[Fault]


def verify(path: Path) -> Verification:
    """Look at every page and every row of a ledger; blocks, about as long as reading the file takes.

    Raises:
        LedgerError: it cannot be opened to be read at all.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise LedgerError(f"ledger {path}: cannot be read ({error.strerror}); check its owner") from error
    ledger = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S
    )
    with closing(ledger):
        found = _verified(ledger)
        return Verification(str(path), found.rows, found.faults)


class _Found:
    """Collects faults; what cannot even be asked is one."""

    def __init__(self, ledger: sqlite3.Connection) -> None:
        self.rows: dict[str, int] = {}
        self.faults: list[Fault] = []
        self._ledger = ledger

    def ask(self, what: str, query: str) -> list[Any]:
        try:
            return self._ledger.execute(query).fetchall()
        except sqlite3.DatabaseError as error:
            self.faults.append(Fault(f"{what}: cannot be read", 1, str(error)))
            return []

    def none_of(self, what: str, query: str) -> None:
        """Note a fault if a query, whose first column says which row, finds any."""
        for count, example in self.ask(what, f"SELECT count(*), min(x) FROM ({query})"):  # noqa: S608 - constants of this module
            if count:
                self.faults.append(Fault(what, count, str(example)))

    def each(self, what: str, query: str, check: Callable[..., bool]) -> None:
        """Note a fault if ``check`` fails for a row: its first column says which, the others it gets."""
        count, example = 0, ""
        try:
            for which, *values in self._ledger.execute(query):
                if not _holds(check, values):
                    count, example = count + 1, example or str(which)
        except sqlite3.DatabaseError as error:
            self.faults.append(Fault(f"{what}: cannot be read", 1, str(error)))
        if count:
            self.faults.append(Fault(what, count, example))


def _holds(check: Callable[..., bool], values: list[Any]) -> bool:
    try:
        return check(*values)
    except (ValueError, TypeError):  # what the decoders raise
        return False


def _verified(ledger: sqlite3.Connection) -> _Found:
    found = _Found(ledger)
    found.ask("the file", "BEGIN")
    marks = found.ask("the file", "SELECT * FROM pragma_application_id, pragma_user_version")
    made = found.ask("the file", "SELECT count(*) FROM sqlite_master")
    if found.faults or (marks == [(0, 0)] and made == [(0,)]):  # nobody has come as far as making its tables
        return found
    application, version = marks[0]
    if application != schema.APPLICATION_ID:
        found.faults.append(Fault("another program's database", 1, f"application id {application}"))
        return found
    for (line,) in found.ask("the file", f"PRAGMA integrity_check({_SHOWN})"):
        if line != "ok":
            found.faults.append(Fault("damaged", 1, line))
    if version == schema.SCHEMA_VERSION:
        _check_rows(found)
    elif version > schema.SCHEMA_VERSION:
        found.faults.append(Fault("made by a newer batchscan", 1, f"schema {version}"))
    return found


def _check_rows(found: _Found) -> None:
    for table in schema.PERSISTENT:
        for (count,) in found.ask(table.name, f"SELECT count(*) FROM {table.name}"):  # noqa: S608 - our own table
            found.rows[table.name] = count
    for what, query in _WRONG:
        found.none_of(what, query)
    for what, query, check in _CONTENTS:
        found.each(what, query, check)


_WRONG = (
    (
        "scan: of a scope that is not there",
        "SELECT hex(digest) AS x FROM scan WHERE scope NOT IN (SELECT id FROM scope)",
    ),
    (
        "verdict: of a scope that is not there",
        "SELECT hex(digest) AS x FROM verdict WHERE scope NOT IN (SELECT id FROM scope)",
    ),
    (
        "cap: of a scope that is not there",
        "SELECT action AS x FROM cap WHERE scope NOT IN (SELECT id FROM scope)",
    ),
    (
        "run: of a scope that is not there",
        "SELECT run_id AS x FROM run WHERE scope NOT IN (SELECT id FROM scope)",
    ),
    (
        "scan: done, without its verdict",
        """SELECT hex(digest) AS x FROM scan WHERE state = 'done' AND NOT EXISTS (
            SELECT 1 FROM verdict WHERE verdict.scope = scan.scope AND verdict.digest = scan.digest
            AND verdict.engine_version = scan.engine_version)""",
    ),
    (
        "scan: submitted, without what it takes to ask for the verdict",
        """SELECT hex(digest) AS x FROM scan WHERE state = 'scanning'
            AND (engine_version IS NULL OR submitted_at IS NULL OR next_at IS NULL)""",
    ),
    (
        "scan: claimed by nobody",
        """SELECT hex(digest) AS x FROM scan WHERE state = 'submitting'
            AND (owner IS NULL OR next_at IS NULL)""",
    ),
    ("scan: never due", "SELECT hex(digest) AS x FROM scan WHERE state = 'admitted' AND next_at IS NULL"),
    (
        "file: of content that is not there",
        "SELECT hex(location) AS x FROM file WHERE digest NOT IN (SELECT digest FROM artifact)",
    ),
    (
        "waiting: for content that is not there",
        "SELECT path AS x FROM waiting WHERE digest NOT IN (SELECT digest FROM artifact)",
    ),
    (
        "waiting: for a run that is not there",
        "SELECT path AS x FROM waiting WHERE run NOT IN (SELECT id FROM run)",
    ),
    (
        "waiting: for a run that is complete",
        "SELECT path AS x FROM waiting JOIN run ON run.id = waiting.run WHERE run.state = 'complete'",
    ),
    (
        "waiting: for a verdict that will not come",
        """SELECT path AS x FROM waiting JOIN run ON run.id = waiting.run WHERE NOT EXISTS (
            SELECT 1 FROM scan WHERE scan.scope = run.scope AND scan.digest = waiting.digest)""",
    ),
)
"""What is wrong, and the query for the rows that are: there must be none."""


def _is_problem(text: bytes | None) -> bool:
    return text is None or bool(msgspec.json.decode(text, type=Problem))


def _is_state(state: str) -> bool:
    return state in tuple(ScanState)


def _is_content(notes: bytes, problem: bytes | None) -> bool:
    msgspec.json.decode(notes, type=tuple[str, ...])
    return _is_problem(problem)


def _is_run(request: str, counts: str, state: str) -> bool:
    msgspec.json.decode(counts, type=dict[str, int])
    msgspec.convert(json.loads(request), RunRequest)
    return state in tuple(RunState)


_CONTENTS: tuple[tuple[str, str, Callable[..., bool]], ...] = (
    (
        "verdict: cannot be decoded, or is of another engine",
        "SELECT hex(digest), result, engine_version FROM verdict",
        lambda result, engine: msgspec.json.decode(result, type=Verdict).engine_version == engine,
    ),
    ("artifact: cannot be decoded", "SELECT hex(digest), notes, problem FROM artifact", _is_content),
    ("scan: in a state that does not exist", "SELECT hex(digest), state FROM scan", _is_state),
    ("scan: its error cannot be decoded", "SELECT hex(digest), problem FROM scan", _is_problem),
    (
        "waiting: is another input than it says",
        "SELECT path, candidate, key FROM waiting",
        lambda text, key: candidate_key(msgspec.json.decode(text, type=Candidate)) == key,
    ),
    ("run: cannot be decoded", "SELECT run_id, request, counts, state FROM run", _is_run),
)

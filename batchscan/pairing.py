"""Pairs the inputs of two reports in bounded memory: what is many lies in a temporary SQLite file.

Each input is in at most one pair. They are made in three passes, each over what the one before left:

1. same place, same content: the input is where it was;
2. same content elsewhere: it was moved;
3. same place, other content, or content that one side did not read: it was changed.

A place is a source and a path. A source that only one report has, a directory with the day in its name say,
is the same place as any such source of the other. What is left, and has its content on the other side all
the same, is a copy of what was paired there.

The file has no name, so nothing is left of it however the process ends.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from batchscan.changes import Content, Place
from batchscan.errors import UsageError

_SOURCES_REMEMBERED: Final = 10_000
_FIRST = (1, 1 << 40)
"""The smallest number of an input of each side; those of one side lie together."""

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -16384;
CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT UNIQUE, sides INTEGER);
CREATE TABLE input (
    id INTEGER PRIMARY KEY, source INTEGER, path TEXT, line INTEGER, digest BLOB, rank INTEGER,
    score INTEGER, rules BLOB, more BLOB
);
CREATE TABLE rest (
    id INTEGER PRIMARY KEY, place INTEGER, source INTEGER, path TEXT, line INTEGER, digest BLOB,
    rank INTEGER, rules BLOB
);
CREATE TABLE taken (id INTEGER PRIMARY KEY);
CREATE TABLE twin (digest BLOB PRIMARY KEY, id INTEGER, rank INTEGER, rules BLOB) WITHOUT ROWID;
CREATE TABLE item (
    before INTEGER, after INTEGER, urgency INTEGER, rank INTEGER, score INTEGER, path TEXT, told BLOB
);
BEGIN;
"""

_ADD_SOURCE = """
INSERT INTO source (name, sides) VALUES (?, ?)
ON CONFLICT (name) DO UPDATE SET sides = sides | excluded.sides RETURNING id
"""

# A source of both sides is itself; all that only one side has are 0. So is content that was not read.
_BY_BOTH = """
SELECT iif(s.sides = 3, s.id, 0), i.path, ifnull(i.digest, x''), i.id, i.rank, i.rules, i.source, i.line
FROM input i JOIN source s ON s.id = i.source WHERE i.id BETWEEN ? AND ?
ORDER BY 1, 2, 3, s.name, i.line, i.id
"""
_BY_CONTENT = """
SELECT r.digest, r.id, r.rank, r.rules FROM rest r JOIN source s ON s.id = r.source
WHERE r.id BETWEEN ? AND ? AND r.digest <> x'' ORDER BY 1, r.path, s.name, r.line, r.id
"""
_BY_PLACE = """
SELECT r.place, r.path, r.id, r.rank, r.rules, r.digest FROM rest r JOIN source s ON s.id = r.source
WHERE r.id BETWEEN ? AND ? ORDER BY 1, 2, s.name, r.line, r.id
"""
_FIND_TWINS = """
INSERT OR IGNORE INTO twin (digest, id, rank, rules)
SELECT digest, id, rank, rules FROM input
WHERE id BETWEEN ? AND ? AND digest IN (SELECT digest FROM rest WHERE id BETWEEN ? AND ?)
ORDER BY digest, rank DESC, rules, path, id
"""
_WITH_TWINS = """
SELECT r.id, r.rank, r.rules, t.id, t.rank, t.rules FROM rest r LEFT JOIN twin t ON t.digest = r.digest
WHERE r.id BETWEEN ? AND ? ORDER BY r.id
"""
_KEEP = """
INSERT INTO item SELECT ?, ?, ?, ?, ifnull(score, 101), path, ? FROM input WHERE id = ?
"""
_KEPT = """
SELECT before, after, told FROM item WHERE urgency <= ?
ORDER BY urgency, rank DESC, score, path, before, after
"""
_LOOK_UP = """
SELECT s.name, i.path, i.line, i.digest, i.rank, i.score, i.more
FROM input i JOIN source s ON s.id = i.source WHERE i.id = ?
"""

_Cells: TypeAlias = tuple[Any, ...]


class Input(NamedTuple):
    """What pairing needs of an input, and ``more``, which it gives back.

    ``digest`` is None when the content was not read, ``rank`` without a verdict, else the higher the worse.
    ``rules`` tells sets of rules apart.
    """

    source: str
    path: str
    line: int | None
    digest: bytes | None
    rank: int | None
    score: int | None
    rules: bytes | None
    more: bytes


class Pair(NamedTuple):
    """An input of both sides, by its numbers; or of one side only."""

    before: int | None
    after: int | None
    before_rank: int | None
    after_rank: int | None
    same_rules: bool
    place: Place
    content: Content


class Workspace:
    """Holds the inputs of two reports. Load both sides, then take all pairs, once."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def load(self, side: int, inputs: Iterable[Input]) -> None:
        """Take in all inputs of one side: 0 is before, 1 is after."""
        source_of = self._sources(side)
        start = _FIRST[side]
        numbered = (
            (number, source_of(found.source), *found[1:]) for number, found in enumerate(inputs, start)
        )
        self._database.executemany("INSERT INTO input VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", numbered)

    def pairs(self) -> Iterator[Pair]:
        """Yield each input of both sides once, copies with what they are copies of."""
        yield from self._unmoved()
        yield from self._rest(_BY_CONTENT, 1, lambda *_: (Place.MOVED, Content.SAME))
        yield from self._rest(_BY_PLACE, 2, _changed)
        yield from self._alone(0)
        yield from self._alone(1)

    def keep(self, pair: Pair, urgency: int, told: bytes) -> None:
        """Note a pair, for ``kept``; the lower the urgency, the earlier."""
        shown = pair.before if pair.after is None or pair.place is Place.COPY_REMOVED else pair.after
        rank = max(pair.before_rank or 0, pair.after_rank or 0)
        self._database.execute(_KEEP, (pair.before, pair.after, urgency, rank, told, shown))

    def kept(self, urgency: int) -> Iterator[tuple[Input | None, Input | None, bytes]]:
        """Yield what was kept, to this urgency: by urgency, then the worst verdict, then score and path."""
        with closing(self._database.execute(_KEPT, (urgency,))) as found:
            for before, after, told in found:
                yield self._look_up(before), self._look_up(after), told

    def _look_up(self, number: int | None) -> Input | None:
        if number is None:
            return None
        source, path, line, digest, rank, score, more = self._database.execute(_LOOK_UP, (number,)).fetchone()
        return Input(source, path, line, digest, rank, score, None, more)

    def _sources(self, side: int) -> Callable[[str], int]:
        known: dict[str, int] = {}

        def source_of(name: str) -> int:
            number = known.get(name)
            if number is None:
                if len(known) >= _SOURCES_REMEMBERED:
                    known.clear()
                number = known[name] = self._database.execute(_ADD_SOURCE, (name, 1 << side)).fetchone()[0]
            return number

        return source_of

    def _unmoved(self) -> Iterator[Pair]:
        add = "INSERT INTO rest (place, path, digest, id, rank, rules, source, line) VALUES (?,?,?,?,?,?,?,?)"
        for one, other in _merged(self._side(_BY_BOTH, 0), self._side(_BY_BOTH, 1), 3):
            if one is not None and other is not None:
                content = Content.SAME if one[2] else Content.UNKNOWN
                yield Pair(one[3], other[3], one[4], other[4], one[5] == other[5], Place.SAME, content)
            else:
                self._database.execute(add, one or other or ())

    def _rest(
        self, statement: str, width: int, means: Callable[[_Cells, _Cells], tuple[Place, Content]]
    ) -> Iterator[Pair]:
        for one, other in _merged(self._side(statement, 0), self._side(statement, 1), width):
            if one is not None and other is not None:
                self._database.execute("INSERT INTO taken VALUES (?), (?)", (one[width], other[width]))
                a, b = one[width:], other[width:]
                yield Pair(a[0], b[0], a[1], b[1], a[2] == b[2], *means(a, b))
        self._database.execute("DELETE FROM rest WHERE id IN (SELECT id FROM taken)")
        self._database.execute("DELETE FROM taken")

    def _alone(self, side: int) -> Iterator[Pair]:
        """Yield what is left on one side, with its twin on the other where there is one."""
        self._database.execute("DELETE FROM twin")
        if next(self._side("SELECT 1 FROM rest WHERE id BETWEEN ? AND ? LIMIT 1", side), None) is None:
            return
        self._database.execute(_FIND_TWINS, (*_numbers(1 - side), *_numbers(side)))
        for number, rank, rules, twin, twin_rank, twin_rules in self._side(_WITH_TWINS, side):
            mine, its = (number, rank), (twin, twin_rank)
            (before, before_rank), (after, after_rank) = (mine, its) if side == 0 else (its, mine)
            place, content, same = Place.SAME, Content.UNKNOWN, True
            if twin is not None:
                place = Place.COPY_REMOVED if side == 0 else Place.COPY_ADDED
                content, same = Content.SAME, rules == twin_rules
            yield Pair(before, after, before_rank, after_rank, same, place, content)

    def _side(self, statement: str, side: int) -> Iterator[_Cells]:
        return iter(self._database.execute(statement, _numbers(side)))


@contextmanager
def open_workspace() -> Iterator[Workspace]:
    """Make a workspace that lasts as long as the block. Blocks; all of it in one thread.

    Takes about 250 bytes of disk an input, where temporary files are kept (``TMPDIR``, else /var/tmp).

    Raises:
        UsageError: there is no room for it.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as database:
            database.executescript(_SCHEMA)
            yield Workspace(database)
    except sqlite3.Error as error:
        raise UsageError(
            f"the rows cannot be kept in the directory for temporary files ({error}); make room there, or"
            " name another one in TMPDIR"
        ) from error


def _numbers(side: int) -> tuple[int, int]:
    return _FIRST[side], _FIRST[side] + (1 << 40) - 2


def _changed(before: _Cells, after: _Cells) -> tuple[Place, Content]:
    return Place.SAME, Content.CHANGED if before[3] and after[3] else Content.UNKNOWN


def _merged(
    ones: Iterator[_Cells], others: Iterator[_Cells], width: int
) -> Iterator[tuple[_Cells | None, _Cells | None]]:
    """Pair off two sorted streams by their first ``width`` cells, one to one; yield what is alone too."""
    one, other = next(ones, None), next(others, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[:width] < other[:width]):
            yield one, None
            one = next(ones, None)
        elif one is None or one[:width] > other[:width]:
            yield None, other
            other = next(others, None)
        else:
            yield one, other
            one, other = next(ones, None), next(others, None)

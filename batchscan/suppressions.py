"""Suppressions: findings that were accepted for a while. They are shown and counted, never hidden.

A finding is suppressed when its very content was accepted, all its rules were, and the day has not passed.
What is looked up is the digest, so that many rows and many entries cost little.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec
import structlog

from batchscan.errors import UsageError
from batchscan.models import RiskLevel, Row
from batchscan.report.lines import read_rows
from batchscan.report.text import printable
from batchscan.suppressions_file import Acceptance, read_acceptances

WARN_AHEAD: Final = timedelta(days=14)
"""How long before its end a suppression is warned of."""

_TOLD: Final = 20
"""How many entries of a kind, or contents of an entry, are told one by one."""

log = structlog.get_logger(__name__)


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """A finding that its owner has accepted for a while; it is shown and counted, never hidden.

    Attributes:
        reason: why, as the operator wrote it.
        owner: who answers for it.
        expires: the last day on which it holds, ``2027-01-31``, in UTC.
    """

    reason: str
    owner: str
    expires: str


class Kept(msgspec.Struct, frozen=True):
    """A finding that an entry is about and does not suppress, because it also has other rules."""

    entry: Acceptance
    path: str
    rules: tuple[str, ...]


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the entries, in the order of the file.

    Attributes:
        unused: they met no finding: the file has changed or is gone, or nothing is found in it any more.
        expired: they do not suppress any more.
        expiring: they end within ``WARN_AHEAD``.
        kept: for each entry, the first finding that has rules beyond those that were accepted.
    """

    unused: tuple[Acceptance, ...] = ()
    expired: tuple[Acceptance, ...] = ()
    expiring: tuple[Acceptance, ...] = ()
    kept: tuple[Kept, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return {name: len(getattr(self, name)) for name in self.__struct_fields__}

    def told(self) -> str:
        """Say it in one sentence without any text from outside; empty when nobody has to see to anything."""
        words = {
            "expired": "expired",
            "expiring": f"expiring within {WARN_AHEAD.days} days",
            "unused": "without a finding",
            "kept": "whose finding has other rules",
        }
        counts = self.counts()
        found = [f"{counts[name]:,} {said}" for name, said in words.items() if counts[name]]
        return f"Suppressions to look at: {', '.join(found)}." if found else ""


class Suppressions:
    """The accepted findings of one file, on one day.

    Args:
        entries: what the file holds.
        today: the day in UTC.
    """

    def __init__(self, entries: Sequence[Acceptance] = (), today: date = date.max) -> None:
        self._entries = entries
        self._today = today
        self._by_digest: defaultdict[str, list[int]] = defaultdict(list)
        for number, entry in enumerate(entries):
            for digest in entry.digests:
                self._by_digest[digest].append(number)
        self._made = [
            Suppression(reason=entry.reason, owner=entry.owner, expires=entry.expires.isoformat())
            for entry in entries
        ]
        self._met: set[int] = set()
        self._kept: dict[int, Kept] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @classmethod
    def load(cls, path: Path | None, today: date, report: Path | None = None) -> "Suppressions":
        """Read a file; None is no suppressions.

        Args:
            path: the file.
            today: the day in UTC.
            report: where to look for what an entry without content may be about, to say what to add.

        Raises:
            UsageError: it cannot be read, or something in it is wrong; all of that is told.
        """
        if path is None:
            return cls()
        entries, faults = read_acceptances(path)
        if faults.problems:
            advice = [] if report is None else list(_contents(faults.unbound, report))
            raise UsageError("\n".join([faults.told(), *advice]))
        return cls(entries, today)

    def match(self, row: Row) -> Suppression | None:
        """Give what suppresses the finding of a row, None for one that stands and for a row without one."""
        if row.sha256 is None or row.verdict is None or row.verdict is RiskLevel.BENIGN:
            return None
        for number in self._by_digest.get(row.sha256, ()):
            entry = self._entries[number]
            if not entry.means(row.path):
                continue
            self._met.add(number)
            beyond = _beyond(entry, row)
            if beyond:
                self._kept.setdefault(number, Kept(entry, row.path, beyond))
            elif self._today <= entry.expires:
                return self._made[number]
        return None

    def audit(self) -> Audit:
        """Tell what became of the entries by the rows that were matched so far."""
        entries = list(enumerate(self._entries))
        return Audit(
            unused=tuple(entry for number, entry in entries if number not in self._met),
            expired=tuple(entry for _, entry in entries if entry.expires < self._today),
            expiring=tuple(
                entry for _, entry in entries if timedelta(0) <= entry.expires - self._today <= WARN_AHEAD
            ),
            kept=tuple(kept for _, kept in sorted(self._kept.items())),
        )


def warn_of(audit: Audit) -> None:
    """Log what an owner has to see to: entries that ended, end soon, met nothing or do not hold."""
    _warn("a suppression has expired and does not hold any more", audit.expired)
    _warn("a suppression expires soon", audit.expiring)
    _warn("a suppression met no finding: changed, gone, or clean; remove it", audit.unused)
    for kept in audit.kept[:_TOLD]:
        log.warning(
            "a finding stays: it has rules that were not accepted",
            suppression=kept.entry.place,
            path=printable(kept.path),
            rules=[printable(rule) for rule in kept.rules],
        )
    _count(len(audit.kept))


def _warn(event: str, entries: Sequence[Acceptance]) -> None:
    for entry in entries[:_TOLD]:
        log.warning(
            event,
            suppression=entry.place,
            expires=entry.expires.isoformat(),
            owner=printable(entry.owner),
            reason=printable(entry.reason),
        )
    _count(len(entries))


def _count(number: int) -> None:
    if number > _TOLD:
        log.warning("more suppressions of this kind are not listed", number=number - _TOLD)


def _beyond(entry: Acceptance, row: Row) -> tuple[str, ...]:
    """The rules of a finding that an entry does not accept. One without any cannot be known by its rules."""
    if not entry.rules:
        return ()
    found = dict.fromkeys(rule.id for rule in row.rules)
    if row.primary_rule is not None:
        found[row.primary_rule] = None
    return tuple(rule for rule in found if rule not in entry.rules) if found else ("(none is named)",)


def _contents(unbound: Sequence[Acceptance], report: Path) -> Iterator[str]:
    """Say which lines would bind entries to the findings of a report that they are about now."""
    found: list[dict[str, str]] = [{} for _ in unbound]
    for row in read_rows(report) if unbound else ():
        if row.sha256 is None or row.verdict is None or row.verdict is RiskLevel.BENIGN:
            continue
        for entry, contents in zip(unbound, found, strict=True):
            if len(contents) <= _TOLD and entry.means(row.path) and not _beyond(entry, row):
                contents.setdefault(row.sha256, row.path)
    for entry, contents in zip(unbound, found, strict=True):
        if not contents:
            yield f"{entry.place}: no finding of {report} is meant by it"
            continue
        yield f"{entry.place}: look at these findings of {report}, and add those that are accepted:"
        yield "sha256 = ["
        yield from (f'    "{digest}",  # {printable(path)}' for digest, path in [*contents.items()][:_TOLD])
        yield "]" if len(contents) <= _TOLD else "]  # and there are more"

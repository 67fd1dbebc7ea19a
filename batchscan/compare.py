"""Compares two reports: what is new, fixed, gone, still there, and what cannot be told.

Rows come in as two streams and are held on disk (``pairing``); what comes out is numbers, the worst findings,
and a stream of all that is worth a look. Blocks: call it off the event loop, and all of it in one thread.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

import msgspec

from batchscan.changes import (
    COUNTED_ONLY,
    FINDINGS,
    Change,
    Comparison,
    Content,
    Direction,
    Item,
    Place,
    SideFacts,
    Sight,
    direction_of,
    is_fresh,
    judge,
)
from batchscan.models import RiskLevel
from batchscan.pairing import Input, Pair, Workspace, open_workspace
from batchscan.sides import Side, seen, side_of, take_in, warnings

__all__ = ["WORST_LIMIT", "Compared", "Side", "changes_between", "compare", "side_of"]

WORST_LIMIT: Final = 10
"""How many of the worst fresh findings a comparison holds, unless told otherwise."""

_SIGHTS: Final = (Sight.BENIGN, Sight.SUSPICIOUS, Sight.MALICIOUS)
_FRESH_MALICIOUS, _FRESH, _NOTABLE, _QUIET = 0, 1, 7, 8
_URGENCY: Final = {
    Change.UNKNOWN: 2,
    Change.CHANGED_VERDICT: 3,
    Change.CHANGED_RULES: 4,
    Change.FIXED: 5,
    Change.GONE: 6,
    Change.STILL_THERE: _QUIET,
}

_encode = msgspec.msgpack.Encoder().encode
_Told = tuple[Change, Direction | None, bool, Place, Content]
_told = msgspec.msgpack.Decoder(_Told)


class Compared:
    """A comparison that is open: its numbers, and its items for as long as it is.

    Attributes:
        comparison: the numbers, and the worst findings that are fresh.
    """

    def __init__(self, comparison: Comparison, workspace: Workspace) -> None:
        self.comparison = comparison
        self._workspace = workspace

    def items(self) -> Iterator[Item]:
        """Yield all that is not ``COUNTED_ONLY``: what is fresh first, the worst of it first."""
        return map(_item, self._workspace.kept(_QUIET))

    def notable(self) -> Iterator[Item]:
        """Yield what a person should see, in the same order: not what is still there or gone and benign."""
        return map(_item, self._workspace.kept(_NOTABLE))


@contextmanager
def compare(before: Side, after: Side, *, worst: int = WORST_LIMIT) -> Iterator[Compared]:
    """Compare two reports. Holds about 250 bytes of disk an input while it is open.

    Raises:
        UsageError: a report cannot be read, or there is no room on disk.
        ReportError: a report is damaged. One that is cut off is compared as far as it goes, and is not whole.
    """
    with open_workspace() as workspace:
        facts = [take_in(workspace, number, side) for number, side in enumerate((before, after))]
        tally = _Tally(facts[0], facts[1])
        for pair in workspace.pairs():
            tally.add(pair, workspace)
        fresh = map(_item, islice(workspace.kept(_FRESH), worst))
        yield Compared(tally.comparison(tuple(fresh)), workspace)


def changes_between(before: Side, after: Side, *, worst: int = WORST_LIMIT) -> Comparison:
    """Compare two reports, for the numbers and the worst findings only.

    Raises:
        BatchscanError: as ``compare``.
    """
    with compare(before, after, worst=worst) as compared:
        return compared.comparison


class _Tally:
    """Counts pairs, and keeps those that are worth a look."""

    def __init__(self, before: SideFacts, after: SideFacts) -> None:
        self._before, self._after = before, after
        self._counts: Counter[Change] = Counter()
        self._fresh: Counter[int] = Counter()
        self._fresh_over_finding = 0
        self._directions: Counter[Direction] = Counter()
        self._places: Counter[Place] = Counter()
        self._gone_findings = 0
        self._undecided = 0
        self._notable = 0

    def add(self, pair: Pair, workspace: Workspace) -> None:
        before = _sight(pair.before, pair.before_rank, self._before)
        after = _sight(pair.after, pair.after_rank, self._after)
        change = judge(before, after, same_rules=pair.same_rules)
        self._counts[change] += 1
        self._places[pair.place] += 1
        if change in COUNTED_ONLY:
            return
        fresh = is_fresh(before, after, pair.content)
        direction = direction_of(after) if change is Change.CHANGED_VERDICT else None
        if fresh:
            self._fresh[pair.after_rank or 0] += 1
            self._fresh_over_finding += before in FINDINGS and pair.content is Content.CHANGED
        if direction is not None:
            self._directions[direction] += 1
        self._gone_findings += change is Change.GONE and before in FINDINGS
        self._undecided += after in {Sight.NO_VERDICT, Sight.UNSEEN}
        urgency = _urgency(change, before, after, fresh=fresh)
        self._notable += urgency <= _NOTABLE
        workspace.keep(pair, urgency, _encode((change, direction, fresh, pair.place, pair.content)))

    def comparison(self, worst: tuple[Item, ...]) -> Comparison:
        return Comparison(
            before=self._before,
            after=self._after,
            counts={change: self._counts[change] for change in Change},
            fresh={RiskLevel.MALICIOUS: self._fresh[2], RiskLevel.SUSPICIOUS: self._fresh[1]},
            fresh_over_finding=self._fresh_over_finding,
            worse=self._directions[Direction.WORSE],
            milder=self._directions[Direction.MILDER],
            gone_findings=self._gone_findings,
            moved=self._places[Place.MOVED],
            copies_added=self._places[Place.COPY_ADDED],
            copies_removed=self._places[Place.COPY_REMOVED],
            undecided=self._undecided,
            notable=self._notable,
            warnings=tuple(warnings(self._before, self._after)),
            worst=worst,
        )


def _urgency(change: Change, before: Sight, after: Sight, *, fresh: bool) -> int:
    if fresh:
        return _FRESH_MALICIOUS if after is Sight.MALICIOUS else _FRESH
    quiet = change is Change.GONE and before is Sight.BENIGN
    return _QUIET if quiet else _URGENCY[change]


def _sight(number: int | None, rank: int | None, facts: SideFacts) -> Sight:
    if rank is not None:
        return _SIGHTS[rank]
    if number is not None:
        return Sight.NO_VERDICT
    return Sight.ABSENT if facts.whole else Sight.UNSEEN


def _item(found: tuple[Input | None, Input | None, bytes]) -> Item:
    before, after = (None if one is None else seen(one) for one in found[:2])
    change, direction, fresh, place, content = _told.decode(found[2])
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    if before is not None and after is not None and before.verdict and after.verdict:
        added = tuple(rule for rule in after.rules if rule not in set(before.rules))
        removed = tuple(rule for rule in before.rules if rule not in set(after.rules))
    return Item(
        change=change,
        direction=direction,
        fresh=fresh,
        place=place,
        content=content,
        before=before,
        after=after,
        rules_added=added,
        rules_removed=removed,
    )

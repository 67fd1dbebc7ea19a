"""What a whole report says, counted in a first pass, so that a second one can write totals ahead of rows.

The memory it takes does not grow with the number of rows: rules, engines and error codes are few, and
whatever else a hostile report could make many of is cut at a limit and told.
"""

from collections import Counter
from typing import Final

from batchscan.models import RiskLevel, Row
from batchscan.report.tally import Tally

NAMES_LIMIT: Final = 10_000
"""How many different rules, and how many runs, endpoints or sources, are told apart."""

NO_SCORE: Final = 101
"""Where findings without a score, or with one that cannot be, are counted: behind the mildest."""

SEVERITY: Final = (RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS, RiskLevel.BENIGN)
"""Levels, worst first."""


class Survey:
    """Counts rows.

    Attributes:
        tally: outcomes, verdicts, error codes, engines and the worst findings.
        scores: rows with a verdict by (level, score), ``NO_SCORE`` where there is none.
        rules: rows with a finding, by the id of each rule that hit in them, the primary one included.
        rule_names: names of rules by id, as first seen with a name.
        run_ids, endpoints, sources: what the rows name, in the order met.
        suppressed: suppressed findings by level.
        scanned: first and last time of a verdict, RFC 3339, None without any.
        cut: whether there were more rules, runs, endpoints or sources than are told apart.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.scores: Counter[tuple[RiskLevel, int]] = Counter()
        self.rules: Counter[str] = Counter()
        self.rule_names: dict[str, str | None] = {}
        self.run_ids: dict[str, None] = {}
        self.endpoints: dict[str, None] = {}
        self.sources: dict[str, None] = {}
        self.suppressed: Counter[RiskLevel] = Counter()
        self.scanned: tuple[str, str] | None = None
        self.cut = False

    def add(self, row: Row, *, suppressed: bool = False) -> None:
        """Count one row."""
        self.tally.add(row)
        self._note(self.run_ids, row.run_id)
        self._note(self.endpoints, row.endpoint)
        self._note(self.sources, row.source)
        if row.verdict is None:
            return
        self.scores[row.verdict, _score(row)] += 1
        if suppressed:
            self.suppressed[row.verdict] += 1
        if row.scanned_at is not None:
            first, last = self.scanned or (row.scanned_at, row.scanned_at)
            self.scanned = (min(first, row.scanned_at), max(last, row.scanned_at))
        if row.verdict is not RiskLevel.BENIGN:
            self._count_rules(row)

    def findings(self) -> int:
        """Count the rows that are malicious or suspicious, suppressed ones and duplicates too."""
        return self.tally.verdicts[RiskLevel.MALICIOUS] + self.tally.verdicts[RiskLevel.SUSPICIOUS]

    def missing(self) -> int:
        """Count the inputs without a verdict: rejected, failed, pending."""
        return self.tally.inputs - self.tally.verdicts.total()

    def worst_first(self, limit: int) -> "Cut":
        """Tell which findings are among the ``limit`` worst ones, without holding any of them."""
        return Cut(self.scores, limit)

    def _count_rules(self, row: Row) -> None:
        hits: dict[str, str | None] = {} if row.primary_rule is None else {row.primary_rule: None}
        for rule in row.rules:
            hits[rule.id] = hits.get(rule.id) or rule.name
        for rule_id, name in hits.items():
            if rule_id not in self.rules and len(self.rules) >= NAMES_LIMIT:
                self.cut = True
                continue
            self.rules[rule_id] += 1
            self.rule_names[rule_id] = self.rule_names.get(rule_id) or name

    def _note(self, names: dict[str, None], name: str) -> None:
        if name not in names:
            if len(names) >= NAMES_LIMIT:
                self.cut = True
                return
            names[name] = None


class Cut:
    """Takes the worst findings out of a stream: malicious first, then by score, then as they come.

    Attributes:
        left_out: how many findings are beyond the limit.
    """

    def __init__(self, scores: Counter[tuple[RiskLevel, int]], limit: int) -> None:
        self._room: dict[tuple[RiskLevel, int], int] = {}
        found = sorted(
            (key for key in scores if key[0] is not RiskLevel.BENIGN),
            key=lambda key: (SEVERITY.index(key[0]), key[1]),
        )
        self.left_out = max(0, sum(scores[key] for key in found) - limit)
        for key in found:
            self._room[key] = min(scores[key], limit)
            limit -= self._room[key]

    def take(self, row: Row) -> bool:
        """Whether this row is a finding within the limit; call it once for each row, in order."""
        if row.verdict is None or row.verdict is RiskLevel.BENIGN:
            return False
        key = (row.verdict, _score(row))
        room = self._room.get(key, 0)
        if room:
            self._room[key] = room - 1
        return room > 0


def _score(row: Row) -> int:
    return row.score if row.score is not None and 0 <= row.score < NO_SCORE else NO_SCORE

"""Counters of one run, which its summary, the progress and the logs read, and those that outlive it.

Plain mutable numbers, touched only from the event loop. Nothing is decided on them. A row costs one
addition to a run's counter: what a process has counted over all its runs is summed up when it is asked for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from batchscan.models import Outcome, RiskLevel

CALL_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0)
WAIT_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
VERDICT_S = (1, 2, 5, 10, 30, 60, 120, 240, 300, 330, 360, 420, 480, 600, 900, 1800, 3600, 5400, 7200)
"""Dense after five minutes, where the cloud is asked first."""
POLLS = (1, 2, 3, 5, 8, 13, 20, 40, 60, 100)


class Histogram:
    """Counts values by size.

    Attributes:
        bounds: upper, inclusive, ascending.
        counts: values up to each bound and above the one before; at the end those above the last.
        total: sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Rows:
    """What was written and what went wrong on the way, of one run or of several."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    verdicts: Counter[RiskLevel] = field(default_factory=Counter)
    throttled: int = 0
    retries: int = 0

    @classmethod
    def of(cls, stats: "Stats") -> "Rows":
        """Copy a run's counters as they are now."""
        return cls(Counter(stats.outcomes), Counter(stats.verdicts), stats.throttled, stats.retries)

    def add(self, other: "Rows", *, since: "Rows") -> None:
        """Add what ``other`` has more than ``since``."""
        self.outcomes.update(other.outcomes)
        self.outcomes.subtract(since.outcomes)
        self.verdicts.update(other.verdicts)
        self.verdicts.subtract(since.verdicts)
        self.throttled += other.throttled - since.throttled
        self.retries += other.retries - since.retries


class Meter:
    """Counts what a process does at one endpoint with one profile, over all its runs; never goes back.

    Attributes:
        calls: answered API calls by action and code, ``ok`` where there was none.
        call_s: how long they took, by action.
        wait_s: how long submissions and polls waited for the cap, by action.
        verdict_s: from an accepted submission to its verdict.
        polls: polls that a verdict took.
        billed_files: as the service tells with each verdict.
        newly_malicious: contents judged malicious that had no such verdict before.
        daily_budget: files that may be billed in a day; None without such a budget.
        quota_left: files, as the service told last; None where it did not, or where there is no limit.
    """

    def __init__(self, *, daily_budget: int | None = None) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.call_s: dict[str, Histogram] = {}
        self.wait_s: dict[str, Histogram] = {}
        self.verdict_s = Histogram(VERDICT_S)
        self.polls = Histogram(POLLS)
        self.billed_files = 0
        self.newly_malicious = 0
        self.daily_budget = daily_budget
        self.quota_left: int | None = None
        self._ended = Rows()
        self._live: list[tuple[Stats, Rows]] = []

    def answered(self, action: str, code: str, seconds: float) -> None:
        """Count an API call. ``code`` must be one of a bounded number."""
        self.calls[action, code] += 1
        self.call_s.setdefault(action, Histogram(CALL_S)).add(seconds)

    def waited(self, action: str, seconds: float) -> None:
        """Count a call that had its turn under the cap after so long."""
        self.wait_s.setdefault(action, Histogram(WAIT_S)).add(seconds)

    def judged(self, seconds: float, polls: int, files: int | None) -> None:
        """Count a verdict, so long after its submission, and the files that were billed for it."""
        self.verdict_s.add(seconds)
        self.polls.add(polls)
        self.billed_files += files or 0

    @contextmanager
    def following(self, stats: "Stats") -> Iterator[None]:
        """Take in what is counted of a run from now until the block ends."""
        entry = (stats, Rows.of(stats))
        self._live.append(entry)
        try:
            yield
        finally:
            self._live.remove(entry)
            self._ended.add(Rows.of(stats), since=entry[1])

    def rows(self) -> Rows:
        """Sum up the rows of all runs, those under way included."""
        found = Rows()
        found.add(self._ended, since=Rows())
        for stats, before in self._live:
            found.add(Rows.of(stats), since=before)
        return found


@dataclass(slots=True)
class Stats:
    """What has happened so far.

    Attributes:
        found: inputs discovered.
        discovery_done: no further inputs will come.
        skipped: things in a source that are no inputs, by reason (``unreadable-directory`` ...).
        outcomes: rows written to the report, by outcome.
        verdicts: rows with a verdict, by level.
        submitted: submissions accepted by the service in this process.
        waiting: inputs whose verdict is still to come.
        requests: API calls started, by action.
        throttled: calls refused with a rate limit.
        retries: calls made again after a failure.
        new_engines: engine versions that the service named for the first time.
        newly_malicious: contents judged malicious in this process that had no such verdict before.
        rate: submissions a second that the cap allows; None without a cap.
        meter: what outlives the run.
    """

    found: int = 0
    discovery_done: bool = False
    skipped: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    verdicts: Counter[RiskLevel] = field(default_factory=Counter)
    submitted: int = 0
    waiting: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    retries: int = 0
    new_engines: list[int] = field(default_factory=list)
    newly_malicious: int = 0
    rate: float | None = None
    meter: Meter = field(default_factory=Meter, compare=False)

    def judged(self, seconds: float, polls: int, files: int | None, *, news: bool) -> None:
        """Count a verdict as ``Meter.judged`` does; ``news``: malicious, and it was not known to be."""
        self.meter.judged(seconds, polls, files)
        if news:
            self.newly_malicious += 1
            self.meter.newly_malicious += 1

    def resume(self, requests: Mapping[str, int]) -> None:
        """Count from what is on record of a run: its calls so far, and nothing else yet."""
        fresh = Stats(rate=self.rate, meter=self.meter)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))
        self.requests.update(requests)

"""Counters of one run in this process: what the summary, the progress line and the logs read.

Plain mutable numbers, touched only from the event loop. Nothing is decided on them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchscan.models import Outcome, RiskLevel


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
        rate: submissions a second that the cap allows; None without a cap.
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
    rate: float | None = None

    def resume(self, requests: Mapping[str, int]) -> None:
        """Count from what is on record of a run: its calls so far, and nothing else yet."""
        fresh = Stats(rate=self.rate)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))
        self.requests.update(requests)

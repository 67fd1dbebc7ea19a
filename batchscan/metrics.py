"""Metrics: what the meters, the runs and the ledger say, in Prometheus' formats.

Nothing is counted here: the numbers are plain ones that belong to the work (``stats``, the ledger), and
are turned into samples when somebody asks. The registry is our own; the global one stays empty.
"""

import asyncio
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from batchscan import __version__, series
from batchscan.errors import LedgerError
from batchscan.ledger.gauges import Gauges, read_gauges
from batchscan.models import Outcome, RiskLevel
from batchscan.series import Kind, Series
from batchscan.stats import Histogram, Meter, Stats

log = structlog.get_logger(__name__)

_REST_S = 5.0
_REST_FACTOR = 20.0
"""After the ledger was looked at, rest this many times as long as it took."""

Value = float | Histogram
Samples = Iterable[tuple[tuple[str, ...], Value]]


@dataclass(slots=True)
class LastRun:
    """The latest runs of one schedule; times are epoch seconds, None where there was none yet.

    Attributes:
        started_at: of the latest, which may be under way.
        ended_at, exit_code, elapsed_s: of the one that ended last.
        succeeded_at: when one last ended complete.
        newly_malicious: contents, of the last one that wrote a row: one that could not begin says nothing.
        outcomes, verdicts: its rows; those that were in its report when it was resumed included.
    """

    started_at: float | None = None
    ended_at: float | None = None
    succeeded_at: float | None = None
    exit_code: int | None = None
    elapsed_s: float | None = None
    newly_malicious: int | None = None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    verdicts: Counter[RiskLevel] = field(default_factory=Counter)

    def began(self, now: float) -> None:
        """Note that a run begins; what is known of the last one stays until this one has ended."""
        self.started_at = now

    def ended(self, now: float, exit_code: int, stats: Stats, *, complete: bool) -> None:
        """Note how a run ended; ``complete``: every input has a final row."""
        self.ended_at = now
        self.exit_code = exit_code
        self.elapsed_s = None if self.started_at is None else now - self.started_at
        if stats.outcomes.total():
            self.newly_malicious = stats.newly_malicious
            self.outcomes, self.verdicts = Counter(stats.outcomes), Counter(stats.verdicts)
        if complete:
            self.succeeded_at = now


class Metrics:
    """All metrics of a process.

    Args:
        stamp: the label ``schedule`` of every sample: for a textfile, beside which others may lie.
        process: tell of the process as well (memory, descriptors, start).
        clock: epoch seconds.

    Attributes:
        registry: what a scrape reads.
        last_runs: by schedule; "" is for runs of no schedule.
        next_runs: when each schedule is next due, epoch seconds.
        runs: how many, by state; for a service that queues them.
        ready: how each check of its readiness stands.
    """

    def __init__(
        self, *, stamp: str | None = None, process: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.last_runs: dict[str, LastRun] = {}
        self.next_runs: dict[str, float] = {}
        self.runs: dict[str, int] = {}
        self.ready: dict[str, bool] = {}
        self._meters: dict[str, Meter] = {}
        self._gauges: list[Gauges] = []
        self._look_at = 0.0
        self._clock = clock
        self.registry.register(_Collector(self, stamp))
        if process:
            ProcessCollector(registry=self.registry)

    def meter(self, scope: str, *, daily_budget: int | None = None) -> Meter:
        """The meter of a profile and endpoint host; the same for all its runs."""
        meter = self._meters.setdefault(scope, Meter())
        meter.daily_budget = daily_budget
        return meter

    @property
    def meters(self) -> Mapping[str, Meter]:
        """All meters, by scope."""
        return self._meters

    def last_run(self, schedule: str) -> LastRun:
        """What is known of a schedule's latest runs."""
        return self.last_runs.setdefault(schedule, LastRun())

    async def look(self, ledger: Path, *, scope: str | None = None, at_once: bool = False) -> None:
        """Look at the ledger's file, unless that was done just now; that it cannot be read is logged.

        Args:
            ledger: its path.
            scope: of one only; None: of all.
            at_once: also if it was done just now.
        """
        if time.monotonic() < self._look_at and not at_once:
            return
        self._look_at = float("inf")  # one at a time
        began = time.monotonic()
        try:
            self._gauges = await asyncio.to_thread(read_gauges, ledger, now=self._clock(), scope=scope)
        except LedgerError as error:
            self._gauges = []
            log.warning("no metrics of the ledger", reason=str(error))
        finally:
            ended = time.monotonic()
            self._look_at = ended + max(_REST_S, _REST_FACTOR * (ended - began))

    def samples(self) -> Iterator[tuple[Series, Samples]]:
        """Tell all there is, series by series; one without a value is left out or empty."""
        yield series.BUILD, [((__version__, platform.python_version()), 1)]
        yield from self._counted()
        yield from self._in_ledger()
        yield from self._of_runs()
        yield series.NEXT_RUN, [((name,), at) for name, at in sorted(self.next_runs.items())]
        yield series.RUNS, [((state,), count) for state, count in sorted(self.runs.items())]
        yield series.READY, [((check,), ready) for check, ready in sorted(self.ready.items())]

    def _counted(self) -> Iterator[tuple[Series, Samples]]:
        meters = sorted(self._meters.items())
        rows = {scope: meter.rows() for scope, meter in meters}
        yield series.FILES, [((s, o), r.outcomes[o]) for s, r in rows.items() for o in Outcome]
        yield series.VERDICTS, [((s, v), r.verdicts[v]) for s, r in rows.items() for v in RiskLevel]
        yield series.RETRIES, [((s,), r.retries) for s, r in rows.items()]
        yield series.THROTTLED, [((s,), r.throttled) for s, r in rows.items()]
        yield series.NEWLY_MALICIOUS, [((s,), m.newly_malicious) for s, m in meters]
        yield series.BILLED, [((s,), m.billed_files) for s, m in meters]
        yield series.REQUESTS, [((s, *key), count) for s, m in meters for key, count in m.calls.items()]
        yield series.CALL_SECONDS, [((s, a), h) for s, m in meters for a, h in m.call_s.items()]
        yield series.WAIT_SECONDS, [((s, a), h) for s, m in meters for a, h in m.wait_s.items()]
        yield series.VERDICT_SECONDS, [((s,), m.verdict_s) for s, m in meters]
        yield series.POLLS, [((s,), m.polls) for s, m in meters]
        yield series.QUOTA_LEFT, [((s,), m.quota_left) for s, m in meters if m.quota_left is not None]

    def _in_ledger(self) -> Iterator[tuple[Series, Samples]]:
        found = self._gauges
        yield series.IN_PROGRESS, [((g.scope, state), n) for g in found for state, n in g.in_progress.items()]
        yield series.OLDEST_PENDING, [((g.scope, state), at) for g in found for state, at in g.oldest.items()]
        yield series.ENGINES, [((g.scope,), g.engines) for g in found]
        yield (
            series.ENGINE_SEEN,
            [((g.scope,), g.engine_seen_at) for g in found if g.engine_seen_at is not None],
        )
        yield series.DAY_BILLED, [((g.scope,), g.day_billed) for g in found]
        yield series.DAY_RESERVED, [((g.scope,), g.day_reserved) for g in found]
        budgets = {s: m.daily_budget for s, m in self._meters.items() if m.daily_budget is not None}
        yield series.BUDGET, [((s,), budget) for s, budget in sorted(budgets.items())]
        yield (
            series.BUDGET_LEFT,
            [
                ((g.scope,), max(0, budgets[g.scope] - g.day_billed - g.day_reserved))
                for g in found
                if g.scope in budgets
            ],
        )

    def _of_runs(self) -> Iterator[tuple[Series, Samples]]:
        runs = sorted(self.last_runs.items())
        for what, attribute in RUN_VALUES.items():
            values = [((name,), getattr(run, attribute)) for name, run in runs]
            yield what, [(labels, value) for labels, value in values if value is not None]
        ended = [(name, run) for name, run in runs if run.ended_at is not None]
        yield series.RUN_FILES, [((name, o), run.outcomes[o]) for name, run in ended for o in Outcome]
        yield series.RUN_VERDICTS, [((name, v), run.verdicts[v]) for name, run in ended for v in RiskLevel]


RUN_VALUES: Mapping[Series, str] = {
    series.RUN_START: "started_at",
    series.RUN_END: "ended_at",
    series.RUN_SUCCESS: "succeeded_at",
    series.RUN_EXIT: "exit_code",
    series.RUN_SECONDS: "elapsed_s",
    series.RUN_NEWS: "newly_malicious",
}
"""The series of a schedule that have one value, and where in ``LastRun`` it is."""


class _Collector(Collector):
    """Makes families of samples; asked anew for each scrape."""

    def __init__(self, metrics: Metrics, stamp: str | None) -> None:
        self._metrics = metrics
        self._stamp = stamp

    def collect(self) -> Iterator[Metric]:
        for what, samples in self._metrics.samples():
            stamped = self._stamp is not None and "schedule" not in what.labels
            labels = (*what.labels, "schedule") if stamped else what.labels
            more = (self._stamp or "",) if stamped else ()
            family = _FAMILIES[what.kind](f"{series.PREFIX}{what.short}", what.help, labels=labels)
            for values, value in samples:
                if isinstance(value, Histogram):
                    family.add_metric((*values, *more), _cumulated(value), value.total)
                else:
                    family.add_metric((*values, *more), float(value))
            if family.samples:
                yield family


_FAMILIES = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


def _cumulated(histogram: Histogram) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, map(float, histogram.bounds)), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


def render(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Write all metrics in the format that the request's ``Accept`` header asks for.

    Returns:
        The body and its content type.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type

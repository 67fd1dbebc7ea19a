"""The metrics by name: kind, labels, meaning. One list, which ``docs/metrics.md`` shows and a test holds.

Names follow Prometheus' conventions: units in the name, ``_total`` for what only grows. No label holds a
path, a hash or a text of the service; each has a bounded number of values.
"""

from enum import StrEnum
from typing import Final

import msgspec

PREFIX: Final = "batchscan_"


class Kind(StrEnum):
    """Of a metric, as Prometheus calls it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Series(msgspec.Struct, frozen=True):
    """One metric; ``labels`` are those beside ``schedule`` in a textfile."""

    short: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def name(self) -> str:
        """As it is scraped."""
        return f"{PREFIX}{self.short}{'_total' if self.kind is Kind.COUNTER else ''}"


def _counter(short: str, labels: str, text: str) -> Series:
    return Series(short, Kind.COUNTER, tuple(labels.split()), text)


def _gauge(short: str, labels: str, text: str) -> Series:
    return Series(short, Kind.GAUGE, tuple(labels.split()), text)


def _histogram(short: str, labels: str, text: str) -> Series:
    return Series(short, Kind.HISTOGRAM, tuple(labels.split()), text)


BUILD = _gauge("build_info", "version python", "Always 1; says which batchscan and which Python this is.")

FILES = _counter(
    "files", "scope outcome", "Rows written, by outcome; `reused` are those that the ledger answered."
)
VERDICTS = _counter("verdicts", "scope verdict", "Rows with a verdict, reused ones included.")
NEWLY_MALICIOUS = _counter(
    "newly_malicious", "scope", "Contents judged malicious that no verdict on record had called so."
)
REQUESTS = _counter(
    "api_requests",
    "scope action code",
    "API calls that ended; code `ok`, one of docs/errors.md, or `other`.",
)
RETRIES = _counter("retries", "scope", "Calls that failed and are made again.")
THROTTLED = _counter("throttled", "scope", "Calls that the service refused with its rate limit.")
BILLED = _counter(
    "billed_files",
    "scope",
    "Files inside ZIPs that the service billed, as its verdicts tell; a scan told again is not.",
)

CALL_SECONDS = _histogram(
    "api_request_duration_seconds", "scope action", "API calls, from sending to the whole answer or failure."
)
WAIT_SECONDS = _histogram(
    "limiter_wait_seconds", "scope action", "How long a call waited for its turn under the rate cap."
)
VERDICT_SECONDS = _histogram(
    "verdict_latency_seconds", "scope", "From a submission that was accepted to its verdict."
)
POLLS = _histogram("verdict_polls", "scope", "Polls that a verdict took.")

IN_PROGRESS = _gauge(
    "in_progress",
    "scope stage",
    "Contents on record without a verdict: `admitted`, `submitting` or `scanning`.",
)
OLDEST_PENDING = _gauge(
    "oldest_pending_timestamp_seconds",
    "scope stage",
    "Since when the oldest that a run waits for is due (`admitted`) or with the service (`scanning`).",
)
ENGINES = _gauge("engines", "scope", "Engine versions that the service has named so far.")
ENGINE_SEEN = _gauge(
    "engine_first_seen_timestamp_seconds", "scope", "When the latest engine version was first named."
)
DAY_BILLED = _gauge("day_billed_files", "scope", "Files billed today (UTC), by all processes of the ledger.")
DAY_RESERVED = _gauge("day_reserved_files", "scope", "Files sent today and not judged yet.")
BUDGET = _gauge("daily_budget_files", "scope", "Files that may be billed in a day; absent without a budget.")
BUDGET_LEFT = _gauge("daily_budget_left_files", "scope", "What is left of that today.")
QUOTA_LEFT = _gauge(
    "quota_left_files", "scope", "Files left in the account's order, when the service was last asked."
)

RUN_START = _gauge("last_run_start_timestamp_seconds", "schedule", "When the latest run began.")
RUN_END = _gauge("last_run_end_timestamp_seconds", "schedule", "When a run last ended.")
RUN_SUCCESS = _gauge(
    "last_success_timestamp_seconds",
    "schedule",
    "When a run last ended complete: every input has a row that is final.",
)
RUN_EXIT = _gauge("last_run_exit_code", "schedule", "What the run that ended last ended with.")
RUN_SECONDS = _gauge("last_run_duration_seconds", "schedule", "How long that took.")
RUN_FILES = _gauge("last_run_files", "schedule outcome", "Rows of the last run that wrote any, by outcome.")
RUN_VERDICTS = _gauge("last_run_verdicts", "schedule verdict", "Of those, the ones with a verdict.")
RUN_NEWS = _gauge(
    "last_run_newly_malicious", "schedule", "Contents that run was the first to find malicious."
)

NEXT_RUN = _gauge("next_run_timestamp_seconds", "schedule", "Service only: when a schedule is next due.")
RUNS = _gauge("runs", "state", "Service only: runs that are `queued` or `running`.")
READY = _gauge(
    "readiness", "check", "Service only: 1 where a check of /readyz holds: `ledger`, `config`, `accepting`."
)

CATALOGUE: Final = (
    *(BUILD, FILES, VERDICTS, NEWLY_MALICIOUS, REQUESTS, RETRIES, THROTTLED, BILLED),
    *(CALL_SECONDS, WAIT_SECONDS, VERDICT_SECONDS, POLLS),
    *(IN_PROGRESS, OLDEST_PENDING, ENGINES, ENGINE_SEEN),
    *(DAY_BILLED, DAY_RESERVED, BUDGET, BUDGET_LEFT, QUOTA_LEFT),
    *(RUN_START, RUN_END, RUN_SUCCESS, RUN_EXIT, RUN_SECONDS, RUN_FILES, RUN_VERDICTS, RUN_NEWS),
    *(NEXT_RUN, RUNS, READY),
)

"""A dry run: what a scan would submit, reuse and reject, what it would cost, and whether that fits.

No file is sent. Where there are credentials for an endpoint elsewhere, its quota is asked for.
"""

import sys
import time
from pathlib import Path

import msgspec

from batchscan.admit import Admitter
from batchscan.config import Config
from batchscan.connect import QUESTION, Access, connect
from batchscan.discover import Filters, discover, resolve_sources
from batchscan.errors import ServiceError
from batchscan.ledger.admission import Admission
from batchscan.ledger.backlog import Backlog
from batchscan.ledger.runs import RunRequest
from batchscan.ledger.standing import Freshness, Item, Known
from batchscan.ledger.store import Ledger
from batchscan.models import ScanState, Stage
from batchscan.quota import Quota, ask_quota, fit_in_words, left_in_words, to_quota
from batchscan.report.text import duration, printable
from batchscan.stats import Stats

_NO_RUN = 0
"""No run has this number in the ledger."""


class Plan(msgspec.Struct, kw_only=True):
    """What a scan would do; files are counted inside the ZIPs, as the service bills them.

    Attributes:
        inputs: rows that the report would have.
        submitted: distinct contents that would be sent.
        billed_files: files inside them.
        under_way: distinct contents that the service has already and has not judged yet.
        reused: inputs whose verdict is in the ledger.
        duplicates: inputs with the same bytes as an earlier one.
        rejected: inputs that the service cannot take, by code.
        seconds_at_cap: time that the submissions take at the cap; None without a cap.
        quota: of the account, where it was asked for.
        fitting: files of ``billed_files`` that fit into it; None where that is not known.
        quota_unasked: why it was not told; None also where there is nothing to ask for.
    """

    endpoint: str
    inputs: int = 0
    submitted: int = 0
    billed_files: int = 0
    under_way: int = 0
    reused: int = 0
    duplicates: int = 0
    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    skipped: dict[str, int] = msgspec.field(default_factory=dict)
    seconds_at_cap: float | None = None
    quota: Quota | None = None
    fitting: int | None = None
    quota_unasked: str | None = None

    @property
    def exit_code(self) -> int:
        """5 when there is nothing to scan."""
        return 0 if self.inputs else 5

    def refuse(self, code: str) -> None:
        """Count a rejected input."""
        self.rejected[code] = self.rejected.get(code, 0) + 1


async def make_plan(config: Config, ledger: Ledger, request: RunRequest, stdin: Path | None) -> Plan:
    """Look at all inputs as a scan would, but admit none.

    Raises:
        BatchscanError: a source or the ledger cannot be used.
    """
    plan = Plan(endpoint=config.endpoint)
    stats = Stats()
    sources = resolve_sources(request.sources, request.manifests, nul=request.nul, stdin_spool=stdin)
    admission = Admission(ledger, _NO_RUN)
    admitter = Admitter(admission, limit_bytes=config.limit_bytes, rehash=config.rehash)
    now = time.time()
    fresh = Freshness(now, 0.0 if config.max_age_s is None else now - config.max_age_s)
    filters = Filters(include=request.include, exclude=request.exclude)
    try:
        async for batch in discover(sources, filters, stats):
            plan.inputs += len(batch)
            items, rejections = await admitter.inspect(batch)
            for _, rejection in rejections:
                plan.refuse(rejection.problem.code)
            await _count(plan, admission, items, fresh)
    finally:
        admitter.close()
    plan.skipped = dict(stats.skipped)
    plan.seconds_at_cap = None if config.create_rate is None else plan.submitted / config.create_rate
    return plan


async def compare_quota(plan: Plan, config: Config, ledger: Ledger, access: Access) -> None:
    """Ask for the account's quota and compare; that it is not told stops no dry run.

    Raises:
        UsageError: the proxy or the CA file cannot be used.
        LedgerError: the ledger failed.
    """
    backlog = Backlog(ledger)
    try:
        async with connect(config, access, Stats(), QUESTION) as (client, target):
            info = await ask_quota(client)
    except ServiceError as error:
        plan.quota_unasked = f"not told, {error}"
        return
    plan.quota = to_quota(
        info,
        target.name,
        under_way=await backlog.work(Stage.POLL),
        pending=await backlog.work(Stage.SUBMIT),
    )
    plan.fitting = plan.quota.fit(plan.billed_files)


async def _count(
    plan: Plan, admission: Admission, items: list[tuple[Item, Known | None]], fresh: Freshness
) -> None:
    firsts = await admission.first_seen([item for item, _ in items])
    standings = await admission.standings([item.content.artifact.digest for item, _ in items])
    for (item, _), first in zip(items, firsts, strict=True):
        standing = standings.get(item.content.artifact.digest)
        plan.duplicates += first is not None
        if item.content.problem is not None:
            plan.refuse(item.content.problem.code)
        elif fresh.live(standing):
            plan.reused += 1
        elif first is not None:
            continue
        elif standing is not None and standing.state is ScanState.SCANNING:
            plan.under_way += 1
        else:
            plan.submitted += 1
            plan.billed_files += item.content.artifact.file_count


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print it on stdout."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(plan) + b"\n")
        return
    cap = "no cap" if plan.seconds_at_cap is None else f"{duration(plan.seconds_at_cap)} at the cap"
    sent = "nothing was sent" if plan.quota is None else "no file was sent, only the quota was asked for"
    lines = [
        f"dry run: {plan.inputs:,} inputs, {sent}",
        f"would be submitted to {plan.endpoint}: {plan.submitted:,} ({cap})",
        f"files that would be billed: {plan.billed_files:,}",
        *_quota(plan),
        f"under way at the service: {plan.under_way:,}",
        f"reused from the ledger: {plan.reused:,}",
        f"duplicates of an earlier input: {plan.duplicates:,}",
        f"rejected: {sum(plan.rejected.values()):,}{_listed(plan.rejected)}",
    ]
    if plan.skipped:
        lines.append(f"skipped, no inputs: {sum(plan.skipped.values()):,}{_listed(plan.skipped)}")
    print("\n".join(printable(line) for line in lines))  # noqa: T201 - data goes to stdout


def _quota(plan: Plan) -> list[str]:
    if plan.quota is not None:
        exhausted = ", nothing more can be scanned" if plan.quota.exhausted else ""
        return [
            f"quota: {left_in_words(plan.quota)}{exhausted}; {fit_in_words(plan.quota, plan.billed_files)}"
        ]
    return [] if plan.quota_unasked is None else [f"quota: {plan.quota_unasked}"]


def _listed(counts: dict[str, int]) -> str:
    return (
        " (" + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) + ")"
        if counts
        else ""
    )

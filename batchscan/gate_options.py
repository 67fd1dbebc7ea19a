"""The gate as it is asked for on the command line: checked, and its files read, before anything is sent."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import structlog

from batchscan.baseline import Baseline
from batchscan.config import Config
from batchscan.errors import UsageError
from batchscan.gate import LEVELS, Gate
from batchscan.ledger.runs import RunRecord, Runs
from batchscan.models import RiskLevel
from batchscan.previous import report_of
from batchscan.session import LEDGER_FILE, open_state
from batchscan.suppressions import Suppressions

log = structlog.get_logger(__name__)


class GateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was given, unchecked. ``baseline`` is a report or the id of a run."""

    fail_on: str | None = None
    incomplete: bool = False
    baseline: str | None = None
    suppressions: Path | None = None

    @property
    def given(self) -> bool:
        """Whether anything here can fail a command."""
        return self.fail_on is not None or self.incomplete

    def gate(self, config: Config, report: Path | None = None) -> Gate:
        """Check what was given and read the files; blocks.

        Args:
            config: where runs are looked for.
            report: where to look for what a suppression without content may be about.

        Raises:
            UsageError: it is no verdict, or a file cannot be used.
            LedgerError: the ledger cannot be read.
        """
        fail_on = None if self.fail_on is None else _level(self.fail_on)
        suppressions = None
        if self.suppressions is not None:
            suppressions = Suppressions.load(self.suppressions, today(), report)
        file = None if self.baseline is None else _report(config, self.baseline)
        baseline = None if file is None else Baseline.load(file)
        if baseline is not None and baseline.missing:
            log.warning("the baseline has inputs without a verdict", baseline=file, inputs=baseline.missing)
        return Gate(
            fail_on=fail_on,
            incomplete=self.incomplete,
            baseline=baseline,
            suppressions=suppressions,
            baseline_file=file,
            suppressions_file=self.suppressions,
        )


def today() -> date:
    """The day by which suppressions expire."""
    return datetime.now(UTC).date()


def _level(text: str) -> RiskLevel:
    if text in LEVELS:
        return RiskLevel(text)
    bare = text.removeprefix("new-")
    if bare in LEVELS:
        raise UsageError(
            f"--fail-on: {text!r} is for `batchscan compare`; here --fail-on {bare} with --baseline counts"
            " only what is new"
        )
    raise UsageError(f"--fail-on: {text!r} is neither malicious nor suspicious")


def _report(config: Config, name: str) -> Path:
    """Find the report that a baseline means: a file, or the report of a run."""
    file = Path(name)
    if file.is_file():
        return file.absolute()
    record = asyncio.run(_run(config, name)) if (config.state_dir / LEDGER_FILE).exists() else None
    if record is None:
        raise UsageError(
            f"--baseline: {name!r} is neither a report nor a run in {config.state_dir}; `batchscan status`"
            " lists the runs"
        )
    return report_of(record)


async def _run(config: Config, run_id: str) -> RunRecord | None:
    async with open_state(config) as ledger:
        return await Runs(ledger).get(run_id)

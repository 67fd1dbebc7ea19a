"""What the commands do that read reports: `report`. They make no API call and bill nothing."""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec

from batchscan.commands import configured, has_ledger
from batchscan.config import Config
from batchscan.errors import UsageError
from batchscan.ledger.runs import RunRecord, Runs
from batchscan.publish import name_documents, publish, survey
from batchscan.session import open_state
from batchscan.streams import data_on_stdout
from batchscan.suppressions import Suppressions, warn_of


class Located(msgspec.Struct, frozen=True):
    """A report to read, and its run, where the ledger knows it."""

    file: Path
    record: RunRecord | None


def report(
    settings: dict[str, Any],
    name: str | None,
    formats: tuple[str, ...],
    outputs: tuple[Path, ...],
    accepted: Path | None,
) -> int:
    """Write a report in other formats. ``accepted`` is a file of suppressions.

    Raises:
        BatchscanError: there is no such report, or it could not be done.
    """
    if not formats:
        raise UsageError("name a --format")
    located = asyncio.run(locate(configured(settings), name))
    documents = name_documents(formats, outputs, located.file.stem)
    suppressions = Suppressions.load(accepted, today(), located.file)
    found = survey(located.file, suppressions.match)
    audit = suppressions.audit()
    warn_of(audit)
    with data_on_stdout():
        publish(
            located.file,
            documents,
            found,
            suppressions.match,
            state=None if located.record is None else located.record.state,
            audit=audit,
        )
    return 0


def today() -> date:
    """The day by which suppressions expire."""
    return datetime.now(UTC).date()


async def locate(config: Config, name: str | None) -> Located:
    """Find a report by its file, by its run, or the latest run's.

    Raises:
        UsageError: there is none such.
    """
    file = None if name is None else await asyncio.to_thread(_existing, name)
    if file is not None:
        if not has_ledger(config):
            return Located(file, None)
        async with open_state(config) as ledger:
            return Located(file, await Runs(ledger).latest_for_report(file))
    record = None
    if has_ledger(config):
        async with open_state(config) as ledger:
            runs = Runs(ledger)
            record = await runs.get(name) if name is not None else next(iter(await runs.latest(1)), None)
    if record is not None:
        return Located(record.report, record)
    if name is None:
        raise UsageError(f"no runs yet in {config.state_dir}: name a report")
    raise UsageError(
        f"{name}: is neither a report nor a run in {config.state_dir}; `batchscan status` lists the runs"
    )


def _existing(name: str) -> Path | None:
    file = Path(name)
    return file.absolute() if file.is_file() else None

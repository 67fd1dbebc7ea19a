"""What the commands do that read reports: `report`. They make no API call and bill nothing."""

import asyncio
import sys
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import structlog

from batchscan.commands import configured, has_ledger
from batchscan.config import Config
from batchscan.errors import ReportError, UsageError
from batchscan.formats.registry import find_format
from batchscan.gate import GateTally
from batchscan.gate_options import GateOptions
from batchscan.ledger.runs import RunRecord, Runs
from batchscan.lookback import look_back
from batchscan.models import RunState
from batchscan.previous import report_of, run_of
from batchscan.publish import name_documents, publish, survey
from batchscan.report.gaps import find_gaps
from batchscan.report.gate import gate_lines
from batchscan.report.replaced import refuse_overwriting
from batchscan.report.survey import Survey
from batchscan.report.text import printable
from batchscan.session import open_state
from batchscan.streams import data_on_stdout
from batchscan.suppressions import Suppressions, warn_of

log = structlog.get_logger(__name__)


class Located(msgspec.Struct, frozen=True):
    """A report to read, and its run, where the ledger knows it."""

    file: Path
    record: RunRecord | None


def report(
    settings: dict[str, Any],
    name: str | None,
    formats: tuple[str, ...],
    outputs: tuple[Path, ...],
    options: GateOptions,
) -> int:
    """Write a report in other formats, and hold it against a gate.

    Raises:
        BatchscanError: there is no such report, or it could not be done.
    """
    if not formats and not options.given:
        raise UsageError("name a --format, or what to --fail-on")
    config = configured(settings)
    located = asyncio.run(locate(config, name))
    documents = name_documents(formats, outputs, located.file.stem) if formats else []
    gate = options.gate(config, located.file)
    for document, read in product(documents, (gate.baseline_file, gate.suppressions_file)):
        if document.file is not None and read is not None:
            refuse_overwriting(document.file, read, "read for the gate")
    suppressions = gate.suppressions or Suppressions()
    counted = GateTally(gate)
    found = survey(located.file, suppressions.match, counted.add)
    audit = suppressions.audit()
    warn_of(audit)
    state = None if located.record is None else located.record.state
    if documents:
        past = any(find_format(document.format).looks_back for document in documents)
        run = look_back(config, located.file, located.record) if past and located.record else None
        with data_on_stdout():
            publish(
                located.file,
                documents,
                found,
                suppressions.match,
                state=state,
                summary=None if located.record is None else located.record.summary,
                audit=audit,
                run=run,
            )
    for line in gate_lines(counted.use() if options.given else None):
        print(printable(line), file=sys.stderr)  # noqa: T201 - data goes to stdout, this is none
    if gate.incomplete and _is_incomplete(found, located.record):
        return ReportError.exit_code
    return 1 if counted.reached() else 0


def _is_incomplete(found: Survey, record: RunRecord | None) -> bool:
    """Whether inputs have no verdict, or may have no row; says which on stderr."""
    state, summary = (None, None) if record is None else (record.state, record.summary)
    if record is None:
        log.warning("whether the run of this report has ended is not known here: no ledger has it")
    missing, rows = found.missing(), found.tally.inputs
    gaps = find_gaps(summary, rows)
    whole = rows and not missing and not gaps.any and state in (None, RunState.COMPLETE)
    if not whole:
        log.warning(
            "the report is incomplete",
            rows=rows,
            without_verdict=missing,
            without_row=gaps.rowless,
            unread_directories=gaps.unread,
            state=state,
        )
    return not whole


async def locate(config: Config, name: str | None) -> Located:
    """Find a report by its file, by its run, or the latest run's; the run is the one that wrote its rows.

    Raises:
        UsageError: there is none such, or the run's report holds the rows of another run.
    """
    file = None if name is None else await asyncio.to_thread(_existing, name)
    if file is not None:
        if not has_ledger(config):
            return Located(file, None)
        run_id = await asyncio.to_thread(run_of, file)
        async with open_state(config) as ledger:
            runs = Runs(ledger)
            known = runs.latest_for_report(file) if run_id is None else runs.get(run_id)
            return Located(file, await known)
    record = None
    if has_ledger(config):
        async with open_state(config) as ledger:
            runs = Runs(ledger)
            record = await runs.get(name) if name is not None else next(iter(await runs.latest(1)), None)
    if record is not None:
        return Located(await asyncio.to_thread(report_of, record), record)
    if name is None:
        raise UsageError(f"no runs yet in {config.state_dir}: name a report")
    raise UsageError(
        f"{name}: is neither a report nor a run in {config.state_dir}; `batchscan status` lists the runs"
    )


def _existing(name: str) -> Path | None:
    file = Path(name)
    return file.absolute() if file.is_file() else None

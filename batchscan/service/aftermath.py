"""What follows a run of a schedule: its documents, its decisions, a notice.

Each step is tried by itself and told with what it came to, in the log and in the ledger: one that fails
harms neither the others nor the service. What a kill interrupts is done again at the next start.
"""

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from batchscan.config import Config
from batchscan.decisions.making import Wanted, make_decisions
from batchscan.decisions.policy_file import read_policy
from batchscan.errors import BatchscanError, LedgerError
from batchscan.formats.registry import find_format
from batchscan.ledger.aftermaths import Owed, Plan, Step, owed, settle
from batchscan.ledger.queue import QueueState
from batchscan.ledger.runs import RunRecord, Runs
from batchscan.ledger.store import Ledger
from batchscan.logs import scrub
from batchscan.lookback import look_back
from batchscan.models import Problem
from batchscan.notice import Trouble, failure
from batchscan.notify import Receiver, deliver, find_receiver
from batchscan.publish import Document, publish, survey
from batchscan.report.summary import decode_summary
from batchscan.suppressions import Suppressions, warn_of
from batchscan.telling import beside, tell

_log = structlog.get_logger(__name__)

_LOOK_S: Final = 2.0
_FAILED_CODE: Final = 70


class Aftermath:
    """Does what is owed to runs of schedules.

    Args:
        ledger: holds what is owed.
        reader: the same once more, for look-ups.
        config: of the service: who is told.
    """

    def __init__(self, ledger: Ledger, reader: Ledger, config: Config) -> None:
        self._ledger = ledger
        self._reader = reader
        self._config = config

    async def run(self) -> None:
        """Do what is owed, as it comes, until cancelled."""
        while True:
            try:
                for each in await self._reader.read(owed):
                    await self.follow(each)
            except LedgerError as error:
                _log.error("schedule-not-followed", reason=str(error))
            await asyncio.sleep(_LOOK_S)

    async def follow(self, each: Owed) -> None:
        """Do what is owed to one run.

        Raises:
            LedgerError: the ledger failed; it stays owed.
        """
        with structlog.contextvars.bound_contextvars(run_id=each.run_id, schedule=each.schedule):
            steps = []
            record = await Runs(self._ledger).get(each.run_id)
            if record is not None and each.state in (QueueState.COMPLETE, QueueState.INCOMPLETE):
                for name, file, work in _written(each, record, self._config):
                    steps.append(await _tried(name, file, work))
            if each.plan.notify and each.state is not QueueState.CANCELLED:
                steps += await self._told(each, record)
            await self._ledger.write(partial(settle, run_id=each.run_id, steps=tuple(steps), now=time.time()))
            failed = [step for step in steps if step.problem is not None]
            log = _log.warning if failed else _log.info
            log("schedule-followed", state=each.state, steps=[msgspec.structs.asdict(step) for step in steps])

    async def _told(self, each: Owed, record: RunRecord | None) -> list[Step]:
        try:
            receiver = find_receiver(self._config, os.environ)
            taken = None if receiver is None else await self._notice(receiver, each, record)
        except BatchscanError as error:
            return [Step("notice", problem=scrub(str(error)))]
        if taken is None:  # there is nobody to tell, or nothing
            return []
        return [Step("notice", problem=None if taken else "the receiver did not take it; see the log")]

    async def _notice(self, receiver: Receiver, each: Owed, record: RunRecord | None) -> bool | None:
        if record is not None and record.summary is not None and each.state is not QueueState.FAILED:
            return await tell(receiver, self._ledger, decode_summary(record.summary))
        problem = msgspec.json.decode(each.problem, type=Problem) if each.problem else Problem("failed", "")
        endpoint = self._config.endpoint if record is None else record.request.endpoint
        notice = failure(Trouble(problem.code, problem.message), _FAILED_CODE, endpoint, datetime.now(UTC))
        return await deliver(receiver, msgspec.structs.replace(notice, run_id=each.run_id))


def _written(each: Owed, record: RunRecord, config: Config) -> list[tuple[str, Path, Callable[[], None]]]:
    """What is to be written: a name, the file, and what writes it."""
    plan = each.plan
    if plan.reports_dir is None:
        return []
    directory = Path(plan.reports_dir)
    found: list[tuple[str, Path, Callable[[], None]]] = []
    for form in plan.reports:
        file = directory / f"{each.schedule}-{each.run_id}{find_format(form).suffix}"
        found.append((f"report {form}", file, partial(_report, form, file, plan, record, config)))
    if plan.policy is not None:
        file = directory / f"{each.schedule}.decisions.json"
        found.append(("decisions", file, partial(_decisions, file, plan, record)))
    return found


def _report(form: str, file: Path, plan: Plan, record: RunRecord, config: Config) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    accepted = _path(plan.suppressions)
    suppressions = Suppressions.load(accepted, datetime.now(UTC).date(), record.report)
    found = survey(record.report, suppressions.match)
    audit = suppressions.audit()
    warn_of(audit)
    past = look_back(config, record.report, record) if find_format(form).looks_back else None
    publish(
        record.report,
        [Document(form, file)],
        found,
        suppressions.match,
        state=record.state,
        summary=record.summary,
        audit=audit,
        run=past,
    )


def _decisions(file: Path, plan: Plan, record: RunRecord) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    policy = _path(plan.policy)
    wanted = Wanted(
        output=file,
        policy=policy,
        previous=file if read_policy(policy).grace_days else None,  # no other use than the grace's
        suppressions=_path(plan.suppressions),
    )
    make_decisions(record.report, record.state, wanted)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


async def _tried(name: str, file: Path, work: Callable[[], None]) -> Step:
    try:
        await beside(work)
    except (BatchscanError, OSError) as error:
        return Step(name, problem=scrub(str(error)))
    except Exception as error:  # noqa: BLE001 - the other steps are to be done all the same
        _log.exception("a step failed: this is a defect of batchscan, please report it", step=name)
        return Step(name, problem=scrub(f"{type(error).__name__}: {error}"))
    return Step(name, file=str(file))

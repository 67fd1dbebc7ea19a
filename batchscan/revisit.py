"""The commands that go back to what was judged before; they return the exit code and never exit."""

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from batchscan.commands import Ends, Show, configured, has_ledger, made, settle_for
from batchscan.conclusion import Terms
from batchscan.config import Config
from batchscan.connect import find_access
from batchscan.errors import NothingMatchedError, UsageError
from batchscan.explain import explain_all, show_explanations
from batchscan.ledger.chosen import Selection, Which, extent
from batchscan.ledger.runs import RunRequest
from batchscan.models import RiskLevel, RunState
from batchscan.report.summary import Summary
from batchscan.rescan import RescanPlan, show_rescan_plan
from batchscan.session import Session, open_state
from batchscan.streams import data_on_stdout
from batchscan.telling import telling

if TYPE_CHECKING:
    from batchscan.textfile import Textfile

log = structlog.get_logger(__name__)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be submitted again, as given; exactly one of the first five."""

    engine_before: int | None = None
    expired: bool = False
    failed: bool = False
    verdict: str | None = None
    everything: bool = False
    sample: int | None = None
    go_on: bool = False

    def selection(self) -> Selection:
        """Check what was given.

        Raises:
            UsageError: none or several were given, or the verdict is no verdict.
        """
        given = {
            Which.ENGINE_BEFORE: None if self.engine_before is None else str(self.engine_before),
            Which.EXPIRED: "" if self.expired else None,
            Which.FAILED: "" if self.failed else None,
            Which.VERDICT: self.verdict,
            Which.ALL: "" if self.everything else None,
        }
        chosen = [(which, value) for which, value in given.items() if value is not None]
        if len(chosen) != 1:
            names = ", ".join(f"--{which}" for which in Which)
            raise UsageError(f"say what to submit again, by exactly one of {names}")
        if self.verdict is not None and self.verdict not in tuple(RiskLevel):
            raise UsageError(f"--verdict: {self.verdict!r} is not one of {', '.join(RiskLevel)}")
        if self.go_on and self.sample is None:
            raise UsageError("--yes goes on after a --sample; give one, or leave --yes out")
        which, value = chosen[0]
        return Selection(which=which, value=value or None)


def rescan(settings: dict[str, Any], wanted: Wanted, ends: Ends, show: Show, *, dry_run: bool) -> int:
    """Submit again what the ledger knows, or with ``dry_run`` say what that would be.

    Raises:
        BatchscanError: it could not be done.
    """
    if dry_run:
        return _rescan(settings, wanted, ends, show, None, dry_run=True)
    return ends.metered(lambda textfile: _rescan(settings, wanted, ends, show, textfile, dry_run=False))


def _rescan(
    settings: dict[str, Any],
    wanted: Wanted,
    ends: Ends,
    show: Show,
    textfile: "Textfile | None",
    *,
    dry_run: bool,
) -> int:
    selection = wanted.selection()
    found = settle_for(settings)
    config = found.config
    terms = ends.terms(config)
    if not has_ledger(config):
        raise NothingMatchedError(f"nothing to submit again: there is no ledger in {config.state_dir}")
    request = RunRequest(
        sources=(),
        directory=str(Path.cwd()),
        endpoint=config.endpoint,
        endpoint_name=found.endpoint_name,
        profile=config.profile,
        settings=found.to_record(),
        rescan=selection,
        sample=wanted.sample,
    )
    if dry_run:
        return asyncio.run(_dry_run(config, request, terms, show))
    output = None if ends.output is None else ends.output.absolute()

    async def work(session: Session) -> Summary:
        summary = await session.scan(request, terms, spool=None, output=output, overwrite=ends.overwrite)
        if not (wanted.go_on and _sample_is_done(summary)):
            return summary
        _tell_of_sample(summary)
        return await session.go_on(summary.run_id, terms)

    with telling(config, output) as ended:
        return asyncio.run(made(config, find_access(config), show, work, textfile, ended))


def explain(settings: dict[str, Any], name: str, *, as_json: bool) -> int:
    """Say everything that is known of one file.

    Raises:
        BatchscanError: nothing is known of it, or the ledger cannot be read.
    """
    config = configured(settings)
    if not has_ledger(config):
        raise NothingMatchedError(f"nothing is known of {name!r}: there is no ledger in {config.state_dir}")
    return asyncio.run(_explain(config, name, as_json=as_json))


async def _dry_run(config: Config, request: RunRequest, terms: Terms, show: Show) -> int:
    async with open_state(config) as ledger:
        selection = request.rescan
        if selection is None:
            raise AssertionError  # made above, with one
        found = await extent(ledger, selection, now=time.time())
    plan = RescanPlan.of(request, found, budget=terms.budget, rate=config.create_rate)
    with data_on_stdout():
        show_rescan_plan(plan, as_json=show.json)
    return plan.exit_code


async def _explain(config: Config, name: str, *, as_json: bool) -> int:
    async with open_state(config) as ledger:
        found = await explain_all(ledger, name)
    if not found:
        raise NothingMatchedError(
            f"nothing is known of {name!r}; give its path as a report shows it, or 8 digits or more of its"
            " SHA-256, and scan it first"
        )
    with data_on_stdout():
        show_explanations(found, as_json=as_json)
    return 0


def _sample_is_done(summary: Summary) -> bool:
    again = summary.rescan
    return (
        summary.state is RunState.INCOMPLETE
        and summary.error is None
        and again is not None
        and again.held > 0
    )


def _tell_of_sample(summary: Summary) -> None:
    again = summary.rescan
    if again is not None:
        changes = {f"{flip.before} to {flip.after}": flip.count for flip in again.verdicts}
        log.warning("sample judged", judged=again.judged, flipped=again.flipped, verdicts=changes)

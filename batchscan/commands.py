"""What each command does once its settings are known; returns the exit code, never exits."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import structlog

from batchscan import logs
from batchscan.conclusion import Terms
from batchscan.config import Config
from batchscan.connect import Access, Standalone, find_access, run_standalone
from batchscan.errors import CredentialsError, UsageError
from batchscan.expiry import find_expiring, list_expiring, show_expiring
from batchscan.gate_options import GateOptions
from batchscan.ledger.backup import back_up
from batchscan.ledger.runs import RunRecord, RunRequest, Runs
from batchscan.ledger.verify import verify as verify_ledger
from batchscan.models import RunState
from batchscan.outlet import aside
from batchscan.outlet import settle as settle_outlets
from batchscan.plan import compare_quota, make_plan, show_plan
from batchscan.report.console import open_console
from batchscan.report.progress import Progress
from batchscan.report.summary import Summary, encode_summary, render
from batchscan.session import LEDGER_FILE, Session, open_session, open_state
from batchscan.settings import Recorded, Settled, settle
from batchscan.signals import drain_then_abort
from batchscan.spool import Spool, spooled
from batchscan.stats import Stats
from batchscan.status import find_runs, show_runs, show_verification
from batchscan.streams import data_on_stdout
from batchscan.telling import Ended, telling

if TYPE_CHECKING:
    from batchscan.textfile import Textfile

log = structlog.get_logger(__name__)


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """Where the inputs of a scan come from."""

    sources: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    nul: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def piped(self) -> bool:
        """Whether standard input is one of them."""
        return "-" in (*self.sources, *self.manifests)


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run's report and its metrics go, and how it ends."""

    output: Path | None = None
    overwrite: bool = False
    wait: bool = True
    gate: GateOptions = GateOptions()
    budget: int | None = None
    metrics_textfile: Path | None = None

    def metered(self, work: "Callable[[Textfile | None], int]") -> int:
        """Do the work of a run, with a textfile where one is named; returns the exit code."""
        if self.metrics_textfile is None:
            return work(None)
        from batchscan.textfile import with_textfile  # noqa: PLC0415 - loads Prometheus' client

        return with_textfile(self.metrics_textfile.absolute(), work)

    def terms(self, config: Config) -> Terms:
        """Check what was given, and read the gate's files; blocks."""
        return Terms(wait=self.wait, gate=self.gate.gate(config), budget=self.budget)


class Show(msgspec.Struct, frozen=True, kw_only=True):
    """What is printed."""

    json: bool = False
    quiet: bool = False


def scan(settings: dict[str, Any], inputs: Inputs, ends: Ends, show: Show, *, dry_run: bool) -> int:
    """Scan, or with ``dry_run`` say what a scan would do.

    Raises:
        BatchscanError: it could not be done.
    """
    if dry_run:
        return _scan(settings, inputs, ends, show, None, dry_run=True)
    return ends.metered(lambda textfile: _scan(settings, inputs, ends, show, textfile, dry_run=False))


def _scan(
    settings: dict[str, Any],
    inputs: Inputs,
    ends: Ends,
    show: Show,
    textfile: "Textfile | None",
    *,
    dry_run: bool,
) -> int:
    settled = settle_for(settings)
    config = settled.config
    terms = ends.terms(config)
    if not inputs.sources and not inputs.manifests:
        raise UsageError("nothing to scan: name a directory, a skill ZIP, or a --manifest")
    request = RunRequest(
        sources=inputs.sources,
        manifests=inputs.manifests,
        directory=str(Path.cwd()),
        nul=inputs.nul,
        include=inputs.include,
        exclude=inputs.exclude,
        endpoint=config.endpoint,
        endpoint_name=settled.endpoint_name,
        profile=config.profile,
        settings=settled.to_record(),
    )
    if dry_run:  # sends no file, so it needs no key
        with spooled(config.state_dir, wanted=inputs.piped) as spool:
            return asyncio.run(_dry_run(config, request, spool, show))
    output = None if ends.output is None else ends.output.absolute()
    with telling(config, output) as ended:
        access = find_access(config)  # before anything is made
        with spooled(config.state_dir, wanted=inputs.piped) as spool:

            async def work(session: Session) -> Summary:
                return await session.scan(
                    request, terms, spool=spool, output=output, overwrite=ends.overwrite
                )

            return asyncio.run(made(config, access, show, work, textfile, ended))


def resume(settings: dict[str, Any], run_id: str | None, ends: Ends, show: Show) -> int:
    """Go on with a run.

    Raises:
        BatchscanError: there is none such, it is complete, or it could not be done.
    """
    return ends.metered(lambda textfile: _resume(settings, run_id, ends, show, textfile))


def _resume(
    settings: dict[str, Any], run_id: str | None, ends: Ends, show: Show, textfile: "Textfile | None"
) -> int:
    config = configured(settings)
    terms = ends.terms(config)
    record = asyncio.run(_resumable(config, run_id))
    config = settle_for(settings, record).config

    async def work(session: Session) -> Summary:
        return await session.resume(record, terms)

    with telling(config, record.report) as ended:
        access = find_access(config)
        _enter_directory(record)
        return asyncio.run(made(config, access, show, work, textfile, ended))


def expiring(settings: dict[str, Any], days: float, *, as_json: bool) -> int:
    """List the files whose verdicts have expired or will within days.

    Raises:
        BatchscanError: the ledger cannot be read.
    """
    config = configured(settings)
    if has_ledger(config):
        asyncio.run(_expiring(config, days, as_json=as_json))
    return 0


def status(settings: dict[str, Any], run_id: str | None, *, limit: int, as_json: bool) -> int:
    """Show runs.

    Raises:
        BatchscanError: there is none such, or the ledger cannot be read.
    """
    return asyncio.run(_status(configured(settings), run_id, limit, as_json=as_json))


def verify(settings: dict[str, Any], *, as_json: bool) -> int:
    """Check the ledger without opening it for work; 2 when it is not sound.

    Raises:
        BatchscanError: it cannot be read.
    """
    config = configured(settings)
    if not has_ledger(config):
        raise UsageError(f"no ledger in {config.state_dir}; name its --state-dir")
    found = verify_ledger(config.state_dir / LEDGER_FILE)
    with data_on_stdout():
        show_verification(found, as_json=as_json)
    return UsageError.exit_code if found.faults else 0


def backup(settings: dict[str, Any], copy: Path, *, as_json: bool) -> int:
    """Copy the ledger as it is now, and check the copy.

    Raises:
        BatchscanError: it is not copied, and why.
    """
    config = configured(settings)
    if not has_ledger(config):
        raise UsageError(f"no ledger in {config.state_dir}; name its --state-dir")
    found = back_up(config.state_dir / LEDGER_FILE, copy)
    with data_on_stdout():
        show_verification(found, as_json=as_json)
    return 0


def engine(settings: dict[str, Any], standalone: Standalone) -> int:
    """Run the embedded endpoint until a signal ends it.

    Raises:
        BatchscanError: it could not be started.
    """
    return asyncio.run(_engine(configured(settings), standalone))


def configured(settings: dict[str, Any]) -> Config:
    """Settle the settings of a command that makes no run."""
    return settle_for(settings).config


def settle_for(settings: dict[str, Any], resumed: RunRecord | None = None) -> Settled:
    """Settle the settings, those of a run that is resumed before environment and file; and log from now."""
    recorded = None
    if resumed is not None:
        request = resumed.request
        recorded = Recorded(
            resumed.run_id, request.endpoint, request.endpoint_name, request.profile, request.settings
        )
    settled = settle(settings, recorded)
    logs.configure(settled.config.log_level, json=not sys.stderr.isatty())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on there may be a copy to remove
    return settled


def write_aside() -> TextIO:
    """Log aside from now on, so that nobody waits for whoever reads stderr; give the stream to write to."""
    stderr = aside(sys.stderr)
    logs.send_to(stderr)
    return stderr


def _enter_directory(record: RunRecord) -> None:
    """Go where the run was started: its sources are named from there."""
    request = record.request
    try:
        os.chdir(request.directory)
    except OSError as error:
        if not all(Path(path).is_absolute() for path in (*request.sources, *request.manifests)):
            raise UsageError(
                f"run {record.run_id} names its sources from {request.directory}, which cannot be entered"
                f" ({error.strerror}); put it back, or scan them anew"
            ) from error


async def made(
    config: Config,
    access: Access | None,
    show: Show,
    work: Callable[[Session], Awaitable[Summary]],
    textfile: "Textfile | None" = None,
    ended: Ended = lambda _: None,
) -> int:
    """Make a run in a session of its own, under the signals' rule, and show its summary."""
    stats = Stats(rate=config.create_rate)
    stderr = write_aside()
    session: Session | None = None
    this = asyncio.current_task()

    def drain() -> None:
        log.warning("stopping: what is under way ends first; a second signal stops at once")
        if session is not None:
            session.drain()
        elif this is not None:
            this.cancel()

    def abort() -> None:
        log.warning("stopped at once; go on with `batchscan resume`")
        if this is not None:
            this.cancel()

    with drain_then_abort(drain, abort) as received:
        try:
            async with (
                nullcontext() if textfile is None else textfile.kept(config, stats),
                open_session(config, access, stats) as session,
                Progress(stats, stream=stderr, quiet=show.quiet),
            ):
                summary = await work(session)
                if textfile is not None:
                    await _account(textfile, session, summary, embedded=access is None)
        except asyncio.CancelledError:
            if received.signal is None:
                raise
            return 128 + received.signal
    if received.signal is not None and summary.state is RunState.INTERRUPTED and summary.exit_code != 4:  # noqa: PLR2004 - the service's refusal is the worse news
        summary = msgspec.structs.replace(summary, exit_code=128 + received.signal)
    _print(summary, show)
    ended(summary)
    return summary.exit_code


async def _account(textfile: "Textfile", session: Session, summary: Summary, *, embedded: bool) -> None:
    """Tell the metrics how the run ended, and what is left of a quota that it took from."""
    if summary.state is RunState.COMPLETE and summary.error is None:
        textfile.complete()
    if summary.billed_files and not embedded:
        await session.note_quota()


def _print(summary: Summary, show: Show) -> None:
    settle_outlets()  # what is cleared away from a terminal comes before what is printed there
    with data_on_stdout():
        if show.json:
            sys.stdout.buffer.write(encode_summary(summary))
        elif not show.quiet:
            render(summary, open_console(sys.stdout))


async def _resumable(config: Config, run_id: str | None) -> RunRecord:
    record = None
    if has_ledger(config):
        async with open_state(config) as ledger:
            runs = Runs(ledger)
            record = await (runs.latest_resumable() if run_id is None else runs.get(run_id))
    if record is None and run_id is None:
        raise UsageError(f"no run to resume in {config.state_dir}: none is unfinished")
    if record is None:
        raise UsageError(_no_such_run(config, str(run_id)))
    if record.state is RunState.COMPLETE:
        raise UsageError(f"run {record.run_id} is complete; its report is {record.report}")
    return record


async def _status(config: Config, run_id: str | None, limit: int, *, as_json: bool) -> int:
    if not has_ledger(config):
        if run_id is not None:
            raise UsageError(_no_such_run(config, run_id))
        with data_on_stdout():
            print(f"no runs yet in {config.state_dir}", file=sys.stderr if as_json else sys.stdout)
        return 0
    async with open_state(config) as ledger:
        found = await find_runs(ledger, run_id, limit=limit)
        soon = [] if as_json or run_id is not None else await find_expiring(ledger)
    if run_id is not None and not found:
        raise UsageError(_no_such_run(config, run_id))
    with data_on_stdout():
        show_runs(found, as_json=as_json)
        show_expiring(soon)
    return 0


async def _expiring(config: Config, days: float, *, as_json: bool) -> None:
    async with open_state(config) as ledger:
        with data_on_stdout():
            await list_expiring(ledger, days, as_json=as_json)


def has_ledger(config: Config) -> bool:
    """Whether there is a ledger; to look at runs, none is made."""
    return (config.state_dir / LEDGER_FILE).exists()


def _no_such_run(config: Config, run_id: str) -> str:
    return f"no run {run_id!r} in {config.state_dir}; `batchscan status` lists the runs"


async def _dry_run(config: Config, request: RunRequest, spool: Spool | None, show: Show) -> int:
    try:
        access, unasked = find_access(config), None
    except CredentialsError:
        access, unasked = None, "not asked for, there are no usable credentials: see `batchscan doctor`"
    async with open_state(config) as ledger:
        plan = await make_plan(config, ledger, request, None if spool is None else spool.file)
        plan.quota_unasked = unasked
        if access is not None:
            await compare_quota(plan, config, ledger, access)
    with data_on_stdout():
        show_plan(plan, as_json=show.json)
    return plan.exit_code


async def _engine(config: Config, standalone: Standalone) -> int:
    write_aside()
    stop = asyncio.Event()
    with drain_then_abort(stop.set, stop.set) as received:
        await run_standalone(config, standalone, stop)
    return 0 if received.signal is None else 128 + received.signal

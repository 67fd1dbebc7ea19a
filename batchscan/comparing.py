"""What `compare` does: finds the two reports, compares them, writes what is asked for, and is a gate."""

import asyncio
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from batchscan.changes import Comparison
from batchscan.commands import configured, has_ledger
from batchscan.compare import Compared, Side, compare, side_of
from batchscan.comparison_output import write_json, write_markdown
from batchscan.comparison_table import render
from batchscan.config import Config
from batchscan.errors import UsageError
from batchscan.ledger.runs import Runs
from batchscan.models import RiskLevel
from batchscan.previous import previous_run
from batchscan.report.console import open_console
from batchscan.report.replaced import refuse_overwriting, replaced
from batchscan.reporting import Located, locate
from batchscan.session import open_state
from batchscan.streams import data_on_stdout

FORMATS = ("table", "json", "markdown")
_FAILS_ON = {
    "new-malicious": (RiskLevel.MALICIOUS,),
    "new-suspicious": (RiskLevel.MALICIOUS, RiskLevel.SUSPICIOUS),
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How a comparison is shown and judged, as given.

    Attributes:
        limit: how many items a table or comment shows; None is as many as fits the format.
    """

    format: str = "table"
    output: Path | None = None
    limit: int | None = None
    fail_on: str | None = None
    fail_on_incomplete: bool = False

    def check(self) -> None:
        """Check what was given as text.

        Raises:
            UsageError: it is not known.
        """
        if self.format not in FORMATS:
            raise UsageError(f"--format: {self.format!r} is none of {', '.join(FORMATS)}")
        if self.fail_on not in (None, *_FAILS_ON):
            raise UsageError(f"--fail-on: {self.fail_on!r} is neither {' nor '.join(_FAILS_ON)}")

    def exit_code(self, comparison: Comparison) -> int:
        """Tell what the command ends with: 3 for what cannot be told, before 1 for what was found."""
        undecided = comparison.undecided > 0 or not comparison.after.whole
        if self.fail_on_incomplete and comparison.incomplete:
            return 3
        if self.fail_on is None:
            return 0
        if undecided:
            return 3
        return int(any(comparison.fresh[level] for level in _FAILS_ON[self.fail_on]))


def compare_reports(settings: dict[str, Any], one: str | None, other: str | None, wanted: Wanted) -> int:
    """Compare two reports: ``one`` is before ``other``; with less than two, a run with the one before it.

    Raises:
        BatchscanError: they cannot be found or read.
    """
    wanted.check()
    before, after = asyncio.run(_find(configured(settings), one, other))
    if wanted.output is not None:
        for located in (before, after):
            refuse_overwriting(wanted.output, located.file)
    with compare(_side(before, one if other else None), _side(after, other or one)) as compared:
        code = wanted.exit_code(compared.comparison)
        with _opened(wanted.output) as out:
            _write(out, compared, wanted, code)
    return code


async def _find(config: Config, one: str | None, other: str | None) -> tuple[Located, Located]:
    if one is not None and other is not None:
        return await locate(config, one), await locate(config, other)
    after = await locate(config, one)
    if after.record is None or not has_ledger(config):
        raise UsageError(
            f"{one}: its run is not in {config.state_dir}; name the report to compare it with, too"
        )
    async with open_state(config) as ledger:
        record = await previous_run(Runs(ledger), after.record)
    if record is None:
        raise UsageError(
            f"no complete run before {after.record.run_id} over the same inputs still has its report;"
            " name the report to compare it with"
        )
    return Located(record.report, record), after


def _side(located: Located, name: str | None) -> Side:
    run = None if located.record is None else located.record.run_id
    return side_of(name or run or str(located.file), located.file, located.record)


def _write(out: BinaryIO, compared: Compared, wanted: Wanted, code: int) -> None:
    if wanted.format == "json":
        write_json(out, compared, code)
    elif wanted.format == "markdown":
        write_markdown(out, compared, wanted.limit if wanted.limit is not None else 20)
    else:
        limit = wanted.limit if wanted.limit is not None else 50
        if wanted.output is None:
            render(compared, open_console(sys.stdout), limit)
            return
        text = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
        render(compared, open_console(text), limit)
        text.detach()


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        with data_on_stdout():
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
    else:
        with replaced(output) as file:
            yield file

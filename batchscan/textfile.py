"""The textfile of a run: its metrics for node_exporter, as it begins, while it runs and however it ends.

The file is replaced in one step, so a scrape never sees half of it. What it said of earlier runs is read
first and kept: a run that fails must not make it look as if there never had been one that did not.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from batchscan import series
from batchscan.config import Config
from batchscan.connect import scope_name
from batchscan.errors import BatchscanError, UsageError
from batchscan.metrics import RUN_VALUES, LastRun, Metrics
from batchscan.models import Outcome, RiskLevel
from batchscan.session import LEDGER_FILE
from batchscan.stats import Stats

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 15.0
SUFFIX: Final = ".prom"
_INTERNAL_ERROR = 70
_INTERRUPTED = 130
_LARGEST = 4 * 1024 * 1024


class Textfile:
    """Metrics of one run in a file; the name without its suffix is their label ``schedule``.

    Args:
        path: absolute; must end in ``.prom``, as node_exporter reads no other.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._metrics = Metrics(stamp=path.stem, clock=clock)
        self._run = self._metrics.last_run(path.stem)
        self._stats = Stats()
        self._complete = False
        self._failing = False
        if path.suffix != SUFFIX:
            raise UsageError(f"--metrics-textfile {path}: the name must end in {SUFFIX}")
        self._forgotten = recall(self._run, path)
        self._run.began(clock())
        try:
            self._replace()
        except OSError as error:
            raise UsageError(
                f"--metrics-textfile {path}: cannot be written ({error.strerror}); name a file in a directory"
                " that is there and may be written"
            ) from error

    @asynccontextmanager
    async def kept(self, config: Config, stats: Stats) -> AsyncIterator[None]:
        """Write the file anew now and then while the block runs, and look at the ledger when it ends."""
        if self._forgotten is not None:
            log.warning("metrics of earlier runs are lost", file=str(self._path), reason=self._forgotten)
        scope = scope_name(config)
        self._stats = stats
        stats.meter = self._metrics.meter(scope, daily_budget=config.daily_budget)
        look = partial(self._metrics.look, config.state_dir / LEDGER_FILE, scope=scope)

        async def keep() -> None:
            while True:
                await asyncio.sleep(INTERVAL_S)
                await look()
                self._write()

        keeper = asyncio.create_task(keep())
        try:
            yield
            await look(at_once=True)
        finally:
            keeper.cancel()
            await asyncio.wait({keeper})

    def complete(self) -> None:
        """Note that every input has a final row."""
        self._complete = True

    def end(self, exit_code: int) -> None:
        """Write the file for the last time."""
        self._run.ended(self._clock(), exit_code, self._stats, complete=self._complete)
        self._write()

    def _write(self) -> None:
        """Replace the file; that it does not work is said once, and ends no run."""
        try:
            self._replace()
        except OSError as error:
            if not self._failing:
                log.warning("metrics are not written", file=str(self._path), reason=error.strerror)
            self._failing = True
        else:
            self._failing = False

    def _replace(self) -> None:
        """Blocks, for the time that a small file takes: so that no older draft can come after a newer one."""
        text = generate_latest(self._metrics.registry)
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_bytes(text)
            draft.replace(self._path)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise


def with_textfile(path: Path, work: Callable[[Textfile], int]) -> int:
    """Do a command's work with a textfile, which is written however that ends.

    Args:
        path: absolute.
        work: gets the textfile, returns the exit code.

    Raises:
        BatchscanError: what the work raised, or that the file cannot be written at all.
    """
    textfile = Textfile(path)
    code = _INTERNAL_ERROR
    try:
        code = work(textfile)
    except BatchscanError as error:
        code = error.exit_code
        raise
    except KeyboardInterrupt:
        code = _INTERRUPTED
        raise
    finally:
        textfile.end(code)
    return code


def recall(run: LastRun, path: Path) -> str | None:
    """Take from an older textfile what it says of the runs before.

    Returns:
        Why that is not known, where there is a file; None when all is well.
    """
    try:
        with path.open(encoding="utf-8") as file:
            families = list(text_string_to_metric_families(file.read(_LARGEST)))
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    except ValueError:
        return "it is no textfile of batchscan"
    for sample in (sample for family in families for sample in family.samples):
        if not isfinite(sample.value):
            continue
        if sample.name in _VALUES:
            setattr(run, _VALUES[sample.name], sample.value)
        elif sample.name == series.RUN_FILES.name and sample.labels.get("outcome") in tuple(Outcome):
            run.outcomes[Outcome(sample.labels["outcome"])] = int(sample.value)
        elif sample.name == series.RUN_VERDICTS.name and sample.labels.get("verdict") in tuple(RiskLevel):
            run.verdicts[RiskLevel(sample.labels["verdict"])] = int(sample.value)
    return None


_VALUES = {what.name: attribute for what, attribute in RUN_VALUES.items()}

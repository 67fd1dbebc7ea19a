"""What `batchscan doctor` looks at on this machine: program, settings, state directory, caps."""

import asyncio
import os
import platform
import shutil
from pathlib import Path
from typing import Final

from batchscan import __version__
from batchscan.api.endpoints import proxy_url
from batchscan.config import PRESETS, Config
from batchscan.connect import EMBEDDED
from batchscan.diagnosis import LOCAL, Check, failed, passed, warned
from batchscan.errors import LedgerError
from batchscan.ledger.backlog import Backlog, Work
from batchscan.models import Stage
from batchscan.session import LEDGER_FILE, open_state, prepare_state_dir
from batchscan.settings import Settled

_DISK_SHORT: Final = 100 * 1024 * 1024
_STATE = "state directory"


def check_version() -> Check:
    """Name what runs."""
    python, system = platform.python_version(), f"{platform.system()} {platform.release()}"
    return passed("version", f"batchscan {__version__}, Python {python}, {system}")


def check_settings(settled: Settled) -> Check:
    """Look at the settings file, whose values are right already; blocks."""
    path, proxy = settled.file, settled.config.proxy
    if path is None:
        return passed("settings", "no problem; there is no settings file")
    in_file = settled.origins.get("proxy", "").startswith("file ")
    if proxy is not None and in_file and proxy_url(proxy).password and path.stat().st_mode & 0o077:
        return warned("settings", f"{path}: others can read the proxy's password", f"chmod 600 {path}")
    return passed("settings", f"no problem; settings file {path}")


async def check_state(config: Config) -> tuple[Check, Work, Work]:
    """Look at state directory and ledger; makes neither.

    Returns:
        The check, and what in the ledger is under way at the service and pending.
    """
    path, under_way, pending = config.state_dir, Work(), Work()
    try:
        if await asyncio.to_thread(os.path.lexists, path / LEDGER_FILE):
            async with open_state(config) as ledger:
                backlog = Backlog(ledger)
                under_way, pending = await backlog.work(Stage.POLL), await backlog.work(Stage.SUBMIT)
        check = await asyncio.to_thread(_state_dir, path)
    except LedgerError as error:
        check = failed(_STATE, str(error), "Put it right, or choose another --state-dir.", LOCAL)
    return check, under_way, pending


def check_caps(config: Config) -> Check:
    """Compare the caps with what the endpoint's site allows."""
    rates = {"submissions": config.create_rate, "polls": config.poll_rate}
    told = " and ".join(
        f"no cap on {what}" if rate is None else f"{rate:g} {what} a second" for what, rate in rates.items()
    )
    site = PRESETS.get(config.endpoint)
    if config.endpoint == EMBEDDED or site is None:
        return passed("caps", told)
    for rate, cap in zip(rates.values(), (site.create_rate, site.result_rate), strict=True):
        if cap is not None and (rate is None or rate > cap):
            fix = f"Stay at {cap:g} a second, unless the vendor has raised the account's limit."
            return warned("caps", f"{told}; {config.endpoint} allows less", fix)
    return passed("caps", f"{told}; other tools of the account share what {config.endpoint} allows")


def _state_dir(path: Path) -> Check:
    there = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if there != path:
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            fix = "Make it, or choose another --state-dir."
            return failed(_STATE, f"{path}: is not there and cannot be made in {there}", fix, LOCAL)
        return passed(_STATE, f"{path} is made by the first scan")
    prepare_state_dir(path)
    free = shutil.disk_usage(path).free
    if free < _DISK_SHORT:
        return warned(_STATE, f"{path}: only {free:,} bytes are free", "Make room on its disk.")
    if path.stat().st_mode & 0o077:
        return warned(_STATE, f"{path}: others can look into it", f"chmod 700 {path}")
    return passed(_STATE, f"{path} can be written, {free / 1024**3:,.1f} GiB are free")

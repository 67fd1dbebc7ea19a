"""What the commands do that look and change nothing: `config`, `quota`, `doctor`."""

import asyncio
import sys
from typing import Any

from batchscan import logs
from batchscan.connect import QUESTION, connect, find_access
from batchscan.diagnosis import show_examination
from batchscan.doctor import examine
from batchscan.ledger.backlog import Backlog, Work
from batchscan.models import Stage
from batchscan.quota import Quota, ask_quota, show_quota, to_quota
from batchscan.session import LEDGER_FILE, open_state, prepare_state_dir
from batchscan.settings import Settled, settle
from batchscan.settings_table import show_check, show_settings
from batchscan.stats import Stats
from batchscan.streams import data_on_stdout


def config_show(settings: dict[str, Any], *, as_json: bool) -> int:
    """Print all settings in force.

    Raises:
        SettingsError: some are wrong.
    """
    settled = settle(settings)
    with data_on_stdout():
        show_settings(settled, as_json=as_json)
    return 0


def config_check(settings: dict[str, Any]) -> int:
    """Say that all settings are right.

    Raises:
        SettingsError: some are not; it names them all.
    """
    settled = settle(settings)
    with data_on_stdout():
        show_check(settled)
    return 0


def quota(settings: dict[str, Any], *, as_json: bool) -> int:
    """Ask for the account's quota and print it.

    Raises:
        BatchscanError: the service refused or cannot be reached, or something here is wrong.
    """
    settled = settle(settings)
    logs.configure(settled.config.log_level, json=not sys.stderr.isatty())
    found = asyncio.run(_quota(settled))
    with data_on_stdout():
        show_quota(found, as_json=as_json)
    return 0


def doctor(settings: dict[str, Any], *, as_json: bool) -> int:
    """Look for what could keep a scan from working; prints each check and returns the exit code."""
    logs.configure("warning", json=not sys.stderr.isatty())
    examination = asyncio.run(examine(settings))
    with data_on_stdout():
        show_examination(examination, as_json=as_json)
    return examination.exit_code


async def _quota(settled: Settled) -> Quota:
    config = settled.config
    access = find_access(config)
    under_way, pending = Work(), Work()
    if (config.state_dir / LEDGER_FILE).exists():
        async with open_state(config) as ledger:
            backlog = Backlog(ledger)
            under_way, pending = await backlog.work(Stage.POLL), await backlog.work(Stage.SUBMIT)
    if access is None:
        await asyncio.to_thread(prepare_state_dir, config.state_dir)
    async with connect(config, access, Stats(), QUESTION) as (client, target):
        return to_quota(await ask_quota(client), target.name, under_way=under_way, pending=pending)

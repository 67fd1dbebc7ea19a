"""`schedule list`: from the settings file alone, and with what the ledger knows."""

import asyncio
import itertools
import json
import time
from datetime import UTC, datetime, timedelta

from cli_lab import Lab

from batchscan.ledger.aftermaths import Plan, Step, owe, settle
from batchscan.ledger.queue import Enqueued, Work, enqueue
from batchscan.ledger.runs import RunRequest
from batchscan.ledger.schedules import Standing, keep
from batchscan.ledger.store import open_ledger

SETTINGS = """
endpoint = "night"
profile = "audit"
[endpoints.night]
url = "intl"
[schedule.nightly]
cron = "30 2 * * *"
timezone = "Asia/Kolkata"
sources = ["/srv/skills"]
budget = 5000
reports = ["html"]
reports_dir = "/srv/reports"
watch = true
[schedule.again]
cron = "0 4 * * SUN"
rescan = "engine-older"
endpoint = "china"
enabled = false
"""


async def test_each_schedule_is_told_in_words_with_its_next_three_times(lab: Lab) -> None:
    (lab.path / "batchscan.toml").write_text(SETTINGS)
    args = ("schedule", "list", "--config", "batchscan.toml")
    shown, told, none = await asyncio.gather(
        lab.run(*args), lab.run(*args, "--json"), lab.run("schedule", "list")
    )
    assert (shown.code, told.code, none.code) == (0, 0, 0)
    assert none.out.startswith("no schedules: no settings file")
    assert not lab.state.exists(), "to look, none is made"
    document = json.loads(told.out)
    assert (document["schema"], document["file"]) == (
        "batchscan.schedules/1",
        f"{lab.path}/batchscan.toml",
    )
    nightly, again = document["schedules"]
    assert nightly["words"] == "At 02:30 every day, Asia/Kolkata"
    assert nightly["scans"] == ["/srv/skills"]
    assert (nightly["endpoint"], nightly["profile"], nightly["budget"]) == ("night", "audit", 5000)
    assert (again["endpoint"], again["next"], again["scans"]) == ("china", [], ["again: engine-older"])
    times = [datetime.fromisoformat(moment["utc"]) for moment in nightly["next"]]
    assert len(times) == 3
    assert timedelta() < times[0] - datetime.now(UTC) <= timedelta(days=1)
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {timedelta(days=1)}
    for moment, instant in zip(nightly["next"], times, strict=True):
        assert datetime.fromisoformat(moment["local"]) == instant
        assert moment["local"].endswith("T02:30:00+05:30")
        assert f"{moment['local']}  {moment['utc']}" in shown.out
    for line in (
        "nightly: At 02:30 every day, Asia/Kolkata\n",
        "  scans    /srv/skills (watched)\n",
        "  at       night, profile audit, at most 5,000 files billed, priority 0\n",
        "  then     html\n",
        "again: At 04:00 on Sunday, UTC (switched off)\n",
    ):
        assert line in shown.out


async def test_the_last_run_and_what_was_missed_skipped_and_failed_are_told(lab: Lab) -> None:
    (lab.path / "batchscan.toml").write_text(SETTINGS)
    lab.state.mkdir(parents=True)
    now = time.time()
    due = datetime(2025, 11, 20, 21, tzinfo=UTC).timestamp()
    standing = Standing(
        rule="30 2 * * * Asia/Kolkata",
        decided_until=due,
        next_at=due + 86_400,
        last_due=due,
        last_run="run-1",
        missed=3,
        skipped=2,
        skipped_due=due - 86_400,
    )
    work = Work(request=RunRequest(sources=("/srv/skills",), directory="/", endpoint="intl"))
    async with open_ledger(lab.state / "ledger.sqlite3", "audit@x") as ledger:
        await ledger.write(lambda c: keep(c, "nightly", standing))
        await ledger.write(lambda c: enqueue(c, Enqueued("run-1", work, 0, "schedule nightly"), now=now))
        await ledger.write(lambda c: owe(c, "run-1", "nightly", Plan()))
        steps = (Step("report html", file="/srv/x"), Step("decisions", problem="the disk\x1b[2J is full"))
        await ledger.write(lambda c: settle(c, "run-1", steps, now=now))
    done = await lab.run("schedule", "list", "--config", "batchscan.toml")
    assert done.code == 0
    for line in (
        "  overdue  2025-11-22T02:30:00+05:30  2025-11-21T21:00:00Z; is run when the service is up\n",
        "  last     2025-11-20T21:00:00Z, run run-1: queued\n",
        "           failed: decisions: the disk\\x1b[2J is full\n",
        "  missed   3 due times, while no service was up\n",
        "  skipped  2 due times, while the run before was not over, the last 2025-11-19T21:00:00Z\n",
    ):
        assert line in done.out, done.out


async def test_what_is_wrong_with_all_schedules_is_told_at_once(lab: Lab) -> None:
    (lab.path / "batchscan.toml").write_text('[schedule.a]\ncron = "x"\nsources = ["x"]\n[schedule.b]\n')
    for args in (("schedule", "list"), ("config", "check")):
        done = await lab.run(*args, "--config", "batchscan.toml")
        assert (done.code, done.out) == (2, "")
        for text in ("3 settings are wrong", "schedule.a.cron: 'x' has 1 fields", "schedule.b.cron: missing"):
            assert text in done.err
